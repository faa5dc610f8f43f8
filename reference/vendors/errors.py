"""Errors in each vendor's own shape."""

from __future__ import annotations

from typing import Any


class VendorError(Exception):
    """An answer other than success: status and body as that vendor gives them."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers or {}

"""`healthcheck`."""

from __future__ import annotations

import argparse
import sys

import httpx


def configure(parser: argparse.ArgumentParser) -> None:
    """Take where, and how patiently."""
    parser.add_argument("--url", default="http://127.0.0.1:8080/health/ready")
    parser.add_argument("--timeout", type=float, default=3.0)


def run(arguments: argparse.Namespace) -> int:
    """Ask once."""
    try:
        response = httpx.get(arguments.url, timeout=arguments.timeout, trust_env=False)
    except httpx.HTTPError as error:
        print(f"{arguments.url}: {type(error).__name__}", file=sys.stderr)
        return 1
    print(response.text)
    return 0 if response.status_code == httpx.codes.OK else 1

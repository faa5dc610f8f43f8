"""The vendors' double of the running local stack, from outside: faults, and what it got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from infra import local, paths
from infra.secrets.catalogue import Channel
from infra.secretstore import open_store
from infra.smoke.client import Names, web
from infra.supabase import Management
from infra.world import vendors
from reference.vendors.slack import channel_id
from tests.running import STACK

_CONTROL = f"http://{local.VENDORS.address}:{local.VENDORS_CONTROL_PORT}/faults"


def client() -> httpx.Client:
    """A client that resolves and trusts as the stack does."""
    trust = (paths.mounted_files(STACK, "world") / "ca.pem").read_text()
    return web(Names(local.ZONE, None, [str(local.RESOLVER.address)]), trust)


def secret(name: str) -> str:
    """Value of a secret of the stack."""
    return open_store({}, STACK).get(name)


@contextmanager
def fault(vendor: str, **how: Any) -> Iterator[None]:
    """Something is wrong with a vendor while the block runs (`reference/vendors/faults.py`)."""
    httpx.put(f"{_CONTROL}/{vendor}", json=how).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(f"{_CONTROL}/{vendor}").raise_for_status()


def messages(channel: Channel) -> list[dict[str, Any]]:
    """The newest messages of a Slack channel, oldest first."""
    with client() as opened:
        answer = opened.get(
            f"{vendors.url('slack')}/api/conversations.history",
            params={"channel": channel_id(channel), "limit": 100},
            headers={"Authorization": f"Bearer {secret('slack-token')}"},
        ).json()
    assert answer["ok"], answer
    return list(reversed(answer["messages"]))


def function_secrets() -> dict[str, str]:
    """Digests of the functions' secrets, by name."""
    with client() as opened:
        management = Management(vendors.url("supabase"), secret("supabase-management-token"), opened)
        return management.digests(vendors.SUPABASE_PROJECT)

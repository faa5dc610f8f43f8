"""The secrets of Supabase's functions, for procedures that set some of them (CFG-2, SEC-1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.outputs.model import StackOutputs
from infra.site.secrets import open_resolver
from infra.smoke.client import Names, web
from infra.supabase import Management


@contextmanager
def management(outputs: StackOutputs, stack: str) -> Iterator[Management]:
    """Supabase's management API, with the environment's token.

    Raises:
        SecretsError: the token can't be read.
    """
    settings = outputs.settings
    token, dns = settings.supabase.management_token, settings.dns
    resolve = open_resolver(outputs.secretstore, stack, outputs.record, [token])
    server = (str(dns.server), dns.port) if dns.driver == "rfc2136" else None
    names = Names(dns.zone, server, [str(each) for each in settings.resolvers])
    with web(names, "\n".join(settings.trust)) as client:
        yield Management(settings.supabase.management_url, resolve(token), client)

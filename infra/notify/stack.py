"""Queue and deliverer of a stack, by its file: no outputs are needed, so a deliverer needs no Pulumi."""

from __future__ import annotations

from functools import partial

from infra.config.load import ConfigurationError, load_file
from infra.config.model import Rfc2136Dns, Stack
from infra.config.trust import MissingFileError, certificates
from infra.notify.delivery import Client, Deliverer, Webhook
from infra.notify.outbox import Outbox
from infra.record import Store, open_store
from infra.secrets import references
from infra.secrets.catalogue import Channel
from infra.secretstore import SecretConfig, SopsStore
from infra.secretstore import open_store as open_secrets
from infra.smoke.client import Names, web


class NotifyError(Exception):
    """A stack's messages can't be reached; the message says why."""


class Post:
    """What is needed to queue and to deliver the messages of one stack.

    Raises:
        NotifyError: the stack's file is refused, or preparation has not made a file of it yet.
    """

    def __init__(self, name: str) -> None:
        try:
            self._stack: Stack = load_file(name)
            self._trust = "\n".join(certificates(name, self._stack, preview=False))
        except (ConfigurationError, MissingFileError) as error:
            raise NotifyError(str(error)) from error
        self.store: Store = open_store(self._stack.record)
        self.outbox = Outbox(self.store)
        self.secrets: SopsStore = open_secrets(SecretConfig.of(self._stack), name, record=self.store)

    def deliverer(self) -> Deliverer:
        """Sends by the stack's webhooks, through its own resolvers and trust."""
        webhook: Webhook = self._webhook
        client: Client = partial(web, self._names(), self._trust)
        return Deliverer(self.outbox, webhook, client)

    def _webhook(self, channel: Channel) -> str:
        return self.secrets.get(references.parse(self._stack.notifications.webhook(channel)))

    def _names(self) -> Names:
        dns = self._stack.dns
        server = (str(dns.server), dns.port) if isinstance(dns, Rfc2136Dns) else None
        return Names(dns.zone, server, [str(resolver) for resolver in self._stack.resolvers])

"""Names are remembered as long as they may be, connections as long as they are good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.message
import dns.rcode
import dns.rrset
import pytest
from pydantic import ValidationError

from tests.instruments.load.double import LOOPBACK, NAME, Double
from tests.load.wire import Client, Exchange, ForeignAddressError, LostError, Request, Resolver, Target

WHOAMI = Request("GET", "/api/whoami", {}, b"", 2.0)


async def ask(client: Client, *, fresh: bool = False) -> Exchange:
    seen = Exchange()
    await client.send(WHOAMI, seen, fresh=fresh)
    return seen


async def test_a_kept_connection_that_is_gone_is_not_used(double: Double) -> None:
    async with double.listening():
        client = Client(double.target(), kept=2)
        first = [(await ask(client)).opened for _ in range(4)]
    await asyncio.sleep(0.05)
    async with double.listening():
        again = [(await ask(client)).opened for _ in range(4)]
    client.close()
    assert first == again == [True, True, False, False]
    assert double.connections == 4


async def test_kept_connections_take_turns_and_grow_with_what_is_in_flight(double: Double) -> None:
    double.delay = 0.1
    async with double.listening():
        client = Client(double.target(), kept=2)
        for _ in range(6):
            await ask(client)
        together = await asyncio.gather(*(ask(client) for _ in range(4)))
        client.close()
    assert [number for number, _ in double.requests[:6]] == [1, 2, 1, 2, 1, 2]
    assert sum(seen.opened for seen in together) == 2


class Zone(asyncio.DatagramProtocol):
    """A name server of one name."""

    def __init__(self) -> None:
        self.address = LOOPBACK
        self.ttl = 60
        self.asked = 0
        self.known = True
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        if self.known:
            answer.answer.append(dns.rrset.from_text(f"{NAME}.", self.ttl, "IN", "A", self.address))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)

    def target(self, *allowed: str) -> Target:
        return Target(
            name=NAME,
            resolvers=(LOOPBACK,),
            resolver_port=self.port,
            allowed=frozenset(allowed or {LOOPBACK}),
            trust="-",
        )


@asynccontextmanager
async def zone() -> AsyncIterator[Zone]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Zone, local_addr=(LOOPBACK, 0)
    )
    yield protocol
    transport.close()


async def test_a_name_is_asked_again_when_its_time_has_passed() -> None:
    async with zone() as served:
        resolver = Resolver(served.target(LOOPBACK, "127.0.0.2"))
        assert await asyncio.gather(*(resolver.address() for _ in range(5))) == [LOOPBACK] * 5
        assert served.asked == 1
        served.address = "127.0.0.2"
        assert await resolver.address() == LOOPBACK
        resolver._until = 0.0
        assert await resolver.address() == "127.0.0.2"
        assert served.asked == 2


async def test_each_client_remembers_for_itself() -> None:
    async with zone() as served:
        for resolver in (Resolver(served.target()), Resolver(served.target())):
            await resolver.address()
            assert resolver._until > asyncio.get_running_loop().time() + 50
        assert served.asked == 2


async def test_a_name_that_is_not_known_loses_the_request() -> None:
    async with zone() as served:
        served.known = False
        with pytest.raises(LostError, match="name: NXDOMAIN"):
            await Resolver(served.target()).address()


async def test_an_address_that_is_not_ours_is_refused() -> None:
    async with zone() as served:
        served.address = "192.0.2.1"
        with pytest.raises(ForeignAddressError, match=r"192\.0\.2\.1"):
            await Resolver(served.target()).address()


def test_a_target_must_say_what_is_allowed() -> None:
    with pytest.raises(ValidationError, match="allowed"):
        Target(name=NAME, address=LOOPBACK, allowed=frozenset(), trust="-")

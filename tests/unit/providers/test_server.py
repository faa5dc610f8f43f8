"""The engine's protocol, spoken to a provider in this process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN

from infra.providers.server import (
    Current,
    Diff,
    Failure,
    Kind,
    Properties,
    Provider,
    ProviderError,
    Resource,
    _Servicer,
    is_unknown,
    to_properties,
    to_struct,
)

URN = "urn:pulumi:s::p::a:b:C::name"


class Fake(Provider):
    """Answers what a test tells it to."""

    def check(
        self, resource: Resource, olds: Properties, news: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        return news, [Failure("a", "wrong")] if news.get("a") == "bad" else []

    def diff(self, resource: Resource, old_inputs: Properties, state: Properties, news: Properties) -> Diff:
        changed = {key: Kind.UPDATE_REPLACE for key in news if news[key] != old_inputs.get(key)}
        return Diff(changed, delete_before_replace=bool(changed))

    def preview(self, resource: Resource, state: Properties, news: Properties) -> Properties:
        return {**news, "made": UNKNOWN}

    def create(self, resource: Resource, inputs: Properties) -> tuple[str, Properties]:
        if inputs.get("a") == "refused":
            raise ProviderError("the engine said no")
        return "id", {**inputs, "made": True}

    def read(self, resource: Resource, id_: str, inputs: Properties, state: Properties) -> Current | None:
        return None if id_ == "gone" else Current(id_, inputs, state)

    def update(self, resource: Resource, id_: str, state: Properties, news: Properties) -> Properties:
        raise RuntimeError("a defect")

    def delete(self, resource: Resource, id_: str, state: Properties) -> None:
        """Nothing to do."""


@pytest.fixture
def stub() -> Iterator[Any]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(_Servicer(Fake(), "1.0.0"), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield provider_pb2_grpc.ResourceProviderStub(channel)
    server.stop(None).wait()


def test_values_survive_the_way_there_and_back() -> None:
    values = {"a": 1, "b": 1.5, "c": [True, "x", {"d": 2}], "e": {"f": []}, "g": UNKNOWN}
    assert to_properties(to_struct(values)) == values
    assert to_properties(to_struct({"a": None})) == {}


def test_unknown_is_found_at_any_depth() -> None:
    assert is_unknown({"a": [{"b": UNKNOWN}]})
    assert not is_unknown({"a": [{"b": 0}]})


def test_failures_of_a_check_name_the_property(stub: Any) -> None:
    response = stub.Check(provider_pb2.CheckRequest(urn=URN, news=to_struct({"a": "bad"})))
    assert [(it.property, it.reason) for it in response.failures] == [("a", "wrong")]


def test_a_diff_sees_old_inputs_and_ignored_changes(stub: Any) -> None:
    request = provider_pb2.DiffRequest(
        urn=URN, old_inputs=to_struct({"a": 1, "b": 1}), news=to_struct({"a": 2, "b": 2}), ignoreChanges=["b"]
    )
    response = stub.Diff(request)
    assert (list(response.replaces), response.deleteBeforeReplace) == (["a"], True)
    assert response.changes == provider_pb2.DiffResponse.DIFF_SOME


def test_a_preview_creates_nothing(stub: Any) -> None:
    request = provider_pb2.CreateRequest(urn=URN, properties=to_struct({"a": "refused"}), preview=True)
    response = stub.Create(request)
    assert (response.id, to_properties(response.properties)["made"]) == ("", UNKNOWN)


def test_a_refusal_is_told_as_it_is(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        stub.Create(provider_pb2.CreateRequest(urn=URN, properties=to_struct({"a": "refused"})))
    assert refusal.value.details() == "the engine said no"


def test_a_defect_is_told_with_its_type(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as defect:
        stub.Update(provider_pb2.UpdateRequest(urn=URN, id="id"))
    assert defect.value.details() == "RuntimeError: a defect"


def test_what_is_gone_has_no_id(stub: Any) -> None:
    assert stub.Read(provider_pb2.ReadRequest(urn=URN, id="gone")).id == ""
    assert stub.Read(provider_pb2.ReadRequest(urn=URN, id="there")).id == "there"


def test_secrets_are_not_accepted(stub: Any) -> None:
    assert not stub.Configure(provider_pb2.ConfigureRequest()).acceptSecrets

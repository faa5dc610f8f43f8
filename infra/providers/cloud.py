"""Stand-in for a cloud's plugin where that can't be installed: serves `pulumi preview`, refuses to create.

Inputs are checked against the SDK's classes; nothing is ever asked of the cloud.
"""

from __future__ import annotations

from typing import NoReturn

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
    is_unknown,
)
from infra.providers.shapes import resource_shape


class PreviewProvider(Provider):
    """Previews resources of the package `name`, known by its SDK `pulumi_<name>`."""

    def __init__(self, name: str, version: str) -> None:
        """Remember which plugin this stands in for."""
        super().__init__()
        self._name = name
        self._version = version

    def check(
        self, resource: Resource, olds: Properties, news: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        """Refuse what the SDK doesn't know."""
        return news, resource_shape(f"pulumi_{self._name}", resource.type).check(news)

    def diff(self, resource: Resource, old_inputs: Properties, state: Properties, news: Properties) -> Diff:
        """Show which inputs differ; whether that replaces the resource only the official plugin knows."""
        changed = [key for key in {**old_inputs, **news} if old_inputs.get(key) != news.get(key)]
        unknown = [key for key, value in news.items() if is_unknown(value)]
        return Diff({key: Kind.UPDATE for key in (*changed, *unknown) if not key.startswith("__")})

    def preview(self, resource: Resource, state: Properties, news: Properties) -> Properties:
        """Return the inputs; everything else is unknown before a create and stays as it is in an update."""
        outputs = resource_shape(f"pulumi_{self._name}", resource.type).outputs
        return {**{name: state.get(name, UNKNOWN) for name in outputs}, **news}

    def create(self, resource: Resource, inputs: Properties) -> tuple[str, Properties]:
        """Refuse.

        Raises:
            ProviderError: always.
        """
        self._refuse("create", resource)

    def read(self, resource: Resource, id_: str, inputs: Properties, state: Properties) -> Current | None:
        """Return what is known already, without looking; an import is refused.

        Raises:
            ProviderError: if there is nothing known.
        """
        if not inputs and not state:
            self._refuse("import", resource)
        return Current(id_, inputs, state)

    def update(self, resource: Resource, id_: str, state: Properties, news: Properties) -> Properties:
        """Refuse.

        Raises:
            ProviderError: always.
        """
        self._refuse("update", resource)

    def delete(self, resource: Resource, id_: str, state: Properties) -> None:
        """Refuse.

        Raises:
            ProviderError: always.
        """
        self._refuse("delete", resource)

    def invoke(self, token: str, args: Properties) -> Properties:
        """Refuse: the answer would have to come from the cloud.

        Raises:
            ProviderError: always.
        """
        raise ProviderError(f"{token}: {self._advice()}")

    def _refuse(self, action: str, resource: Resource) -> NoReturn:
        raise ProviderError(f"can't {action} {resource.type} {resource.name!r}: {self._advice()}")

    def _advice(self) -> str:
        return (
            f"this is a stand-in for the {self._name} plugin, for preview only; install the official one with"
            f" `pulumi plugin install resource {self._name} {self._version}`"
        )

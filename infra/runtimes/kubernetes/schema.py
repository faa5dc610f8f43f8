"""Property names of objects are those of the official SDK: whatever it does not know is refused."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pulumi import _types as sdk

from infra.runtimes.kubernetes.model import Manifest, RenderError

_CUSTOM = ("cert-manager.io/", "traefik.io/")
"""Groups of custom resources: the cluster knows their properties, the SDK does not."""
_ENVELOPE = {"apiVersion", "kind", "metadata", "spec"}


def check(manifests: Sequence[Manifest]) -> None:
    """Raises RenderError with every property that is unknown or of another type."""
    problems = [problem for manifest in manifests for problem in _problems(manifest)]
    if problems:
        raise RenderError("\n".join(problems))


def _problems(manifest: Manifest) -> Iterator[str]:
    version, kind = manifest["apiVersion"], manifest["kind"]
    where = f"{kind}/{manifest['metadata']['name']}"
    if version.startswith(_CUSTOM):
        for name in sorted(set(manifest) - _ENVELOPE):
            yield f"{where}: {name}: unknown; accepted: {', '.join(sorted(_ENVELOPE))}"
        yield from _walk(where, {"metadata": manifest["metadata"]}, _arguments("v1", "Namespace"))
        return
    arguments = _arguments(version, kind)
    if arguments is None:
        yield f"{where}: {version} has no {kind}"
        return
    yield from _walk(where, manifest, arguments)


def _arguments(version: str, kind: str) -> Any:
    """The SDK's class of an object's properties, None where there is none."""
    group, _, number = version.rpartition("/")
    module = f"pulumi_kubernetes.{group.split('.')[0] or 'core'}.{number}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return None
    return getattr(found, f"{kind}Args", None)


def _walk(where: str, value: Any, expected: Any) -> Iterator[str]:
    """What is wrong with a value, by the type that the SDK gives its property."""
    choices = _choices(expected)
    if Any in choices:
        return
    if isinstance(value, dict):
        mapping = _container(choices, Mapping)
        if classes := [choice for choice in choices if sdk.is_input_type(choice)]:
            known = sdk.input_type_types(classes[0])
            for name, item in value.items():
                if name not in known:
                    yield f"{where}: {name}: unknown; accepted: {', '.join(sorted(known))}"
                else:
                    yield from _walk(f"{where}.{name}", item, known[name])
            return
        if mapping:
            for name, item in value.items():
                yield from _walk(f"{where}.{name}", item, mapping[1])
            return
    elif isinstance(value, list):
        if items := _container(choices, Sequence):
            for index, item in enumerate(value):
                yield from _walk(f"{where}[{index}]", item, items[0])
            return
    elif type(value) in choices or value in _literals(choices):
        return
    yield f"{where}: found {type(value).__name__}; accepted: {' or '.join(map(_named, choices))}"


def _choices(expected: Any) -> list[Any]:
    if get_origin(expected) is Union:
        return [choice for part in get_args(expected) for choice in _choices(part)]
    return [expected]


def _container(choices: Sequence[Any], kind: type) -> tuple[Any, ...]:
    """Arguments of the first choice that is such a container."""
    for choice in choices:
        origin = get_origin(choice)
        if isinstance(origin, type) and issubclass(origin, kind):
            return get_args(choice)
    return ()


def _literals(choices: Sequence[Any]) -> list[Any]:
    return [value for choice in choices if get_origin(choice) is Literal for value in get_args(choice)]


def _named(choice: Any) -> str:
    literals = _literals([choice])
    return " or ".join(map(str, literals)) if literals else getattr(choice, "__name__", str(choice))

"""Shapes of inputs, taken from the classes of a provider's SDK: no list of properties is kept by hand."""

from __future__ import annotations

import difflib
import importlib
import inspect
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import pulumi
from pulumi._types import input_type_py_to_pulumi_names, input_type_types, is_input_type

from infra.providers.server import Failure, Properties, ProviderError, is_unknown

_SCALARS: dict[type, str] = {bool: "a boolean", int: "a whole number", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Shape:
    """What a value may be: a scalar of `scalar`, a list or map of `items`, or an object with `fields`."""

    scalar: type | None = None
    items: Shape | None = None
    is_map: bool = False
    fields: Mapping[str, Shape] = field(default_factory=dict)
    required: frozenset[str] = frozenset()

    def failures(self, value: Any, path: str = "") -> Iterator[Failure]:
        """Yield every reason for which `value` is not of this shape; unknown and absent values are."""
        if value is None or (not isinstance(value, dict | list) and is_unknown(value)):
            return
        if self.scalar is not None:
            if not _fits(value, self.scalar):
                yield Failure(path, f"expected {_SCALARS[self.scalar]}, got {_kind(value)}")
        elif self.items is not None:
            yield from self._failures_of_items(value, path)
        elif self.fields:
            yield from self._failures_of_fields(value, path)

    def _failures_of_items(self, value: Any, path: str) -> Iterator[Failure]:
        assert self.items is not None  # noqa: S101 - for the type checker
        wanted, name = (dict, "a map") if self.is_map else (list, "a list")
        if not isinstance(value, wanted):
            yield Failure(path, f"expected {name}, got {_kind(value)}")
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from self.items.failures(item, f"{path}.{key}")
        else:
            for index, item in enumerate(value):
                yield from self.items.failures(item, f"{path}[{index}]")

    def _failures_of_fields(self, value: Any, path: str) -> Iterator[Failure]:
        if not isinstance(value, dict):
            yield Failure(path, f"expected an object, got {_kind(value)}")
            return
        prefix = f"{path}." if path else ""
        for key, item in value.items():
            if key.startswith("__"):
                continue
            if key in self.fields:
                yield from self.fields[key].failures(item, prefix + key)
            else:
                near = difflib.get_close_matches(key, self.fields, n=1)
                hint = (
                    f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(self.fields))}"
                )
                yield Failure(prefix + key, f"unknown property {key!r}{hint}")
        for key in sorted(self.required - {key for key, item in value.items() if item is not None}):
            yield Failure(prefix + key, "missing required property")


@dataclass(frozen=True)
class ResourceShape:
    """Inputs of a resource type, and names of all its outputs."""

    inputs: Shape
    outputs: frozenset[str]

    def check(self, inputs: Properties) -> list[Failure]:
        """Return everything that is wrong with `inputs`."""
        return list(self.inputs.failures(inputs))


@cache
def resource_shape(sdk: str, token: str) -> ResourceShape:
    """Return the shape of resource type `token` (`docker:index/network:Network`) in the module `sdk`.

    Raises:
        ProviderError: if the SDK has no such resource.
    """
    _, module, name = token.split(":")
    namespace = module.split("/")[0]
    module_name = sdk if namespace == "index" else f"{sdk}.{namespace}"
    try:
        with warnings.catch_warnings():
            # Importing an SDK warns of every deprecated resource in it.
            warnings.simplefilter("ignore", DeprecationWarning)
            found = importlib.import_module(module_name)
        arguments, resource = getattr(found, f"{name}Args"), getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ProviderError(f"{token}: the SDK {sdk} has no such resource") from error
    return ResourceShape(_object(arguments), frozenset(_outputs(resource)))


def _outputs(resource: type) -> Iterator[str]:
    for base in inspect.getmro(resource):
        for name, member in vars(base).items():
            if isinstance(member, property) and member.fget is not None:
                if base.__module__.startswith("pulumi."):
                    continue
                yield getattr(member.fget, "_pulumi_name", name)


@cache
def _object(arguments: Any) -> Shape:
    signature = inspect.signature(arguments.__init__)
    python_names = [
        name for name, it in signature.parameters.items() if it.default is inspect.Parameter.empty
    ][1:]
    names = input_type_py_to_pulumi_names(arguments)
    return Shape(
        fields={name: _shape(hint) for name, hint in input_type_types(arguments).items()},
        required=frozenset(names[name] for name in python_names if name in names),
    )


def _shape(hint: Any) -> Shape:
    hint = _unwrap(hint)
    origin = typing.get_origin(hint)
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return Shape(scalar=str)
    if hint in _SCALARS:
        return Shape(scalar=hint)
    if inspect.isclass(hint) and is_input_type(hint):
        arguments: Any = hint
        return _object(arguments)
    if origin is not None and inspect.isclass(origin):
        if issubclass(origin, Mapping):
            return Shape(items=_shape(typing.get_args(hint)[1]), is_map=True)
        if issubclass(origin, Sequence):
            return Shape(items=_shape(typing.get_args(hint)[0]))
    return Shape()


def _unwrap(hint: Any) -> Any:
    """Return the plain type of `Input[…]` and `Optional[…]`; of several, the first."""
    while typing.get_origin(hint) is typing.Union:
        plain = [
            item
            for item in typing.get_args(hint)
            if item is not type(None) and not _is_deferred(item) and not typing.is_typeddict(item)
        ]
        hint = plain[0]
    return hint


def _is_deferred(hint: Any) -> bool:
    name = getattr(typing.get_origin(hint) or hint, "__name__", "")
    return typing.get_origin(hint) is pulumi.Output or hint is pulumi.Output or name == "Awaitable"


def _fits(value: Any, scalar: type) -> bool:
    if scalar is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if scalar is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, scalar)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return _SCALARS.get(type(value), type(value).__name__)

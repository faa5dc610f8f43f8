"""Reads a stack file's configuration and refuses it as a whole, with everything that is wrong in it."""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from infra import paths
from infra.config import rules
from infra.config.model import Stack, StandbyVariables
from infra.config.types import Accepts
from infra.secrets.references import REFERENCE

NAMESPACE = "icupa"
STACK_DIRECTORY = paths.REPOSITORY / "stacks"
_LOOKS_SECRET = re.compile(
    r"sk-[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.|Bearer\s+\S{8,}|-----BEGIN|://[^/\s]*:[^/\s]*@"
)
_LONGEST_SHOWN = 60
_OTHER_KEYS = f"{NAMESPACE}:<name>; providers take credentials from the environment"

Location = tuple[str | int, ...]


class ConfigurationError(Exception):
    """A stack file was refused; the message names key, file, what was found and what is accepted."""

    def __init__(self, stack: str, problems: Sequence[str]) -> None:
        self.stack = stack
        self.problems = tuple(problems)
        count = f"{len(problems)} value is" if len(problems) == 1 else f"{len(problems)} values are"
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"stacks/Pulumi.{stack}.yaml: {count} not accepted, nothing was touched:\n{lines}")


def stack_file(stack: str) -> Path:
    """Path of a stack's file."""
    return STACK_DIRECTORY / f"Pulumi.{stack}.yaml"


def stack_names() -> list[str]:
    """Names of all stacks that have a file."""
    return sorted(path.name.split(".")[1] for path in STACK_DIRECTORY.glob("Pulumi.*.yaml"))


def load_file(stack: str, path: Path | None = None) -> Stack:
    """Configuration of a stack from its file, without Pulumi.

    Raises ConfigurationError, also where the file is missing or is not YAML.
    """
    path = path or stack_file(stack)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            stack, [f"the file: found nothing; accepted: one of {', '.join(stack_names())}"]
        ) from None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "the file"
        raise ConfigurationError(stack, [f"{where}: found text that is not YAML; accepted: YAML"]) from None
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise ConfigurationError(
            stack, ["config: found no mapping; accepted: a mapping with keys icupa:<name>"]
        )
    return validate(stack, {str(key): value for key, value in config.items()}, path)


def load_runtime(stack: str, values: Mapping[str, str], secret_keys: Sequence[str] = ()) -> Stack:
    """Configuration as Pulumi hands it to the program: each value a string, structures as JSON."""
    for key in secret_keys:
        if key.startswith(f"{NAMESPACE}:"):
            raise ConfigurationError(
                stack,
                [
                    f"{key}: found a value encrypted in the stack file; "
                    "accepted: a reference ${secret:<name>}, its value in the secret store"
                ],
            )
    return validate(stack, {key: _decoded(value) for key, value in values.items()}, stack_file(stack))


def validate(stack: str, config: Mapping[str, Any], path: Path | None = None) -> Stack:
    """Typed configuration of `config`, whose keys carry the namespace; raises ConfigurationError."""
    prefix = f"{NAMESPACE}:"
    keys = {key: key if ":" in key else f"{prefix}{key}" for key in config}
    own = {key.removeprefix(prefix): config[name] for name, key in keys.items() if key.startswith(prefix)}
    found = [(problem.location, _contradiction(problem)) for problem in rules.problems(own)]
    for key in keys.values():
        if key.partition(":")[0] not in {NAMESPACE, "pulumi"}:
            found.append(((key,), f"{key}: found a key of another namespace; accepted: {_OTHER_KEYS}"))
    checked: Stack | None = None
    try:
        checked = Stack.model_validate(own)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            location = _without_tags(tuple(detail["loc"]), own)
            found.append((location, _problem(detail, location)))
    if checked is None or found:
        raise ConfigurationError(stack, _with_lines(found, _line_numbers(path)))
    return checked


def _decoded(value: str) -> Any:
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    return decoded


def _contradiction(problem: rules.Problem) -> str:
    key = f"{NAMESPACE}:{_dotted(problem.location)}"
    return f"{key}: found {_shown(problem.found, secret=False)}; accepted: {problem.accepted}"


def _with_lines(found: Sequence[tuple[Location, str]], lines: Mapping[Location, int]) -> list[str]:
    """Texts in the order of the file, each with the line of its key or of what it is missing in."""
    numbered = sorted({(_line(lines, location), text) for location, text in found})
    return [f"line {number}: {text}" if number else text for number, text in numbered]


def _problem(detail: Any, location: Location) -> str:
    key = f"{NAMESPACE}:{_dotted(location)}"
    kind = detail["type"]
    if kind == "extra_forbidden":
        names = _names_at(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{key}: found an unknown key{hint}; accepted: {', '.join(names)}"
    target = _target(location)
    accepted, secret = _accepted(target)
    if kind in {"missing", "union_tag_not_found"}:
        return f"{key}: found nothing; accepted: {accepted}"
    if kind == "union_tag_invalid":
        shown = _shown(detail["ctx"]["tag"], secret=False)
        return f"{key}.driver: found {shown}; accepted: {detail['ctx']['expected_tags']}"
    if kind == "too_short":
        return f"{key}: found an empty list; accepted: a list of one or more: {accepted}"
    return f"{key}: found {_shown(detail['input'], secret)}; accepted: {accepted}"


def _shown(value: object, secret: bool) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    if not REFERENCE.fullmatch(text) and (secret or _LOOKS_SECRET.search(text)):
        return f"a value of {len(text)} characters (not shown)"
    if len(text) > _LONGEST_SHOWN:
        text = text[:_LONGEST_SHOWN] + "…"
    return json.dumps(value if isinstance(value, (bool, int, float)) else text, ensure_ascii=False)


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _without_tags(location: Location, own: Mapping[str, Any]) -> Location:
    """Pydantic puts the driver's name into the location of what is wrong below a driver: take it out."""
    kept: list[str | int] = []
    value: Any = own
    for part in location:
        if isinstance(value, dict) and part not in value and value.get("driver") == part:
            continue
        kept.append(part)
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
    return tuple(kept)


def _members(annotation: Any) -> list[Any]:
    """Models and other types in an annotation, unions and containers opened."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType, tuple, list}:
        return [
            member
            for argument in typing.get_args(annotation)
            if argument not in {Ellipsis, type(None)}
            for member in _members(argument)
        ]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _target(location: Location) -> Any:
    """Model (a class) or field at a location of the stack file."""
    models: list[Any] = [Stack]
    target: Any = Stack
    for part in location:
        if isinstance(part, int):
            continue
        if part == "standby_variables":
            models, target = [StandbyVariables], StandbyVariables
            continue
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if not fields:
            return None
        target = fields[0]
        models = [member for field in fields for member in _members(field.annotation) if _is_model(member)]
        if models and len(models) == 1:
            target = models[0]
    return target


def _names_at(location: Location) -> list[str]:
    target = _target(location)
    if isinstance(target, FieldInfo):
        names = {
            name
            for member in _members(target.annotation)
            if _is_model(member)
            for name in member.model_fields
        }
        return sorted(names)
    return list(target.model_fields) if target is not None else []


def _accepted(target: Any) -> tuple[str, bool]:
    if _is_model(target):
        return f"a mapping with {', '.join(target.model_fields)}", False
    if not isinstance(target, FieldInfo):
        return "another value", True
    for metadata in (*target.metadata, *_nested_metadata(target.annotation)):
        if isinstance(metadata, Accepts):
            return metadata.text, metadata.secret
    members = _members(target.annotation)
    words: list[str] = []
    if typing.get_origin(members[0]) is Literal:
        words = [str(value) for value in typing.get_args(members[0])]
    elif isinstance(members[0], type) and issubclass(members[0], Enum):
        words = [member.value for member in members[0]]
    elif all(_is_model(member) for member in members):
        words = list(dict.fromkeys(name for member in members for name in member.model_fields))
        return f"a mapping with {', '.join(words)}", False
    return (", ".join(words), False) if words else ("another value", True)


def _nested_metadata(annotation: Any) -> list[Any]:
    found: list[Any] = []
    if typing.get_origin(annotation) is typing.Annotated:
        found += typing.get_args(annotation)[1:]
    for argument in typing.get_args(annotation):
        if argument is not Ellipsis:
            found += _nested_metadata(argument)
    return found


def _line(lines: Mapping[Location, int], location: Location) -> int:
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return 0


def _line_numbers(path: Path | None) -> dict[Location, int]:
    """Line of every key of a stack file, by location without the namespace; empty where it can't be read."""
    if path is None or not path.is_file():
        return {}
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    lines: dict[Location, int] = {}

    def walk(node: yaml.Node, location: Location) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value)
                here = (*location, name.removeprefix(f"{NAMESPACE}:") if len(location) == 1 else name)
                lines[here[1:]] = key.start_mark.line + 1
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                lines[(*location[1:], index)] = value.start_mark.line + 1
                walk(value, (*location, index))

    if root is not None:
        walk(root, ())
    lines.pop((), None)
    return lines

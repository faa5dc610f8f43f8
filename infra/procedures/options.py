"""Extra variables that each playbook takes; all else is refused before anything is touched. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from infra.procedures.operation import ProcedureError

_CONNECTION = "ansible_"
"""Ansible's own variables: how a host is reached."""
_REST = "_raw_params"
"""What Ansible calls the words behind the first space of `-e name=some words`; it uses them nowhere."""
_TRUTHS = {"true", "yes", "on", "1", "false", "no", "off", "0"}


class Kind(StrEnum):
    """What a value must be, where nothing that reads it says so before anything is touched."""

    TEXT = "text"
    TRUTH = "true or false"
    NUMBER = "a number from 0 on"
    TYPED = "as it was typed"
    """Its spaces need no quotes: who reads it looks at the command line."""


@dataclass(frozen=True)
class Option:
    """One extra variable."""

    name: str
    kind: Kind = Kind.TEXT
    needed: bool = False


_STACK = (Option("stack"),)
_PROCEDURE = (*_STACK, Option("why"), Option("wait"), Option("take_from"))
_MOVES = (
    *_PROCEDURE,
    Option("allow_contract"),
    Option("refresh_vector_stores", Kind.TRUTH),
    Option("incident"),
)

PLAYBOOKS: Mapping[str, tuple[Option, ...]] = {
    "backup": (*_PROCEDURE, Option("verify")),
    "deploy": (*_MOVES, Option("release", needed=True), Option("accept_unhealthy", Kind.TRUTH)),
    "hosts": _STACK,
    "lighthouse": (*_STACK, Option("url"), Option("minimum")),
    "maintenance": (
        *_MOVES,
        Option("release"),
        Option("mode"),
        Option("at"),
        Option("short_notice"),
        Option("notice_hours"),
        Option("system_updates", Kind.TRUTH),
        Option("watch_minutes", Kind.NUMBER),
        Option("watch_error_rate", Kind.NUMBER),
    ),
    "rollback": (*_MOVES, Option("release")),
    "rollout": (*_PROCEDURE, Option("flag", needed=True), Option("window")),
    "rotate": (*_PROCEDURE, Option("secret", needed=True)),
    "secrets_age": (*_PROCEDURE, Option("at"), Option("metrics_file")),
    "secrets_age_timer": (
        *_STACK,
        Option("run_as", needed=True),
        Option("metrics_file", needed=True),
        Option("units"),
    ),
    "site": _PROCEDURE,
    "smoke": (*_STACK, Option("region")),
    "switch": (
        *_PROCEDURE,
        Option("switch"),
        Option("to"),
        Option("set", Kind.TYPED),
        Option("preset"),
    ),
}
"""By the name of the playbook, of those that an operator runs. Variables of roles are taken everywhere."""
LIMITED = {"hosts", "site"}
"""Playbooks that may be run for some hosts only. In the others a limit would leave out the controller, which
plans and judges, and they would end well without having done anything."""


def takes_lease(playbook: str) -> bool:
    """Whether it is a procedure: its end is told in a block, whatever happens to it."""
    return _PROCEDURE[-1] in PLAYBOOKS[playbook]


def check(
    playbook: str, given: Mapping[str, Any], roles: Callable[[], Collection[str]], *, limit: str = ""
) -> None:
    """Refuse what a playbook would pass over or misread, and what it can't do without.

    `roles` gives the names of the roles' variables; it is asked only where there is another name than those
    of the table. `limit` is the value of `--limit`.

    Raises:
        ProcedureError: names every variable that is not accepted, and those that are.
    """
    if limit and playbook not in LIMITED:
        raise ProcedureError(f"{playbook}.yml is always for all hosts: leave out --limit {limit}")
    wrong = list(_wrong(PLAYBOOKS[playbook], given, roles))
    if wrong:
        accepted = ", ".join(sorted(option.name for option in PLAYBOOKS[playbook]))
        raise ProcedureError(f"{'; '.join(wrong)}. {playbook}.yml takes: {accepted}")


def _wrong(
    options: tuple[Option, ...], given: Mapping[str, Any], roles: Callable[[], Collection[str]]
) -> Iterator[str]:
    known = {option.name: option for option in options}
    for option in options:
        if option.needed and option.name not in given:
            yield f"name a {option.name}: -e {option.name}=…"
    for name, value in given.items():
        if name == _REST:
            if not any(known[each].kind is Kind.TYPED for each in given if each in known):
                yield f"{value!r} stands behind a space: quote the value, as in -e 'why=\"two words\"'"
        elif name in known:
            yield from _misread(known[name], value)
        elif not name.startswith(_CONNECTION) and name not in roles():
            near = difflib.get_close_matches(name, known, n=1)
            yield f"{name} is no variable of it{f', did you mean {near[0]}?' if near else ''}"


def _misread(option: Option, value: Any) -> Iterator[str]:
    if value is None or (isinstance(value, str) and not value.strip()):
        yield f"{option.name} is empty: leave it out, or give it a value"
    elif option.kind is Kind.TRUTH and str(value).lower() not in _TRUTHS:
        yield f"{option.name}: found {value!r}; accepted: true or false"
    elif option.kind is Kind.NUMBER and not _is_number(value):
        yield f"{option.name}: found {value!r}; accepted: {option.kind}"


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isfinite(float(value)) and float(value) >= 0
    except (TypeError, ValueError):
        return False

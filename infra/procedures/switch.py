"""Switches (CFG-2, INC-3): which ones a command means, and what is said of what became of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from infra.procedures.operation import ProcedureError
from infra.record import Result, Switch
from infra.services import names
from infra.services.agents import METRICS_PATH, SWITCH_METRIC, slot_name
from infra.services.model import Slot

Wanted = dict[Switch, bool]

PRESETS: Mapping[str, Mapping[Switch, bool]] = MappingProxyType(
    {
        "p0": MappingProxyType(
            {
                Switch.AI_REALTIME_ENABLED: False,
                Switch.AI_RESPONSES_ENABLED: False,
                Switch.WHATSAPP_INTEGRATION_ENABLED: False,
            }
        )
    }
)
"""Switches that are set together; `p0` takes all of the service's functions that answer customers away."""

_FUNCTIONS = "FEATURE_"
_ON = ("on", "true", "yes", "1")
_OFF = ("off", "false", "no", "0")
_VALUES = {**dict.fromkeys(_ON, True), **dict.fromkeys(_OFF, False)}
_WAYS = (
    "name what to set in one way: -e switch=NAME -e to=on|off, -e set='{\"NAME\": false, …}'"
    f" or -e preset={'|'.join(PRESETS)}"
)


def requested(
    *, switch: Any = None, to: Any = None, given: Any = None, preset: Any = None, raw: str = ""
) -> Wanted:
    """Switches that extra variables name, in the order of `Switch`.

    `given` is `set`: a mapping, or its JSON. A space in `-e set='{"A": true}'` ends the value for Ansible:
    `raw` is what the command line has.

    Raises:
        ProcedureError: it is not one of the ways to say it; the message lists everything that is accepted.
    """
    ways = [name for name, value in (("switch", switch), ("set", given), ("preset", preset)) if _is(value)]
    if len(ways) != 1 or (_is(to) and ways != ["switch"]):
        raise ProcedureError(f"{_WAYS}; switches: {_names()}")
    if ways == ["preset"]:
        return _preset(str(preset))
    wanted = {str(switch): to} if ways == ["switch"] else _mapping(given, raw)
    unknown = [name for name in wanted if name not in Switch.__members__]
    if unknown:
        raise ProcedureError(f"no switch is called {', '.join(map(repr, unknown))}; accepted: {_names()}")
    values = {name: _value(name, value) for name, value in wanted.items()}
    if not values:
        raise ProcedureError(f"set names no switch; accepted: {_names()}")
    return {each: values[each] for each in Switch if each in values}


def of_functions(wanted: Mapping[Switch, bool]) -> dict[str, str]:
    """Those that Supabase's functions read too, as their secrets hold them."""
    return {
        switch.value: str(on).lower() for switch, on in wanted.items() if switch.value.startswith(_FUNCTIONS)
    }


def said(switches: Mapping[Switch, bool]) -> str:
    """Switches for people: `NAME off, NAME on`."""
    return ", ".join(f"{switch} {'on' if on else 'off'}" for switch, on in switches.items())


def changing(before: Mapping[Switch, bool], wanted: Mapping[Switch, bool]) -> Wanted:
    """Those that are not yet what is wanted."""
    return {switch: on for switch, on in wanted.items() if before[switch] is not on}


def service_checks(wanted: Mapping[Switch, bool], slot: Slot, token: str) -> list[dict[str, Any]]:
    """What a slot answers once the switches are in effect, for the module `service_answers`."""
    return [
        {
            "service": slot_name(slot),
            "port": names.AGENTS_PORT,
            "path": METRICS_PATH,
            "bearer": token,
            "contains": f'{SWITCH_METRIC}{{switch="{switch}"}} {float(on)}\n',
        }
        for switch, on in wanted.items()
    ]


@dataclass(frozen=True)
class Place:
    """A host, or a project's functions; `problem` is empty where the switches are in effect."""

    name: str
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of it all."""

    result: Result
    message: str


def outcome(wanted: Mapping[Switch, bool], places: Sequence[Place], *, check: bool = False) -> Outcome:
    """OK where every place has the switches, uncertain and exactly where not otherwise."""
    done = [place.name for place in places if not place.problem]
    missing = [f"{place.name} ({place.problem})" for place in places if place.problem]
    if check:
        unsaid = f"; can't be said of {'; '.join(missing)}" if missing else ""
        result = Result.UNCERTAIN if missing else Result.OK
        return Outcome(result, f"{said(wanted)}; would be set on {', '.join(done) or 'nothing'}{unsaid}")
    if not missing:
        return Outcome(Result.OK, f"{said(wanted)}; in effect on {', '.join(done)}")
    where = f"in effect on {', '.join(done)}" if done else "in effect nowhere yet"
    return Outcome(
        Result.UNCERTAIN, f"{said(wanted)}; recorded, {where}, but NOT CONFIRMED on {'; '.join(missing)}"
    )


def _is(value: Any) -> bool:
    return value is not None and value != ""


def _names() -> str:
    return ", ".join(Switch)


def _preset(name: str) -> Wanted:
    if name not in PRESETS:
        raise ProcedureError(f"no preset is called {name!r}; accepted: {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def _mapping(given: Any, raw: str) -> dict[str, Any]:
    for found in (given, raw):
        document = _parsed(found) if isinstance(found, str) else found
        if isinstance(document, Mapping):
            return {str(name): value for name, value in document.items()}
    raise ProcedureError(
        f"set must be a JSON object of switches, as in -e set='{{\"FEATURE_AGENT_CHAT\": false}}';"
        f" switches: {_names()}"
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _value(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if not isinstance(value, (str, int)) or text not in _VALUES:
        found = "nothing" if value is None else repr(value)
        raise ProcedureError(f"{name}: found {found}; accepted: on or off (true, false)")
    return _VALUES[text]

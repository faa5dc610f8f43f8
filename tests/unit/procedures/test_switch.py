"""Which switches a command means, and what is said of what became of them."""

from __future__ import annotations

from typing import Any

import pytest

from infra.procedures import switch
from infra.procedures.operation import ProcedureError
from infra.procedures.switch import Place, requested
from infra.record import Result, Slot, Switch

CHAT, VOICE = Switch.FEATURE_AGENT_CHAT, Switch.FEATURE_AGENT_VOICE
REALTIME = Switch.AI_REALTIME_ENABLED


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"switch": "FEATURE_AGENT_CHAT", "to": "off"}, {CHAT: False}),
        ({"switch": "FEATURE_AGENT_CHAT", "to": True}, {CHAT: True}),
        ({"switch": "FEATURE_AGENT_CHAT", "to": "True"}, {CHAT: True}),
        ({"given": '{"FEATURE_AGENT_CHAT":false}'}, {CHAT: False}),
        ({"given": '{"FEATURE_AGENT_CHAT":', "raw": '{"FEATURE_AGENT_CHAT": false}'}, {CHAT: False}),
        (
            {
                "given": '{"FEATURE_AGENT_CHAT":',
                "raw": '{"FEATURE_AGENT_CHAT": false, "AI_REALTIME_ENABLED": true}',
            },
            {REALTIME: True, CHAT: False},
        ),
        ({"given": {"FEATURE_AGENT_CHAT": False, "FEATURE_AGENT_VOICE": "on"}}, {CHAT: False, VOICE: True}),
        (
            {"preset": "p0"},
            {REALTIME: False, Switch.AI_RESPONSES_ENABLED: False, Switch.WHATSAPP_INTEGRATION_ENABLED: False},
        ),
    ],
)
def test_every_way_to_say_it(given: dict[str, Any], wanted: switch.Wanted) -> None:
    assert requested(**given) == wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "name what to set in one way"),
        ({"to": "off"}, "name what to set in one way"),
        ({"preset": "p0", "switch": "FEATURE_AGENT_CHAT", "to": "off"}, "name what to set in one way"),
        ({"preset": "p0", "to": "off"}, "name what to set in one way"),
        ({"preset": "p1"}, "no preset is called 'p1'; accepted: p0"),
        ({"switch": "FEATURE_CHAT", "to": "off"}, "no switch is called 'FEATURE_CHAT'; accepted: AI_REAL"),
        ({"given": {"FEATURE_AGENT_CHAT": False, "a": 1, "b": 1}}, "no switch is called 'a', 'b'; accepted:"),
        ({"switch": "FEATURE_AGENT_CHAT"}, "FEATURE_AGENT_CHAT: found nothing; accepted: on or off"),
        ({"switch": "FEATURE_AGENT_CHAT", "to": "of"}, "FEATURE_AGENT_CHAT: found 'of'; accepted: on or off"),
        ({"given": {"FEATURE_AGENT_CHAT": None}}, "found nothing"),
        ({"given": {"FEATURE_AGENT_CHAT": {}}}, "found {}"),
        ({"given": {}}, "set names no switch; accepted: AI_REALTIME_ENABLED"),
        ({"given": "FEATURE_AGENT_CHAT=off"}, "set must be a JSON object of switches"),
        ({"given": "[1]"}, "set must be a JSON object of switches"),
        (
            {"given": '{"FEATURE_AGENT_CHAT":', "raw": '{"FEATURE_AGENT_CHAT": nonsense}'},
            "set must be a JSON object of switches",
        ),
    ],
)
def test_what_is_not_said_well_is_refused_with_what_is_accepted(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ProcedureError) as caught:
        requested(**given)
    assert said in str(caught.value)


def test_every_refusal_of_a_name_lists_all_switches() -> None:
    ways: tuple[dict[str, Any], ...] = ({}, {"switch": "X", "to": "off"}, {"given": "x"}, {"given": {}})
    for given in ways:
        with pytest.raises(ProcedureError) as caught:
            requested(**given)
        assert all(name in str(caught.value) for name in Switch)


def test_functions_read_features_only() -> None:
    wanted = {REALTIME: False, CHAT: False, VOICE: True}
    assert switch.of_functions(wanted) == {"FEATURE_AGENT_CHAT": "false", "FEATURE_AGENT_VOICE": "true"}
    assert switch.of_functions(switch.PRESETS["p0"]) == {}


def test_only_what_is_different_changes() -> None:
    before = dict.fromkeys(Switch, True)
    assert switch.changing(before, {CHAT: False, VOICE: True}) == {CHAT: False}


def test_the_slot_that_serves_is_asked_for_each_switch() -> None:
    checks = switch.service_checks({CHAT: False, VOICE: True}, Slot.GREEN, "token")
    assert [check["contains"] for check in checks] == [
        'agents_switch_enabled{switch="FEATURE_AGENT_CHAT"} 0.0\n',
        'agents_switch_enabled{switch="FEATURE_AGENT_VOICE"} 1.0\n',
    ]
    assert {(check["service"], check["path"], check["bearer"]) for check in checks} == {
        ("agents-green", "/metrics", "token")
    }


def test_all_places_have_them() -> None:
    found = switch.outcome({CHAT: False}, [Place("primary"), Place("standby"), Place("the functions of p")])
    assert found.result is Result.OK
    assert found.message == ("FEATURE_AGENT_CHAT off; in effect on primary, standby, the functions of p")


def test_it_is_said_exactly_where_they_are_not_confirmed() -> None:
    found = switch.outcome({CHAT: False}, [Place("primary"), Place("standby", "unreachable")])
    assert found.result is Result.UNCERTAIN
    assert found.message == (
        "FEATURE_AGENT_CHAT off; recorded, in effect on primary, but NOT CONFIRMED on standby (unreachable)"
    )
    nowhere = switch.outcome({CHAT: False}, [Place("primary", "x"), Place("standby", "y")])
    assert "in effect nowhere yet, but NOT CONFIRMED on primary (x); standby (y)" in nowhere.message


def test_a_dry_run_says_where_they_would_be_set() -> None:
    places = [Place("primary"), Place("standby", "unreachable")]
    assert switch.outcome({CHAT: False}, places[:1], check=True).message == (
        "FEATURE_AGENT_CHAT off; would be set on primary"
    )
    found = switch.outcome({CHAT: False}, places, check=True)
    assert found.result is Result.UNCERTAIN
    assert found.message.endswith("would be set on primary; can't be said of standby (unreachable)")

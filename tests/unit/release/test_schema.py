"""Which release may run on which schema, and what a contract migration would leave behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.record import HostState, Slot, State, Switch
from infra.release.model import SCHEMA_LABEL, Checked, HostImage, ReleaseError
from infra.release.retention import kept
from infra.release.schema import Plan, Standing, parse_plan, problems, served, standing
from tests.unit.release.conftest import IMAGE, release

A, B, C, D, E, F = (f"sha256:{letter * 64}" for letter in "abcdef")
EXPAND = {"revision": "0002", "kind": "expand", "ends": []}
CONTRACT = {"revision": "0003", "kind": "contract", "ends": ["0001"]}


def plan(needs: str, *pending: dict[str, Any], serves: tuple[str, ...] = ("0001",), **more: Any) -> Plan:
    return Plan.model_validate({"needs": needs, "at": "0001", "serves": serves, "pending": pending, **more})


def checked(needs: str | None, digest: str = D) -> Checked:
    return Checked(
        image=IMAGE, digest=digest, git_sha="f" * 40, schema_revision=needs, verified="signature", local=True
    )


def state(last: str = C, before: tuple[str, ...] = (B, A), **slots: str | None) -> State:
    blue, green = slots.get("blue", last), slots.get("green")
    running = tuple(slot for slot, digest in ((Slot.BLUE, blue), (Slot.GREEN, green)) if digest)
    host = HostState(slots={Slot.BLUE: blue, Slot.GREEN: green}, running=running)
    return State(
        release=release(last),
        previous_releases=tuple(release(digest) for digest in before),
        hosts={"primary": host, "standby": HostState.first(release(last))},
        switches=dict.fromkeys(Switch, True),
        active_region="primary",
        active_host="primary",
    )


def on_hosts(**revisions: str | None) -> dict[str, list[HostImage]]:
    digests = {"a": A, "b": B, "c": C, "d": D}
    return {
        "primary": [
            HostImage(digests[name], name, {} if needs is None else {SCHEMA_LABEL: needs})
            for name, needs in revisions.items()
        ]
    }


def test_what_expands_may_run_beside_everything() -> None:
    others = standing(state(), on_hosts(a="0001", b="0001", c="0001"))
    assert problems(checked("0002"), plan("0002", EXPAND), others) == []


def test_a_schema_that_serves_the_release_needs_nothing() -> None:
    assert problems(checked("0001"), plan("0001"), []) == []
    assert problems(checked(None), plan("0001"), []) == [], "an image without the label"


def test_what_serves_tells_that_its_schema_serves_the_release() -> None:
    images = on_hosts(a="0001", b="0002", c=None)["primary"]
    assert served(checked("0001"), A, images) == Plan(needs="0001", at=None, serves=("0001",), pending=())
    assert served(checked("0002"), A, images) is None, "it needs another revision"
    assert served(checked(None), C, images) is None, "neither says what it needs"
    assert served(checked("0001"), C, images) is None, "what serves does not say what it needs"
    assert served(checked("0001"), D, images) is None, "the image of what serves is not on the host"


def test_a_contract_is_refused_while_a_release_that_needs_the_old_schema_may_run_again() -> None:
    others = standing(state(green=E), {**on_hosts(a="0001", b="0002", c="0001"), "standby": []})
    found = problems(checked("0003"), plan("0003", EXPAND, CONTRACT), others)
    assert [problem.partition("; ")[0] for problem in found] == [
        "migration 0003 ends schema revision 0001, which sha256:cccccccccccc needs",
        "migration 0003 is a contract, and nobody can tell what sha256:eeeeeeeeeeee needs",
        "migration 0003 ends schema revision 0001, which sha256:aaaaaaaaaaaa needs",
    ]
    assert "that release runs on primary: first deploy a release that does without it" in found[0]
    assert "that release runs on primary" in found[1]
    assert "is kept for rollback: say -e allow_contract=0003 if" in found[2]


def test_only_what_is_kept_for_rollback_can_be_given_up() -> None:
    others = standing(state(), on_hosts(a="0001", b="0001", c="0002"))
    contract = plan("0003", CONTRACT, serves=("0001", "0002"))
    assert len(problems(checked("0003"), contract, others)) == 2
    assert len(problems(checked("0003"), contract, others, ["0004"])) == 2
    assert problems(checked("0003"), contract, others, ["0003"]) == []
    running = standing(state(), on_hosts(a="0002", b="0002", c="0001"))
    (found,) = problems(checked("0003"), contract, running, ["0003"])
    assert "runs on primary" in found


def test_a_contract_whose_old_schema_nobody_needs_runs() -> None:
    others = standing(state(), on_hosts(a="0002", b="0002", c="0002"))
    assert problems(checked("0003"), plan("0003", CONTRACT, serves=("0001", "0002")), others) == []


def test_the_last_good_release_counts_although_it_runs_nowhere() -> None:
    good = standing(state(last=C, blue=D), on_hosts(c="0001", d="0003"))
    found = {each.digest: each.why for each in good}
    assert found[D] == "runs on primary"
    alone = state(last=C, blue=D)
    alone = alone.changed(hosts={"primary": alone.hosts["primary"]})
    assert {each.digest: each.why for each in standing(alone, {})}[C] == "is the last good release"
    assert not next(each for each in standing(alone, {}) if each.digest == C).kept


def test_the_release_itself_is_not_left_behind_by_its_own_migration() -> None:
    itself = Standing(D, "0001", "runs on primary")
    contract = {**CONTRACT, "ends": ["0000"]}
    assert problems(checked("0003"), plan("0003", contract), [itself]) == []


@pytest.mark.parametrize(
    ("label", "asked", "said"),
    [
        ("9999", plan("0001"), "its label dev.icupa.schema.revision says that it needs schema revision 9999"),
        ("9999", plan("9999"), "it needs schema revision 9999; the database serves 0001, and its migrations"),
        ("0001", plan("0001", serves=(), problem="the schema is at revision 0003"), "the schema is at revis"),
        ("0001", plan("0001", CONTRACT), "it needs schema revision 0001; the database serves 0001"),
    ],
)
def test_a_release_with_a_wrong_schema_is_refused(label: str, asked: Plan, said: str) -> None:
    (found,) = problems(checked(label), asked, [])
    assert found.startswith(said)


def test_a_plan_is_the_last_line_that_the_command_prints() -> None:
    text = json.dumps({"needs": "0001", "at": None, "serves": [], "pending": [EXPAND], "problem": ""})
    found = parse_plan(f"a warning\n{text}\n")
    assert (found.needs, found.at, found.pending[0].kind) == ("0001", None, "expand")
    assert found.line == "migrations to run: 0002 (expand)"


@pytest.mark.parametrize("text", ["", "usage: agents_service", "[]", '{"needs": "0001"}', '{"needs": 1}'])
def test_what_is_no_plan_is_shown(text: str) -> None:
    with pytest.raises(ReleaseError, match="the release's migration plan can't be read"):
        parse_plan(text)


def test_the_last_release_and_three_before_it_stay_and_all_that_slots_name() -> None:
    before = (A, C, B, D, E)
    assert kept(state(last=C, before=before)) == sorted([C, A, B, D])
    assert kept(state(last=C, before=before, green=F)) == sorted([C, A, B, D, F])
    assert kept(state(last=C, before=()), [E]) == sorted([C, E])

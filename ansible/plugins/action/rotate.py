"""Controller side only: the steps of a rotation, between plans of hosts and what hosts say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from infra.outputs.model import StackOutputs
from infra.procedures import lease
from infra.procedures.action import Call, ProcedureAction
from infra.procedures.functions import management
from infra.procedures.moves import Move, restarts
from infra.procedures.operation import ProcedureError
from infra.record import Rotation, RotationPhase, process
from infra.record.model import now
from infra.release.model import short
from infra.rotation import plan, readback
from infra.rotation.issuers import Checker, Issuer, IssuerError, NoIssuerError, checker, issuer
from infra.rotation.plan import RotationError
from infra.rotation.steps import Steps
from infra.secretstore import SecretStoreError, SopsStore, open_store
from infra.site.project import ProjectError, readers
from infra.site.secrets import SecretsError
from infra.supabase import SupabaseError

FACT = "icupa_rotation"
NOT_UNDONE = "icupa_not_undone"
LOST = "icupa_lost"
VALUES = "icupa_values"
"""Variable of a host: which values all containers there have been seen to have."""
_STATES = ("plan", "create", "offer", "verify", "promote", "retire", "revoke", "undo", "withdraw", "outcome")
_BEFORE_HOSTS = (RotationPhase.CREATING, RotationPhase.STAGED)


class ActionModule(ProcedureAction, ActionBase):
    """`state` is a step; all but plan read the fact `icupa_rotation`.

    plan: of `secret` as the operator named it; refuses before anything is touched, sets the fact: `names`;
    `begins`: hosts must be what stack and record say; `deliver`: they are to be given new values; `undoing`:
    a run that was killed had given up; `undo`: hosts are to go back; `steps` and `slots` by host, `digest`;
    `services` by host and how they take it; `by_hand`: what is left to people. create, offer, verify,
    promote, retire, revoke, withdraw: `infra.rotation.steps`. undo: plans the way back, where there is one.
    outcome: result, message, next and facts for everybody.
    """

    arguments: ClassVar[dict[str, Any]] = {
        "state": {"type": "str", "required": True, "choices": list(_STATES)},
        "secret": {"type": "str"},
    }
    constraints: ClassVar[dict[str, Any]] = {"required_if": [["state", "plan", ["secret"]]]}
    refusals: ClassVar[tuple[type[Exception], ...]] = (
        RotationError,
        IssuerError,
        SecretStoreError,
        ProjectError,
        SecretsError,
        SupabaseError,
    )

    issuer = staticmethod(issuer)
    checker = staticmethod(checker)

    def work(self, call: Call) -> dict[str, Any]:
        """Do what `state` says."""
        state = call.arguments["state"]
        if state == "plan":
            return self._plan(call)
        if state == "outcome":
            return self._outcome(call)
        if call.check or not _fact(call)["names"]:
            return {}
        steps = self._steps(call)
        match state:
            case "create":
                if not steps.journal:
                    steps.begin(steps.old_ids(_fact(call)["names"]), call.outputs.environment)
                steps.create()
            case "offer":
                return self._offer(call, steps)
            case "verify":
                self._verify(call, steps)
            case "promote":
                steps.promote()
                call.did("the store gives the new values to everybody, a fresh process read them")
            case "retire":
                steps.retire()
            case "revoke":
                steps.revoke()
                call.did("the old values are revoked, and refused")
            case "undo":
                return self._undo(call, steps)
            case "withdraw":
                self._withdraw(call, steps)
        return {"changed": True}

    @staticmethod
    def _verify(call: Call, steps: Steps) -> None:
        if behind := _without(call, "new") if _fact(call)["deliver"] else []:
            raise RotationError(f"{', '.join(behind)} did not say that all there have the new values")
        steps.verify()
        call.did("the new values work for their consumers, who all have them")

    def _plan(self, call: Call) -> dict[str, Any]:
        store, rotations = _store(call), call.record.state().rotations
        entries = store.entries()
        operation = call.operation
        wanted = plan.asked(call.arguments["secret"], entries, now())
        left = plan.unfinished(rotations, wanted.names, operation.id) if rotations else ()
        names = list(left)
        hands: dict[str, str] = {}
        if not left:
            names, hands = self._possible(call, wanted, store)
        for name in names:
            phase = f" goes on from {rotations[name].phase}" if name in rotations else ""
            noticed = f"; {text}" if (text := plan.notices(name)) else ""
            call.say(f"{name}{phase}{noticed}")
        for text in hands.values():
            call.say(f"left to people: {text}")
        fact = {
            "names": names,
            "begins": bool(names) and all(_not_offered(rotations.get(name)) for name in names),
            "deliver": False,
            "undo": False,
            "undoing": any(found.phase is RotationPhase.UNDOING for found in rotations.values()),
            "delivered": False,
            "steps": {},
            "slots": {},
            "digest": call.record.state().release.digest,
            "services": {
                host: {how.value: list(each.services.get(how, ())) for how in plan.How}
                for host, each in _deliveries(call, names).items()
            },
            "by_hand": hands,
        }
        if call.check:
            _foretell(call, fact, entries)
        return {"ansible_facts": {FACT: fact}}

    def _possible(self, call: Call, wanted: plan.Asked, store: SopsStore) -> tuple[list[str], dict[str, str]]:
        """Names that this command can rotate, and what people do about the others.

        Raises:
            RotationError: one that was named can't be; all that can't are in the message.
        """
        outputs, refused = _outputs(call), {}
        for name in wanted.names:
            try:
                self.issuer(name, outputs, store)
                if problem := plan.by_hand(name):
                    raise RotationError(problem)
                _deliveries(call, [name])
            except (NoIssuerError, RotationError) as error:
                refused[name] = str(error)
        if refused and wanted.named:
            raise RotationError("; ".join(refused.values()))
        names = [name for name in wanted.names if name not in refused]
        # Asked before anything is touched: an issuer that does not answer is no reason to begin.
        if not call.check:
            self._steps(call).old_ids(names)
        return names, refused

    def _offer(self, call: Call, steps: Steps) -> dict[str, Any]:
        state, fact = call.record.state(), _fact(call)
        hosts = [host for host, how in fact["services"].items() if how[plan.How.SLOT]]
        steps.offer({host: state.host(host).active_slot.other for host in hosts})
        deliver = {
            name: found for name, found in steps.journal.items() if found.phase is RotationPhase.OFFERED
        }
        slots = {host: slot for found in deliver.values() for host, slot in found.slots.items()}
        if deliver:
            self._functions(call, steps.store.staged(deliver))
        return self._moves(call, restarts(call.record.state(), slots), deliver=bool(deliver))

    def _undo(self, call: Call, steps: Steps) -> dict[str, Any]:
        if not steps.undo():
            return {}
        journal = steps.journal
        back = {
            host: slot.other
            for found in journal.values()
            if found.offered
            for host, slot in found.slots.items()
        }
        delivered = any(found.offered for found in journal.values())
        return self._moves(
            call, restarts(call.record.state(), back, undo=True), undo=delivered, delivered=delivered
        )

    def _withdraw(self, call: Call, steps: Steps) -> None:
        if behind := _without(call, "old") if _fact(call)["undo"] else []:
            raise RotationError(f"{', '.join(behind)} may have the new values: these stay valid")
        going = {
            name: found
            for name, found in steps.journal.items()
            if found.phase is RotationPhase.UNDOING and found.offered
        }
        self._functions(call, {name: steps.store.get(name) for name in going})
        steps.withdraw()

    @staticmethod
    def _moves(call: Call, moves: tuple[Move, ...], **changes: bool) -> dict[str, Any]:
        fact = {
            **_fact(call),
            **changes,
            "steps": {move.host: [step.value for step in move.steps] for move in moves},
            "slots": {move.host: move.slot.value for move in moves},
        }
        for move in moves:
            call.say(move.line)
        return {"changed": True, "ansible_facts": {FACT: fact}}

    @staticmethod
    def _functions(call: Call, values: Mapping[str, str]) -> None:
        """Set those that functions read, and read their digests back."""
        secrets = {
            plan.FUNCTION_SECRETS[name]: value
            for name, value in values.items()
            if name in plan.FUNCTION_SECRETS
        }
        for project in call.outputs.settings.supabase.projects if secrets else ():
            with management(call.outputs, call.stack) as api:
                _ = call.lease
                api.ensure(project, secrets)
            call.did(f"functions of {project}: {', '.join(secrets)} set, read back")

    def _outcome(self, call: Call) -> dict[str, Any]:
        fact, failure = _fact(call), call.failure
        known, hosts = call.variables["hostvars"], list(call.variables["groups"]["machines"])
        left = {} if call.check else call.record.state().rotations
        verdict = plan.verdict(
            [] if call.check else [name for name in fact["names"] if name not in left],
            left,
            _said(fact) if failure is None else f"{failure.step}: {failure.message}",
            delivered=bool(fact["delivered"] or fact["undoing"]),
            not_undone={name: said for name in hosts if (said := str(known[name].get(NOT_UNDONE) or ""))},
            lost=[name for name in hosts if known[name].get(LOST)],
            hands=fact["by_hand"],
        )
        facts = {
            "environment": call.outputs.environment,
            "secrets": ", ".join(fact["names"]),
            "why": call.operation.why,
            "problem": verdict.message if failure else "",
            "took": f"{call.operation.took():.0f} s",
        }
        outcome = {
            "result": verdict.result.value,
            "message": verdict.message,
            "next": verdict.next,
            "nothing": not fact["names"],
            "facts": {name: text for name, text in facts.items() if text},
        }
        return {"ansible_facts": {"icupa_outcome": outcome}}

    def _steps(self, call: Call) -> Steps:
        store, outputs = _store(call), _outputs(call)
        secretstore, record = (
            lease.plain(call.variables[name]) for name in ("icupa_secretstore", "icupa_record")
        )

        def issuer_of(name: str) -> Issuer:
            return self.issuer(name, outputs, store)

        def checker_of(name: str) -> Checker:
            return self.checker(name, outputs, store)

        return Steps(
            record=call.record,
            store=store,
            lease=lambda: call.lease,
            issuer=issuer_of,
            checker=checker_of,
            readback=lambda values: readback.differing(values, secretstore, call.stack, record),
            by=process.operator(),
            why=call.operation.why,
            say=call.say,
        )


def _fact(call: Call) -> dict[str, Any]:
    fact = call.variables.get("ansible_facts", {}).get(FACT)
    if fact is None:
        raise ProcedureError("the rotation was not planned")
    found: dict[str, Any] = lease.plain(fact)
    return found


def _without(call: Call, which: str) -> list[str]:
    """Hosts that have not said that all there have these values, `old` or `new`."""
    known = call.variables["hostvars"]
    return [host.name for host in call.outputs.hosts if known[host.name].get(VALUES) != which]


def _said(fact: Mapping[str, Any]) -> str:
    """What went wrong, where nothing did in this run."""
    return "an earlier run had failed, this one ended its way back" if fact["undoing"] else ""


def _store(call: Call) -> SopsStore:
    return open_store(call.outputs.secretstore, call.stack, record=call.outputs.record)


def _outputs(call: Call) -> StackOutputs:
    """The stack's outputs with the rendered projects, which say how services reach an issuer."""
    projects = {host.name: _project(call, host.name) for host in call.outputs.hosts}
    return call.outputs.model_copy(update={"projects": projects})


def _project(call: Call, host: str) -> dict[str, Any]:
    project: dict[str, Any] = lease.plain(call.variables["hostvars"][host]["icupa_project"])
    return project


def _deliveries(call: Call, names: list[str]) -> dict[str, plan.Delivery]:
    """What services of each host have to be given; raises RotationError where one can't be."""
    found = {}
    for host in call.outputs.hosts:
        project = _project(call, host.name)
        found[host.name] = plan.together(plan.delivery(name, readers(project, name)) for name in names)
    return found


def _not_offered(rotation: Rotation | None) -> bool:
    return rotation is None or (rotation.phase in _BEFORE_HOSTS and not rotation.offered)


def _foretell(call: Call, fact: dict[str, Any], entries: Mapping[str, Any]) -> None:
    state = call.record.state()
    for name in fact["names"]:
        found = state.rotations.get(name)
        age = (now() - entries[name].created_at).days
        what = f"goes on from {found.phase}" if found else "replaced, the old one revoked"
        call.did(f"{name}, {age} d old: {what}")
    for host, services in fact["services"].items():
        for how, which in services.items():
            slot = state.host(host).active_slot.other
            told = f"the service in {slot}, at {short(fact['digest'])}" if how == plan.How.SLOT else ""
            if which:
                call.did(f"{host}: {told or ', '.join(which)} ({how})")
    for text in fact["by_hand"].values():
        call.did(f"left to people: {text}")

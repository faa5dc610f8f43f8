"""Takes a backup of the active host's database and copies it off the host, or checks one (DB-2)."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from infra.backup import (
    BackupError,
    Manifest,
    Problem,
    backup_id,
    check,
    drop_unfinished,
    listed,
    load,
    prune,
    put_part,
    save,
)
from infra.procedures.action import Call, ProcedureAction
from infra.record import Result
from infra.record.model import now
from infra.secrets.catalogue import BACKUP_IDENTITY, BACKUP_RECIPIENT
from infra.secretstore import SecretStore, SecretStoreError, open_store
from infra.services import names

DATA = "database.dump.age"
ACTION = "backup"
LATEST = "latest"


class ActionModule(ProcedureAction, ActionBase):
    """`state` taken: on the active host, all others skip it. verified: `id`, or the latest one.

    Values of secrets stay on the controller: a host gets the recipient only, which may be known to all.
    """

    _requires_connection = True

    arguments: ClassVar[dict[str, Any]] = {
        "state": {"type": "str", "required": True, "choices": ["taken", "verified"]},
        "directory": {"type": "path", "required": True},
        "id": {"type": "str", "default": LATEST},
        "keep": {"type": "int", "default": 7},
        "timeout": {"type": "int", "default": 3600},
    }
    refusals: ClassVar[tuple[type[Exception], ...]] = (BackupError, SecretStoreError)

    def work(self, call: Call) -> dict[str, Any]:
        """Do what `state` says."""
        return self._take(call) if call.arguments["state"] == "taken" else self._verify(call)

    def _take(self, call: Call) -> dict[str, Any]:
        if call.host != call.record.state().active_host:
            return _skipped("another host serves: its database is the one to back up")
        if names.POSTGRES not in call.variables["icupa_project"].get("compose", {}).get("services", {}):
            raise BackupError(
                "this environment has no PostgreSQL of its own: backups of a managed database (Supabase) are"
                " its provider's, see the project's Database > Backups"
            )
        secrets, name = _secrets(call), backup_id(now(), call.host)
        recipient = secrets.public(BACKUP_RECIPIENT).strip()
        answer = self._module(
            call,
            "postgres_backup",
            project=call.variables["icupa_project"]["compose"]["name"],
            service=names.POSTGRES,
            database=names.DATABASE,
            directory=call.arguments["directory"],
            id=name,
            recipient=recipient,
            keep=call.arguments["keep"],
            timeout=call.arguments["timeout"],
        )
        if call.check:
            call.did(f"back up database {names.DATABASE} of {call.host}, prove it by a restore, copy it away")
            return {"changed": True}
        manifest = Manifest.answered(
            {**answer["backup"], "environment": call.outputs.environment, "host": call.host},
            id=name,
            database=names.DATABASE,
            recipient=recipient,
        )
        store = call.record.store
        self._copy(call, manifest)
        if problems := check(store, manifest, secrets.get(BACKUP_IDENTITY)):
            raise BackupError(f"the copy of {name} in {store.url} is not sound: {_words(problems)}")
        held = call.lease
        save(store, manifest)
        held.log(ACTION, duration=manifest.seconds, why=call.operation.why, details=manifest.summary())
        prune(store, call.arguments["keep"])
        call.did(
            f"backed up {manifest.database} of {call.host} as {name}: {manifest.size} octets, restored and"
            f" compared: {len(manifest.tables)} tables, {manifest.rows} rows; also in {store.url}"
        )
        return {"changed": True, "ansible_facts": {"icupa_backup": manifest.summary()}}

    def _copy(self, call: Call, manifest: Manifest) -> None:
        store = call.record.store
        # The lease is held: whatever is unfinished is of a run that was killed.
        call.lease.check()
        drop_unfinished(store)
        offset = 0
        for number, part in enumerate(manifest.parts):
            call.lease.check()
            answer = self._module(
                call, "backup_part", path=_path(call, manifest.id), offset=offset, length=part.size
            )
            if not answer["exists"]:
                raise BackupError(f"{_path(call, manifest.id)} is gone from {call.host}")
            put_part(store, manifest, number, base64.b64decode(answer["content"]))
            offset += part.size

    def _verify(self, call: Call) -> dict[str, Any]:
        store = call.record.store
        name = call.arguments["id"]
        if name == LATEST:
            there = listed(store)
            if not there:
                raise BackupError(f"there is no backup in {store.url}")
            name = there[-1]
        manifest = load(store, name)
        known = manifest.host in call.variables["groups"]["all"]
        if call.host != (manifest.host if known else call.record.state().active_host):
            return _skipped(f"{name} is of host {manifest.host}")
        problems = check(store, manifest, _secrets(call).get(BACKUP_IDENTITY))
        problems += _compare_with_log(call, manifest)
        problems += self._check_host(call, manifest) if manifest.host == call.host else []
        if not call.check:
            call.lease.log(
                f"{ACTION}.verify",
                result=Result.FAILED if problems else Result.OK,
                why=call.operation.why,
                details={"id": name, "problems": [problem.what for problem in problems]},
            )
        if problems:
            raise BackupError(f"backup {name} is not sound: {_words(problems)}")
        call.did(f"{name}: {manifest.size} octets, all checksums fit, the identity opens it")
        return {"changed": False, "ansible_facts": {"icupa_backup": manifest.summary()}}

    def _check_host(self, call: Call, manifest: Manifest) -> list[Problem]:
        answer = self._module(call, "backup_part", path=_path(call, manifest.id))
        if not answer["exists"]:
            call.did(f"{manifest.id} is no longer on {call.host}, only in {call.record.store.url}")
            return []
        if answer["sha256"] != manifest.sha256:
            return [
                Problem(f"{_path(call, manifest.id)} on {call.host} was changed: its checksum does not fit")
            ]
        return []

    def _module(self, call: Call, module: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=dict(call.variables)
        )
        if answer.get("failed"):
            raise BackupError(f"{call.host}: {answer.get('msg', 'the module failed')}")
        return answer


def _compare_with_log(call: Call, manifest: Manifest) -> list[Problem]:
    """The log, whose chain can't be changed unseen, says which manifest is the right one."""
    found = [
        event.details.get("manifest_sha256")
        for event in call.record.events()
        if event.action == ACTION and event.details.get("id") == manifest.id
    ]
    if not found:
        return [Problem("the record's log knows no backup of this name")]
    return [] if found[-1] == manifest.digest else [Problem("its manifest is not the one that the log names")]


def _secrets(call: Call) -> SecretStore:
    return open_store(call.outputs.secretstore, call.stack, record=call.outputs.record)


def _path(call: Call, name: str) -> str:
    return f"{call.arguments['directory']}/{name}/{DATA}"


def _skipped(why: str) -> dict[str, Any]:
    return {"skipped": True, "skipped_reason": why}


def _words(problems: list[Problem]) -> str:
    return "; ".join(problem.what for problem in problems)

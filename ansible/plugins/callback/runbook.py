"""Callback `runbook`: what an operator must know at the end of a procedure; see DOCUMENTATION."""

from __future__ import annotations

import atexit
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.utils.vars import load_extra_vars

from ansible import context
from ansible.plugins.callback import CallbackBase
from infra.paths import REPOSITORY
from infra.procedures import heartbeat, options
from infra.procedures.action import DONE
from infra.procedures.close import Closing, close
from infra.procedures.lease import OPERATION
from infra.procedures.operation import Operation, ProcedureError
from infra.procedures.verdict import ExitCode, Summary, took
from infra.record import Result

DOCUMENTATION = """
name: runbook
type: aggregate
short_description: Progress, summary and exit code of procedures
description:
  - Refuses extra variables that a playbook of this folder does not take, before its first task.
  - Says every few seconds which task is still running, and at once when the lease is lost.
  - Ends an operation that its playbook did not end, prints one block, and sets the exit code by the result.
    What fails before the operation began was refused.
  - Does nothing more for a playbook without the action C(operation).
requirements: []
options: {}
author: ICUPA platform
"""

SILENT_FOR = 5.0
"""Seconds without any output after which the running task is named."""

_PLAYBOOKS = REPOSITORY / "ansible" / "playbooks"
_ACTION = "operation"
_WATCH = 1.0


@dataclass
class Run:
    """What is known of one playbook's run."""

    started: float = field(default_factory=time.monotonic)
    name: str = ""
    """Of the procedure; empty where the playbook is none."""
    refused: str = ""
    check: bool = False
    operation: Operation | None = None
    record: dict[str, Any] = field(default_factory=dict)
    secretstore: dict[str, Any] = field(default_factory=dict)
    stack: str = ""
    result: Result | None = None
    message: str = ""
    next: str = ""
    done: list[str] = field(default_factory=list)


class CallbackModule(CallbackBase):
    """Watches one controller."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "runbook"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self) -> None:
        super().__init__()
        self._run = Run()
        self._task = ""
        self._task_began = self._last_output = time.monotonic()
        self._waiting_for: dict[str, None] = {}
        self._troubles: set[str] = set()
        self._watcher: threading.Thread | None = None

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin anew: several playbooks may be named in one command."""
        self._run = Run()
        self._refuse_unknown_variables(playbook)
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="runbook", daemon=True)
            self._watcher.start()

    def _refuse_unknown_variables(self, playbook: Any) -> None:
        """A misspelled name would be passed over: a rollback would go elsewhere than where it was told to."""
        file = Path(playbook._file_name).resolve()
        if file.parent != _PLAYBOOKS or file.stem not in options.PLAYBOOKS:
            return
        if options.takes_lease(file.stem):
            self._run.name = file.stem
        try:
            given, limit = load_extra_vars(playbook._loader), str(context.CLIARGS.get("subset") or "")
            options.check(file.stem, given, _role_variables, limit=limit)
        except ProcedureError as error:
            self._print(Summary(file.stem, "", None, str(error), [], 0.0))
            sys.stdout.flush()
            raise SystemExit(int(ExitCode.FAILED)) from None

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Remember what is running."""
        self._task, self._task_began = task.get_name(), time.monotonic()
        self._waiting_for.clear()
        self._heard()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Remember what is running."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A host works on it."""
        self._waiting_for[host.get_name()] = None

    def v2_runner_on_ok(self, result: Any) -> None:
        """Take what the actions of procedures tell."""
        self._finished(result)
        self._take(result.task, result.result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The same; an operation that could not begin was refused."""
        self._finished(result)
        found, task = result.result, result.task
        self._run.done += found.get(DONE, [])
        if task.action == _ACTION and task.args.get("state") == "begin" and self._run.operation is None:
            self._run.name = str(task.args.get("operation", task.get_name()))
            self._run.refused = str(found.get("msg", ""))
        elif not self._run.message:
            self._run.message = f"{task.get_name()}, {result.host.get_name()}: {found.get('msg', 'failed')}"

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A host has no work."""
        self._finished(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host was lost."""
        self._finished(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End what was not ended, print the block, set the exit code."""
        self._task = ""
        summary = self._summary(stats)
        atexit.unregister(self._interrupted)
        if summary is None:
            return
        if summary.exit_code is ExitCode.OK:
            # After the tables of the other callbacks, so that it is what stands last on the screen.
            atexit.register(self._print, summary)
            return
        self._print(summary)
        sys.stdout.flush()
        # Callbacks can't set the exit code otherwise; Ansible catches `Exception` only, and cleans up.
        raise SystemExit(int(summary.exit_code))

    def _summary(self, stats: Any) -> Summary | None:
        run = self._run
        elapsed = time.monotonic() - run.started
        if run.operation is None:
            refused = run.refused or (run.message if run.name else "")
            if not refused:
                return None
            return Summary(run.name, "", None, refused, run.done, elapsed, check=run.check)
        if run.result is None:
            self._end(run, lost=sorted(stats.dark), failed=sorted(stats.failures))
        if run.result is None:
            raise AssertionError("the run has ended")
        return Summary(
            run.operation.name,
            run.operation.id,
            run.result,
            run.message,
            run.done,
            elapsed,
            run.next,
            run.check,
        )

    def _end(self, run: Run, *, lost: list[str], failed: list[str]) -> None:
        """The playbook did not say how it ended: its hosts do."""
        if run.operation is None:
            raise AssertionError("nothing began")
        if lost:
            result, message = Result.UNCERTAIN, f"lost {', '.join(lost)}"
        elif failed:
            result, message = Result.FAILED, f"failed on {', '.join(failed)}" if len(failed) > 1 else ""
        else:
            result, message = Result.OK, ""
        told = "; ".join(part for part in (message, run.message) if part and result is not Result.OK)
        if run.operation.check:
            run.result, run.message = result, told
        else:
            run.result, run.message = close(
                Closing(
                    record=run.record,
                    secretstore=run.secretstore,
                    stack=run.stack,
                    operation=run.operation,
                    result=result,
                    message=told,
                )
            )

    def _take(self, task: Any, found: dict[str, Any]) -> None:
        run = self._run
        run.done += found.get(DONE, [])
        if task.action != _ACTION:
            return
        fact = found.get("ansible_facts", {}).get(OPERATION)
        if run.operation is None and fact:
            run.operation = Operation.parse(json.loads(json.dumps(fact)))
            run.check = run.operation.check
            atexit.register(self._interrupted)
            run.record, run.stack = json.loads(json.dumps(found.get("record", {}))), found.get("stack", "")
            run.secretstore = json.loads(json.dumps(found.get("secretstore", {})))
        if "result" in found:
            run.result, run.next = Result(found["result"]), str(found["next"])
            # A failure that was made good is none.
            known = "" if run.result is Result.OK else run.message
            run.message = str(found["message"]) or known

    def _finished(self, result: Any) -> None:
        self._waiting_for.pop(result.host.get_name(), None)
        self._heard()

    def _heard(self) -> None:
        self._last_output = time.monotonic()

    def _watch(self) -> None:
        """Thread: name the task that takes long, and say when the lease is lost."""
        while True:
            time.sleep(_WATCH)
            if self._task and time.monotonic() - self._last_output >= SILENT_FOR:
                hosts = ", ".join(list(self._waiting_for)) or "controller"
                elapsed = took(time.monotonic() - self._task_began)
                self._display.display(f"  … {self._task} ({hosts}), {elapsed}")
                self._heard()
            self._look_at_lease()

    def _look_at_lease(self) -> None:
        run = self._run
        if run.operation is None or run.operation.check or run.result is not None:
            return
        status = heartbeat.read_status(run.stack, run.operation.token)
        for trouble in (status.lost, status.trouble) if status is not None else ():
            if trouble and trouble not in self._troubles:
                self._troubles.add(trouble)
                self._display.warning(trouble)

    def _interrupted(self) -> None:
        """Ansible calls nobody when an operator interrupts it."""
        run = self._run
        if run.operation is None:
            return
        summary = Summary(
            run.operation.name,
            run.operation.id,
            Result.UNCERTAIN,
            "interrupted: nothing more is done; the lease stays, as if this had been killed",
            run.done,
            time.monotonic() - run.started,
            check=run.check,
        )
        if not run.check:
            self._print(summary)

    def _print(self, summary: Summary) -> None:
        self._display.display(summary.render())


def _role_variables() -> set[str]:
    """Names of the variables that roles declare."""
    return {
        name
        for file in REPOSITORY.glob("roles/*/meta/argument_specs.yml")
        for entry in yaml.safe_load(file.read_text())["argument_specs"].values()
        for name in entry.get("options", {})
    }

"""The running operation's lease, for every plugin that changes something."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from infra.procedures import heartbeat
from infra.procedures.operation import Failure, Operation, ProcedureError, held
from infra.record import Lease, Record, open_record, process

OPERATION = "icupa_operation"
FAILURE = "icupa_failure"
CONTROLLER = "localhost"

_log = logging.getLogger(__name__)


def controller_pid() -> int:
    """The process of `ansible-playbook`, seen from an action plugin, whose own process ends with its task."""
    return os.getppid()


def plain(value: Any) -> Any:
    """A value of Ansible's variables without Ansible's own kinds of text and mapping."""
    return json.loads(json.dumps(value))


def record_of(task_vars: Mapping[str, Any]) -> Record:
    """The environment's record."""
    return open_record(plain(task_vars["icupa_record"]))


def operation_of(task_vars: Mapping[str, Any]) -> Operation:
    """The running operation.

    Raises:
        ProcedureError: none began.
    """
    fact = _fact(task_vars, OPERATION)
    if fact is None:
        raise ProcedureError(
            "no operation has begun: the playbook must take the lease first (operation: {state: begin})"
        )
    return Operation.parse(fact)


def failure_of(task_vars: Mapping[str, Any]) -> Failure | None:
    """What went wrong first, if anything did."""
    fact = _fact(task_vars, FAILURE)
    return None if fact is None else Failure.model_validate(fact)


def current(task_vars: Mapping[str, Any], say: Callable[[str], None] = _log.warning) -> Lease:
    """The operation's lease, certainly held at this moment; call it before every change.

    `say` is told where its heartbeat had to be started again.

    Ansible's tasks outlive an `ansible-playbook` that is killed: such a task changes nothing more, and has no
    heartbeat started for the process that adopted it, which would never end.

    Raises:
        ProcedureError: no operation has begun, it runs in check mode and must change nothing, or its
            controller is gone.
        LeaseLostError: another operation has the lease.
    """
    operation = operation_of(task_vars)
    if operation.check:
        raise ProcedureError(f"{operation.name} runs in check mode: it holds no lease and changes nothing")
    stack = str(task_vars["icupa_stack"])
    status = heartbeat.read_status(stack, operation.token)
    lease = held(record_of(task_vars), operation)
    controller = controller_pid()
    if lease.process not in (None, process.identify(controller)):
        raise ProcedureError(
            f"the controller of {operation.name} ({operation.id}) is gone: nothing is changed"
        )
    if status is None or not status.alive:
        say("the heartbeat of the lease had ended, it is started again")
        heartbeat.start(plain(task_vars["icupa_record"]), stack, operation.token, controller)
    return lease


def _fact(task_vars: Mapping[str, Any], name: str) -> Any:
    hosts = task_vars.get("hostvars")
    known = hosts[CONTROLLER] if hosts is not None and CONTROLLER in hosts else task_vars
    found = known.get("ansible_facts", {}).get(name)
    return None if not found else plain(found)

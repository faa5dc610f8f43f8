"""Base of the action plugins of procedures: arguments, record, outputs and lease, errors as messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

from infra.outputs.model import StackOutputs
from infra.procedures import facts, lease
from infra.procedures.operation import Failure, Operation, ProcedureError
from infra.procedures.wording import redact_for
from infra.record import Lease, Record, RecordError
from infra.secretstore.redaction import Redact

DONE = "runbook"
"""Key of a result: lines for the block that the callback `runbook` prints."""


class Call:
    """One call of a procedure's action: what it may read, and the lease that it must hold to change."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        variables: Mapping[str, Any],
        *,
        check: bool,
        display: Callable[[str], None],
    ) -> None:
        self.arguments = arguments
        self.variables = variables
        self.check = check
        self._display = display
        self._done: list[str] = []

    @property
    def stack(self) -> str:
        """Name of the stack."""
        return str(self.variables["icupa_stack"])

    @property
    def host(self) -> str:
        """Host that the task runs for."""
        return str(self.variables["inventory_hostname"])

    @cached_property
    def record(self) -> Record:
        """The environment's record."""
        return lease.record_of(self.variables)

    @cached_property
    def outputs(self) -> StackOutputs:
        """The stack's outputs, without the rendered projects."""
        return StackOutputs.model_validate(lease.plain(self.variables["icupa_outputs"]))

    @property
    def operation(self) -> Operation:
        """The running operation; raises ProcedureError if none has begun."""
        return lease.operation_of(self.variables)

    @property
    def failure(self) -> Failure | None:
        """What went wrong first, if anything did."""
        return lease.failure_of(self.variables)

    @property
    def lease(self) -> Lease:
        """The operation's lease, looked at anew each time: read it right before every change.

        Raises:
            ProcedureError: check mode, or no operation has begun.
            LeaseLostError: another operation has it.
        """
        return lease.current(self.variables, self.say)

    def say(self, line: str) -> None:
        """Show progress, now."""
        self._display(f"  {self.host}: {line}")

    @cached_property
    def redact(self) -> Redact:
        """Takes values of secrets out of what a host or a service said."""
        secretstore, record = (
            lease.plain(self.variables[name]) for name in ("icupa_secretstore", "icupa_record")
        )
        return redact_for(secretstore, self.stack, record)

    def did(self, line: str) -> None:
        """Add a line to the block that is printed at the end."""
        self._done.append(line)

    @property
    def done(self) -> list[str]:
        """Lines so far."""
        return list(self._done)


class ProcedureAction:
    """An action on the controller: `class ActionModule(ProcedureAction, ActionBase)` with `arguments`
    (Ansible's argument spec) and `work`. Ansible itself is not imported here, so that this stays below it.
    """

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    arguments: ClassVar[dict[str, Any]] = {}
    constraints: ClassVar[dict[str, Any]] = {}
    """Further arguments of `validate_argument_spec`: `required_if`, …"""
    refusals: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions, besides those of record and procedures, whose message is all that the operator needs."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments, work, and turn known errors into the task's message."""
        action: Any = super()
        result: dict[str, Any] = action.run(tmp, task_vars)
        plugin: Any = self
        try:
            facts.refuse_forged(task_vars or {})
        except ProcedureError as error:
            result.update(failed=True, msg=str(error))
            return result
        _, arguments = plugin.validate_argument_spec(argument_spec=self.arguments, **self.constraints)
        call = Call(
            lease.plain(arguments),
            task_vars or {},
            check=bool(plugin._task.check_mode),
            display=plugin._display.display,
        )
        try:
            result.update({"changed": False, **self.work(call)})
        except Exception as error:
            if not isinstance(error, (RecordError, ProcedureError, *self.refusals)):
                raise
            result.update(failed=True, msg=str(error))
        if call.done:
            result[DONE] = call.done
        return result

    def _execute_module(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Ask a host: its answer is data, and sets no fact, not even through an action that hands it on."""
        action: Any = super()
        return facts.only_data(action._execute_module(*arguments, **named))

    def work(self, call: Call) -> dict[str, Any]:
        """Do it; return the result's keys (`changed`, `ansible_facts`, …)."""
        raise NotImplementedError

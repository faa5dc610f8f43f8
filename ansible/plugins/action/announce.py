"""Controller side only: tells people what a procedure did; queued durably, never a reason to fail (REC-2)."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.utils.display import Display

from ansible.plugins.action import ActionBase
from infra.notify.announce import announce
from infra.notify.message import Message, message_id, texts
from infra.procedures.action import Call, ProcedureAction
from infra.record import process
from infra.record.model import now
from infra.secrets.catalogue import Channel


class ActionModule(ProcedureAction, ActionBase):
    """`channel` with or without `#`, `title`, `facts` and `links` (mappings), `text`.

    A step that runs again within its operation's run queues its message once. In check mode nothing is sent:
    the result and the summary say what would be.
    """

    arguments: ClassVar[dict[str, Any]] = {
        "channel": {
            "type": "str",
            "required": True,
            "choices": [f"{mark}{each}" for each in Channel for mark in ("#", "")],
        },
        "title": {"type": "str", "required": True},
        "facts": {"type": "dict", "default": {}},
        "links": {"type": "dict", "default": {}},
        "text": {"type": "str", "default": ""},
    }

    def work(self, call: Call) -> dict[str, Any]:
        """Queue it, wait a moment for its delivery."""
        message = self._message(call)
        where = f"#{message.channel}"
        if call.check:
            call.did(f"tell {where}: {message.title}")
            return {"payload": message.payload(), "queued": False, "delivered": False}
        done = announce(call.stack, message)
        if done.delivered:
            call.did(f"told {where}: {message.title}")
        elif done.queued:
            call.did(
                f"queued for {where}, delivered later: {message.title} ({done.problem or 'no answer yet'})"
            )
        else:
            Display().warning(f"the message to {where} could not be queued: {done.problem}")
            call.did(f"could not tell {where}: {message.title} ({done.problem})")
        return {"queued": done.queued, "delivered": done.delivered, "problem": done.problem}

    @staticmethod
    def _message(call: Call) -> Message:
        operation, given = call.operation, call.arguments
        channel = Channel(given["channel"].removeprefix("#"))
        return Message(
            id=message_id(operation.id, str(operation.token), channel, given["title"]),
            channel=channel,
            title=given["title"],
            facts=texts(given["facts"]),
            links=texts(given["links"]),
            text=given["text"],
            at=now(),
            by=process.operator(),
            operation_id=operation.id,
        )

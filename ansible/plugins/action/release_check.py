"""Controller side only: from what the operator named to a verified digest, before anything is touched."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from infra.procedures.action import Call, ProcedureAction
from infra.release.environment import check_release
from infra.release.model import ReleaseError, host_images, short


class ActionModule(ProcedureAction, ActionBase):
    """`release` is a digest, a tag, or a commit or its beginning.

    `record_first` (a rollback) takes a release that the record knows as good, and that is on every host,
    without asking the registry. `hosts` are those that count, all machines unless said otherwise; what is on
    them must have been listed by `release_look` or `release_images`. Returns `release`: {image, digest,
    reference, git_sha, schema_revision, verified: signature|record, local, note}.
    """

    arguments = {  # noqa: RUF012
        "release": {"type": "str", "required": True},
        "record_first": {"type": "bool", "default": False},
        "hosts": {"type": "list", "elements": "str"},
    }
    refusals = (ReleaseError,)

    def work(self, call: Call) -> dict[str, Any]:
        """Ask; changes nothing."""
        on_hosts = host_images(call.variables, call.arguments["hosts"])
        checked = check_release(
            call.outputs,
            call.stack,
            call.arguments["release"],
            on_hosts,
            record_first=call.arguments["record_first"],
        )
        how = "signature verified" if checked.verified == "signature" else "verified earlier, says the record"
        call.did(f"release {short(checked.digest)} of commit {checked.git_sha[:12]}: {how}")
        if checked.note:
            call.say(checked.note)
            call.did(checked.note)
        return {"release": {**checked.model_dump(), "reference": checked.reference}}

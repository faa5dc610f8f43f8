"""From the JSON of `pulumi preview` to a short Markdown report without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"  # noqa: S105 - the engine's marker of a secret, public
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
UNCHANGED = "same"
LONGEST_VALUE = 120
HIDDEN = "[redacted]"
# What must never be shown even if somebody put it in clear text where a reference belongs.
REDACTED = (
    re.compile(r"sk-[A-Za-z0-9_-]{8,}"),
    re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"),
    re.compile(r"(?i)(?<=bearer )(?!\$\{secret:)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(r"AGE-SECRET-KEY-[0-9A-Z]+"),
    re.compile(r"\b(?:gh[opsur]_|github_pat_|xox[a-z]-|sbp_)[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?<=://)(?![^/@\s]*\$\{secret:)[^/@\s:]*:[^/@\s]+(?=@)"),
)


@dataclass(frozen=True)
class Change:
    """One property of one resource: `path` in dotted form, values as text, None where absent."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Step:
    """One resource that the update would touch."""

    operation: str
    type: str
    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Preview:
    """Counts by operation (`create`, `update`, `same`, …), the steps that change something, warnings."""

    counts: Mapping[str, int]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]

    @property
    def changing(self) -> int:
        """Number of resources that the update would touch."""
        return sum(n for operation, n in self.counts.items() if operation != UNCHANGED)


def redact(text: str) -> str:
    """Text with everything that looks like a secret's value blotted out."""
    for pattern in REDACTED:
        text = pattern.sub(HIDDEN, text)
    return text


def _blind(value: Any) -> Any:
    """Value with everything in it that the engine marked as a secret blotted out."""
    if isinstance(value, Mapping):
        if SECRET_SIGNATURE in value:
            return "[secret]"
        return {key: _blind(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_blind(below) for below in value]
    return redact(value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and SECRET_SIGNATURE in value:
        return "[secret]"
    if value == UNKNOWN:
        return "(known after the update)"
    text = redact(value if isinstance(value, str) else repr(_blind(value)))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"


def _is_branch(value: Any) -> bool:
    return isinstance(value, (Mapping, list)) and not (
        isinstance(value, Mapping) and SECRET_SIGNATURE in value
    )


def _items(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    return {f"[{i}]": v for i, v in enumerate(value)}


def differences(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """Leaves in which two JSON values differ; lines of long texts are compared one by one."""
    if before == after:
        return
    if _is_branch(before) and _is_branch(after) and type(before) is type(after):
        old, new = _items(before), _items(after)
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}{key}" if key.startswith("[") else f"{path}.{key}".lstrip(".")
            if key not in new:
                yield Change(below, _text(old[key]), None)
            elif key not in old:
                yield Change(below, None, _text(new[key]))
            else:
                yield from differences(old[key], new[key], below)
        return
    if isinstance(before, str) and isinstance(after, str) and "\n" in before and "\n" in after:
        # Before lines are left out: a key is recognised by its first and last line, which stay the same.
        old_lines, new_lines = redact(before).splitlines(), redact(after).splitlines()
        gone = [line for line in old_lines if line not in new_lines]
        come = [line for line in new_lines if line not in old_lines]
        if old_lines == new_lines:
            gone = come = [HIDDEN]
        yield Change(path, _text("\n".join(gone)) or None, _text("\n".join(come)) or None)
        return
    yield Change(path, _text(before), _text(after))


def parse(document: Mapping[str, Any]) -> Preview:
    """Read the document that `pulumi preview --json` prints.

    Raises:
        ValueError: it has no list of steps, so nothing can be said of it.
    """
    steps = document.get("steps")
    if not isinstance(steps, Sequence):
        raise ValueError("the preview holds no list of steps: was it made with --json, and did it succeed?")
    counts: dict[str, int] = dict(document.get("changeSummary") or {})
    changed = []
    for step in steps:
        if step["op"] == UNCHANGED:
            continue
        before = (step.get("oldState") or {}).get("inputs")
        after = (step.get("newState") or {}).get("inputs")
        changes = tuple(differences(before, after)) if before is not None and after is not None else ()
        kind, _, name = step["urn"].split("::", 2)[2].rpartition("::")
        changed.append(Step(step["op"], kind.rpartition("$")[2], name, changes))
    warnings = tuple(
        redact(d["message"].strip())
        for d in document.get("diagnostics") or ()
        if d.get("severity") == "warning" and d.get("message", "").strip()
    )
    return Preview(counts, tuple(changed), warnings)


def marker(stack: str) -> str:
    """Hidden first line by which a stack's comment is found again."""
    return f"<!-- icupa-preview:{stack} -->"


def markdown(stack: str, preview: Preview, revision: str) -> str:
    """The comment: counts first, then what changes, then warnings."""
    counts = ", ".join(f"{n} {operation}" for operation, n in sorted(preview.counts.items())) or "nothing"
    lines = [
        marker(stack),
        f"### Preview of `{stack}`: {preview.changing} to change",
        "",
        f"`{revision}`: {counts}",
    ]
    if preview.steps:
        lines += ["", "<details><summary>Resources</summary>", ""]
        for step in preview.steps:
            lines.append(f"- **{step.operation}** `{step.type}` `{step.name}`")
            lines += [f"  - `{c.path}`: {_code(c.before)} → {_code(c.after)}" for c in step.changes]
        lines += ["", "</details>"]
    lines += [f"\n> {warning}" for warning in preview.warnings]
    return "\n".join(lines) + "\n"


def _code(text: str | None) -> str:
    if text is None:
        return "(none)"
    return "`" + text.replace("`", "'").replace("\n", " ⏎ ") + "`"

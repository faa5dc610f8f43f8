"""What the record holds, as types: state, lock, events. Every type is frozen; changes make new values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from infra.services.model import Slot

NO_HASH = "0" * 64
"""`previous` of the first event."""

_RELEASES_KEPT = 20

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Utc = Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC))]


def now() -> datetime:
    """Wall clock, UTC."""
    return datetime.now(UTC)


def canonical(document: Any) -> bytes:
    """The one encoding of a JSON document that hashes are made of."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


class Switch(StrEnum):
    """Switches of the service (CFG-2)."""

    AI_REALTIME_ENABLED = "AI_REALTIME_ENABLED"
    AI_RESPONSES_ENABLED = "AI_RESPONSES_ENABLED"
    WHATSAPP_INTEGRATION_ENABLED = "WHATSAPP_INTEGRATION_ENABLED"
    FEATURE_AGENT_CHAT = "FEATURE_AGENT_CHAT"
    FEATURE_AGENT_VOICE = "FEATURE_AGENT_VOICE"
    FEATURE_AGENT_VOUCHERS = "FEATURE_AGENT_VOUCHERS"


class Result(StrEnum):
    """How an operation, or a step of it, ended."""

    STARTED = "started"
    OK = "ok"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"
    UNCERTAIN = "uncertain"


class Model(BaseModel):
    """Base of what is stored: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Release(Model):
    """An image that was put into service: `image` without tag or digest."""

    image: Text
    digest: Digest
    git_sha: Text
    deployed_at: Utc
    by: Text

    @property
    def reference(self) -> str:
        """`image@digest`, as engines pull it."""
        return f"{self.image}@{self.digest}"


class HostState(Model):
    """What runs on a host: the digest in each slot (None: never used), the slot that serves, those that run.

    Both run while a release is being put in place of another; the active one always does.
    """

    active_slot: Slot = Slot.BLUE
    slots: dict[Slot, Digest | None]
    running: tuple[Slot, ...] = ()
    """In the order of their names; the active one where none is named."""

    @classmethod
    def first(cls, release: Release) -> Self:
        """What runs on a host that nothing was deployed to yet: the release, in the first slot."""
        return cls(slots={Slot.BLUE: release.digest, Slot.GREEN: None})

    @model_validator(mode="before")
    @classmethod
    def _running_in_order(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        running = fields.get("running") or (fields.get("active_slot", Slot.BLUE),)
        # A slot that is none stays for the type to refuse.
        return {**fields, "running": tuple(sorted(set(running), key=str))}

    @model_validator(mode="after")
    def _slots_have_images(self) -> Self:
        if set(self.slots) != set(Slot):
            raise ValueError("slots must name blue and green")
        if self.slots[self.active_slot] is None:
            raise ValueError("the active slot must hold a digest")
        if self.active_slot not in self.running:
            raise ValueError("the active slot must run")
        if any(self.slots[slot] is None for slot in self.running):
            raise ValueError("a slot that runs must hold a digest")
        return self

    @property
    def digest(self) -> str:
        """What serves."""
        digest = self.slots[self.active_slot]
        if digest is None:
            raise AssertionError("an active slot without a digest was accepted")
        return digest

    @property
    def digests(self) -> frozenset[str]:
        """What runs."""
        return frozenset(digest for slot in self.running if (digest := self.slots[slot]))

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated."""
        return type(self).model_validate({**dict(self), **fields})


class Window(Model):
    """A planned maintenance that was announced (DEP-6); `done` names the steps of it that are over."""

    at: Utc
    announced_at: Utc
    why: str = ""
    by: str = ""
    short_notice: str = ""
    done: tuple[Text, ...] = ()


class Maintenance(Model):
    """Whether the environment shows its maintenance answer; `message` says why.

    `window` is the next planned one, or the one that goes on; `completed`: for when the last one was planned.
    """

    enabled: bool = False
    message: str = ""
    since: Utc | None = None
    by: str = ""
    window: Window | None = None
    completed: Utc | None = None


class RotationPhase(StrEnum):
    """How far a secret's rotation is; each is entered before what it names is done."""

    CREATING = "creating"
    """Its issuer is asked for another value, which is then staged in the store."""
    STAGED = "staged"
    """Both are valid, the old one is used."""
    OFFERED = "offered"
    """Hosts are given the new one."""
    VERIFIED = "verified"
    """All consumers have it, and it works for them."""
    PROMOTED = "promoted"
    """The store gives the new one to everybody."""
    REVOKED = "revoked"
    """The old one is made invalid and forgotten; afterwards the rotation leaves the state."""
    UNDOING = "undoing"
    """Consumers go back to the old one; then the new one is made invalid and forgotten."""


class Rotation(Model):
    """A secret's rotation that is under way; no values.

    `label` is what the new value is called at its issuer, `new_id` and `old_id` the issuer's names of both.
    `offered`: hosts may have been given the new one. `slots`: the slot of each host that serves with it.
    """

    operation: Text
    phase: RotationPhase
    label: Text
    old_id: str | None = None
    new_id: str | None = None
    started_at: Utc
    offered: bool = False
    slots: dict[Name, Slot] = Field(default_factory=dict)

    @property
    def hosts_get_new(self) -> bool:
        """Whether hosts are given the new value, where the store does not give it to everybody yet."""
        return self.phase in (RotationPhase.OFFERED, RotationPhase.VERIFIED, RotationPhase.PROMOTED)

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated."""
        return type(self).model_validate({**dict(self), **fields})


class Holder(Model):
    """Who holds the lease; `process` is one on `host` that lives as long as the operation, if any."""

    who: Text
    host: Text
    process: str | None = None
    operation: Text
    operation_id: Text
    why: str = ""


class Lock(Model):
    """The lease as the log knows it; `ttl` in seconds."""

    token: int = Field(ge=1)
    holder: Holder
    acquired_at: Utc
    ttl: float = Field(gt=0)


class State(Model):
    """What procedures change, at one moment."""

    schema_version: Literal[1] = 1
    release: Release
    previous_releases: tuple[Release, ...] = ()
    """Newest first; the whole history is in the log."""
    hosts: dict[Name, HostState] = Field(min_length=1)
    switches: dict[Switch, bool]
    maintenance: Maintenance = Maintenance()
    active_region: Name
    active_host: Name
    rotations: dict[Name, Rotation] = Field(default_factory=dict)
    """By name of the secret."""
    lock: Lock | None = None
    fencing_token: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.switches) != set(Switch):
            missing = sorted(set(Switch) - set(self.switches))
            raise ValueError(f"switches must name all of them, missing: {', '.join(missing)}")
        if self.active_host not in self.hosts:
            raise ValueError(f"active_host {self.active_host} is none of the hosts: {', '.join(self.hosts)}")
        if self.lock is not None and self.lock.token != self.fencing_token:
            raise ValueError("the lock's token must be the last one given")
        return self

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated."""
        return type(self).model_validate({**dict(self), **fields})

    def with_release(self, release: Release) -> Self:
        """The release becomes the running one; the former goes to the head of `previous_releases`."""
        if release == self.release:
            return self
        return self.changed(
            release=release, previous_releases=(self.release, *self.previous_releases)[:_RELEASES_KEPT]
        )

    def with_release_undone(self, release: Release) -> Self:
        """The running release is given up for another: no later rollback goes to it, or to one in between."""
        digests = [former.digest for former in self.previous_releases]
        older = digests.index(release.digest) + 1 if release.digest in digests else 0
        served = {release.digest, self.release.digest}
        kept = [former for former in self.previous_releases[older:] if former.digest not in served]
        return self.changed(release=release, previous_releases=kept)

    def with_new_hosts(self, names: Iterable[str]) -> Self:
        """Hosts that are not known yet join, with the running release in their first slot."""
        added = {name: HostState.first(self.release) for name in names if name not in self.hosts}
        return self.changed(hosts={**self.hosts, **added}) if added else self

    def with_host(self, name: str, **fields: Any) -> Self:
        """Some fields of a host are replaced."""
        return self.changed(hosts={**self.hosts, name: self.host(name).changed(**fields)})

    def with_slot(self, host: str, slot: Slot, digest: str) -> Self:
        """A digest was put into a slot of a host."""
        return self.with_host(host, slots={**self.host(host).slots, slot: digest})

    def with_active_slot(self, host: str, slot: Slot) -> Self:
        """Another slot of a host serves, and so runs; what else runs stays."""
        return self.with_host(host, active_slot=slot, running=(*self.host(host).running, slot))

    def with_running(self, host: str, *slots: Slot) -> Self:
        """These slots of a host run, and no other."""
        return self.with_host(host, running=slots)

    def with_switches(self, switches: Mapping[Switch, bool]) -> Self:
        """Some switches are set."""
        return self.changed(switches={**self.switches, **switches})

    def with_maintenance(self, enabled: bool, *, message: str = "", by: str = "") -> Self:
        """The maintenance answer is shown, or no more; where that is so already, nothing changes."""
        found = self.maintenance
        if found.enabled == enabled:
            return self
        return self._with_maintenance(
            enabled=enabled,
            message=message if enabled else "",
            since=now() if enabled else None,
            by=by if enabled else "",
        )

    def with_window(self, window: Window | None) -> Self:
        """A maintenance is planned, or no more."""
        return self._with_maintenance(window=window)

    def with_window_step(self, step: str) -> Self:
        """A step of the planned maintenance is over; raises ValueError where none is planned."""
        window = self.maintenance.window
        if window is None:
            raise ValueError(f"step {step} of a maintenance that nobody has planned")
        if step in window.done:
            return self
        return self.with_window(Window(**{**dict(window), "done": (*window.done, step)}))

    def with_window_completed(self) -> Self:
        """The planned maintenance is over."""
        window = self.maintenance.window
        if window is None:
            return self
        return self._with_maintenance(window=None, completed=window.at)

    def _with_maintenance(self, **fields: Any) -> Self:
        return self.changed(maintenance=Maintenance(**{**dict(self.maintenance), **fields}))

    def with_rotations(self, rotations: Mapping[str, Rotation | None]) -> Self:
        """Some rotations are replaced; None: they are over."""
        kept = {**self.rotations, **rotations}
        return self.changed(rotations={name: found for name, found in kept.items() if found is not None})

    def with_active(self, region: str, host: str) -> Self:
        """Another region and host take the traffic."""
        return self.changed(active_region=region, active_host=host)

    def host(self, name: str) -> HostState:
        """State of one host; KeyError names those that there are."""
        if name not in self.hosts:
            raise KeyError(f"the record knows no host {name}; it knows {', '.join(self.hosts)}")
        return self.hosts[name]

    def runtime(self, name: str) -> dict[str, Any]:
        """What roles need of a host: slots, image by slot, switches as `true` and `false`, maintenance.

        A slot that was never used names the active one's image: it is not started, but Compose wants one.
        `fallback` is the other slot while it runs and holds the last good release: what is only being started
        must not get requests because the slot that serves is in trouble. Nor must what is started with a
        secret's new value, which nobody has tried yet.
        """
        host, image = self.host(name), self.release.image
        other = host.active_slot.other
        untried = {
            each.slots.get(name) for each in self.rotations.values() if each.phase is RotationPhase.OFFERED
        }
        good = other in host.running and host.slots[other] == self.release.digest and other not in untried
        return {
            "active_slot": host.active_slot.value,
            "running": [slot.value for slot in host.running],
            "fallback": other.value if good else None,
            "images": {slot.value: f"{image}@{host.slots[slot] or host.digest}" for slot in Slot},
            "switches": {switch.value: str(value).lower() for switch, value in self.switches.items()},
            "maintenance": self.maintenance.enabled,
        }


class Event(Model):
    """One entry of the log. `state` is the whole state after it, None where it changed nothing.

    `previous` is the hash of the event before; `hash` that of this one's canonical JSON without `hash`.
    """

    schema_version: Literal[1] = 1
    seq: int = Field(ge=1)
    id: Text
    at: Utc
    who: Text
    host: Text
    action: Name
    operation_id: str | None = None
    result: Result = Result.OK
    digest: Digest | None = None
    duration: float | None = Field(default=None, ge=0)
    """Seconds."""
    why: str = ""
    token: int | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    state: State | None = None
    previous: Hash
    hash: Hash

    @classmethod
    def seal(cls, fields: Mapping[str, Any]) -> Event:
        """Make an event of all its fields but `hash`."""
        unsealed = cls.model_validate({**fields, "hash": NO_HASH})
        return unsealed.model_copy(update={"hash": digest_of(unsealed.model_dump(mode="json"))})

    def encode(self) -> bytes:
        """Bytes of the stored object."""
        return canonical(self.model_dump(mode="json"))


def digest_of(document: Mapping[str, Any]) -> str:
    """Hash of an event's JSON; its own `hash` is left out."""
    return hashlib.sha256(canonical({k: v for k, v in document.items() if k != "hash"})).hexdigest()


class Head(Model):
    """The last event that a checkpoint has in it."""

    seq: int = Field(ge=1)
    hash: Hash


class Checkpoint(Model):
    """`state.json`: the state after `head`. The log is the truth, this saves reading all of it."""

    head: Head
    state: State

    def encode(self) -> bytes:
        """Bytes of the stored object."""
        return canonical(self.model_dump(mode="json"))

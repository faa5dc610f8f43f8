"""Ages of an environment's secrets against their periods; read from what stands in clear (SEC-2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from infra.paths import is_local
from infra.secrets.catalogue import CATALOGUE, Period
from infra.secretstore.errors import SecretStoreError
from infra.secretstore.store import Entry


@dataclass(frozen=True)
class Age:
    """Age of one stored secret at the moment `at`."""

    entry: Entry
    at: datetime

    @property
    def name(self) -> str:
        """Name of the secret."""
        return self.entry.name

    @property
    def period(self) -> Period:
        """How long its value may be used."""
        return CATALOGUE[self.name].rotation.period

    @property
    def days(self) -> int:
        """Whole days since it was set."""
        return (self.at - self.entry.created_at).days

    @property
    def due(self) -> datetime | None:
        """When it has to be replaced, None where age is no reason to."""
        limit = self.period.limit
        return None if limit is None else self.entry.created_at + limit

    @property
    def overdue(self) -> bool:
        """Whether it should have been replaced."""
        return self.due is not None and self.at > self.due

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "name": self.name,
            "owner": CATALOGUE[self.name].rotation.owner.value,
            "set_at": self.entry.created_at.isoformat(),
            "by": self.entry.by,
            "age_days": self.days,
            "period": self.period.value,
            "due": self.due.isoformat() if self.due else None,
            "overdue": self.overdue,
        }


def moment(text: str | None) -> datetime:
    """A moment as operators write it, `2027-03-01T00:00Z`; now where there is none.

    Raises:
        SecretStoreError: it is no moment, or has no time zone.
    """
    if not text:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise SecretStoreError(f"at: {text!r} is no moment; accepted: 2027-03-01T00:00Z, with its time zone")
    return found.astimezone(UTC)


def ages(entries: Mapping[str, Entry], at: datetime) -> list[Age]:
    """Ages of all that is stored and known; overdue ones first, then by when they are due."""
    known = [Age(entry, at) for name, entry in entries.items() if name in CATALOGUE]
    return sorted(known, key=lambda age: (age.due is None, age.due or at, age.name))


def by_owner(found: Sequence[Age]) -> dict[str, str]:
    """Overdue secrets in words, by their owner."""
    told: dict[str, list[str]] = {}
    for age in found:
        if age.overdue:
            owner = CATALOGUE[age.name].rotation.owner.value
            told.setdefault(owner, []).append(f"{age.name} ({age.days} d, {age.period})")
    return {owner: ", ".join(names) for owner, names in told.items()}


def missing(entries: Mapping[str, Entry], stack: str) -> list[str]:
    """Names of the catalogue without a value; an environment need not use all of them."""
    return [
        name
        for name, secret in CATALOGUE.items()
        if name not in entries and (not secret.local or is_local(stack))
    ]


def metrics(found: Sequence[Age], environment: str, at: datetime) -> str:
    """Metrics in Prometheus's text format.

    Moments rather than ages: they stay true however late they are read, so `time() > icupa_secret_due…`
    alerts also where the check itself no longer runs.
    """
    registry = CollectorRegistry()
    labels = ("environment", "secret", "owner")
    created = Gauge(
        "icupa_secret_created_timestamp_seconds", "When the value was set", labels, registry=registry
    )
    due = Gauge(
        "icupa_secret_due_timestamp_seconds", "When the value has to be replaced", labels, registry=registry
    )
    overdue = Gauge("icupa_secret_overdue", "1 where it should have been replaced", labels, registry=registry)
    checked = Gauge(
        "icupa_secrets_checked_timestamp_seconds",
        "When ages were last compared",
        ("environment",),
        registry=registry,
    )
    for age in found:
        values = (environment, age.name, CATALOGUE[age.name].rotation.owner.value)
        created.labels(*values).set(age.entry.created_at.timestamp())
        if age.due is not None:
            due.labels(*values).set(age.due.timestamp())
            overdue.labels(*values).set(age.overdue)
    checked.labels(environment).set(at.timestamp())
    return generate_latest(registry).decode()

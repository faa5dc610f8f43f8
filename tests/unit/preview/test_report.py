"""A preview's report: counts, the changed property, and no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.preview.__main__ import comment
from infra.preview.report import SECRET_SIGNATURE, differences, markdown, parse, redact


def step(op: str, before: Any, after: Any, name: str = "primary") -> dict[str, Any]:
    return {
        "op": op,
        "urn": f"urn:pulumi:local::icupa::icupa:runtimes:Vm$pulumi:index:Stash::{name}",
        "oldState": {"inputs": before},
        "newState": {"inputs": after},
    }


def test_a_changed_variable_is_one_change_and_is_shown() -> None:
    before = {"input": {"env_files": {"agents-service.env": {"AGENT_DAILY_BUDGET_USD": "50", "A": "1"}}}}
    after = {"input": {"env_files": {"agents-service.env": {"AGENT_DAILY_BUDGET_USD": "60", "A": "1"}}}}
    document = {
        "steps": [step("update", before, after), step("same", after, after, "standby")],
        "changeSummary": {"update": 1, "same": 1},
    }
    preview = parse(document)
    assert preview.changing == 1
    assert [c.path for s in preview.steps for c in s.changes] == [
        "input.env_files.agents-service.env.AGENT_DAILY_BUDGET_USD"
    ]
    text = markdown("local", preview, "abc1234")
    assert "1 to change" in text
    assert "`50` → `60`" in text


def test_values_of_secrets_are_not_shown() -> None:
    secret = {SECRET_SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:abc"}
    before = {"password": secret, "key": "sk-abcdefghijklmnop"}
    after = {"password": {**secret, "ciphertext": "v1:def"}, "key": "${secret:openai-api-key}"}
    text = markdown("local", parse({"steps": [step("update", before, after)], "changeSummary": {}}), "x")
    assert "v1:" not in text
    assert "sk-abc" not in text
    assert "${secret:openai-api-key}" in text


@pytest.mark.parametrize(
    "planted",
    [
        "sk-proj-0123456789abcdef",
        "Bearer abcdefghijkl",
        "eyJhbGciOi.eyJzdWIi.c2lnbmF0",
        "AGE-SECRET-KEY-1QQPZ",
        "ghp_0123456789abcdef",
        "xoxb-0123-456789-abcdef",
        "sbp_0123456789abcdef",
    ],
)
def test_redaction_blots_out(planted: str) -> None:
    value = planted.removeprefix("Bearer ")
    assert value not in redact(f"before {planted} after")


def test_a_password_in_a_url_is_not_shown_and_a_reference_is() -> None:
    assert redact("postgresql://agents:hunter2@db:5432/x") == "postgresql://[redacted]@db:5432/x"
    kept = "postgresql://agents:${secret:postgres-password}@db:5432/x and https://host:443/a@b"
    assert redact(kept) == kept


def _key(body: str) -> str:
    begin, end = (f"-----{word} PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return f"name: x\n{begin}\n{body}\n{end}\n"


def test_the_changed_lines_of_a_key_are_not_shown() -> None:
    (change,) = differences({"content": _key("MIIold")}, {"content": _key("MIInew")})
    assert (change.path, change.before, change.after) == ("content", "[redacted]", "[redacted]")


def test_secrets_inside_something_new_are_not_shown() -> None:
    marked = {SECRET_SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"hunter2"'}
    (change,) = differences({}, {"login": [marked, "alice"]})
    assert change.after == "['[secret]', 'alice']"


def test_a_reference_in_a_header_is_kept() -> None:
    header = "Authorization=Bearer ${secret:otlp-token}"
    assert redact(header) == header


def test_long_texts_show_their_changed_lines_only() -> None:
    (change,) = differences({"content": "a\nb\nc"}, {"content": "a\nB\nc"})
    assert (change.path, change.before, change.after) == ("content", "b", "B")


def test_added_and_removed_list_items() -> None:
    changes = list(differences({"l": [1, 2]}, {"l": [1]}))
    assert [(c.path, c.before, c.after) for c in changes] == [("l[1]", "2", None)]


def test_a_document_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="no list of steps"):
        parse({})


@pytest.mark.parametrize("author", ["github-actions[bot]", "alice"])
def test_one_comment_a_stack(monkeypatch: pytest.MonkeyPatch, author: str) -> None:
    import httpx  # noqa: PLC0415 - patched below

    calls: list[tuple[str, str]] = []
    first = "<!-- icupa-preview:local -->\n"
    comments = [
        {"id": 6, "body": f"{first}0 to change", "user": {"login": "mallory"}},
        {"id": 7, "body": f"{first}old", "user": {"login": author}},
        {"id": 8, "body": "hello", "user": {"login": author}},
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/user":
            workflow = author.endswith("[bot]")
            return httpx.Response(403) if workflow else httpx.Response(200, json={"login": author})
        if request.method == "GET":
            return httpx.Response(200, text=json.dumps(comments))
        calls.append((request.method, request.url.path))
        return httpx.Response(200, json={})

    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **k: real(transport=httpx.MockTransport(handler), **k))
    comment("icupa/runbooks#5", "local", f"{first}new", "t")
    comment("icupa/runbooks#5", "staging", "<!-- icupa-preview:staging -->\nnew", "t")
    assert calls == [
        ("PATCH", "/repos/icupa/runbooks/issues/comments/7"),
        ("POST", "/repos/icupa/runbooks/issues/5/comments"),
    ]

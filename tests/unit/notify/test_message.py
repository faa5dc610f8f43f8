"""How a message is written, and what is taken out of it."""

from __future__ import annotations

import json

from infra.notify.message import message_id, texts
from infra.secretstore.redaction import redaction
from tests.unit.notify.conftest import Write

KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49\nshort\n-----END PRIVATE KEY-----\n"


def test_facts_links_and_text_are_blocks_in_their_order(write: Write) -> None:
    message = write(
        "deploy: ok",
        facts=(("digest", "sha256:1"), ("took", "9.1 s")),
        links=(("change log", "https://example.com/log"),),
        text="as planned",
    )

    payload = message.payload()

    assert payload["text"] == "deploy: ok (digest: sha256:1; took: 9.1 s)"
    header, facts, text, links, context = payload["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "deploy: ok", "emoji": False}
    assert [field["text"] for field in facts["fields"]] == ["*digest*\nsha256:1", "*took*\n9.1 s"]
    assert text["text"]["text"] == "as planned"
    assert links["text"]["text"] == "<https://example.com/log|change log>"
    assert context["elements"][0]["text"] == "alice, 2026-01-02 03:04:05 UTC"


def test_markup_in_values_is_only_text(write: Write) -> None:
    payload = write("a", facts=(("b", "<!channel> & <https://evil.example|here>"),)).payload()
    shown = "&lt;!channel&gt; &amp; &lt;https://evil.example|here&gt;"
    assert payload["blocks"][1]["fields"][0]["text"] == f"*b*\n{shown}"
    assert payload["text"] == f"a (b: {shown})"


def test_what_is_no_link_can_not_speak_to_everybody(write: Write) -> None:
    links = (
        ("incident", "https://a.example|b> <!channel>"),
        ("status", "javascript:alert(1)"),
        ("none", "INC-7"),
    )
    shown = write("a", links=links).payload()["blocks"][1]["text"]["text"]
    assert shown == (
        "incident: https://a.example|b&gt; &lt;!channel&gt; | status: javascript:alert(1) | none: INC-7"
    )


def test_what_is_too_long_for_slack_is_cut(write: Write) -> None:
    facts = tuple((f"fact {number}", "x" * 5000) for number in range(23))
    payload = write("t" * 400, facts=facts, text="y" * 9000).payload()
    assert len(payload["text"]) <= 3000
    assert len(payload["blocks"][0]["text"]["text"]) == 150
    fields = [block["fields"] for block in payload["blocks"] if "fields" in block]
    assert [len(each) for each in fields] == [10, 10, 3]
    assert max(len(field["text"]) for each in fields for field in each) <= 2000
    assert len(payload["blocks"][4]["text"]["text"]) <= 3000


def test_no_value_of_a_secret_is_left_anywhere(write: Write) -> None:
    values = {"slack-token": "xoxb-0123456789", "image-signing-key": KEY, "short": "abc"}
    message = write(
        "failed with xoxb-0123456789",
        facts=(("log of xoxb-0123456789", "…MIGHAgEAMBMGByqGSM49AgEGCCqGSM49…"), ("abc", "abcdef")),
        links=(("xoxb-0123456789", "https://example.com/?t=xoxb-0123456789"),),
        text=f"xoxb-0123456789\n{KEY}",
    ).redacted(redaction(values))

    said = json.dumps(message.model_dump(mode="json"))

    assert "xoxb-" not in said
    assert "MIGHAg" not in said
    assert "(secret slack-token)" in message.title
    assert "(secret image-signing-key)" in message.facts[0][1]
    assert message.facts[1] == ("abc", "abcdef")


def test_a_longer_secret_is_taken_out_before_one_that_it_begins_with() -> None:
    redact = redaction({"first": "12345678", "second": "12345678-and-more"})
    assert redact("12345678-and-more, 12345678") == "(secret second), (secret first)"


def test_values_become_texts_and_what_says_nothing_is_left_out() -> None:
    given = {"on": True, "off": False, "none": None, "empty": "", "list": [1, "b"], "map": {"a": False}}
    assert texts(given) == (("on", "yes"), ("off", "no"), ("list", "1, b"), ("map", "a: no"))
    assert texts(None) == ()


def test_the_same_step_of_the_same_run_has_the_same_id() -> None:
    assert message_id("deploy-1", "7", "status", "ok") == message_id("deploy-1", "7", "status", "ok")
    assert message_id("deploy-1", "7", "status", "ok") != message_id("deploy-1", "8", "status", "ok")
    assert message_id("ab", "c") != message_id("a", "bc")

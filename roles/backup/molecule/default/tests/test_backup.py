"""What a host encrypts with is there, whoever brought it."""

from __future__ import annotations

from testinfra.host import Host


def test_a_text_is_encrypted_for_a_recipient_and_opened_by_its_identity(host: Host) -> None:
    said = host.check_output(
        "set -eu; umask 077; age-keygen -o /tmp/identity 2>/dev/null;"
        " echo plain | age -r $(age-keygen -y /tmp/identity) > /tmp/encrypted;"
        " ! grep -q plain /tmp/encrypted; age -d -i - /tmp/encrypted < /tmp/identity"
    )
    assert said == "plain"

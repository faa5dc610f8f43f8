"""The role changes nothing, also where it refuses; what it refuses is asserted in converge.yml."""

from __future__ import annotations

from testinfra.host import Host


def test_nothing_was_written(host: Host) -> None:
    written = host.check_output(
        "find /etc /usr /opt /root /home /srv /var/lib -xdev -type f -newer /run/before-the-role"
    )
    assert [path for path in written.splitlines() if not path.startswith("/var/lib/systemd/")] == []


def test_systemd_is_running(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"

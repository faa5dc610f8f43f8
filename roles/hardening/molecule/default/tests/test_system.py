"""Kernel settings, journal, updates, cron: in force, not only in files."""

from __future__ import annotations

from tests.molecule.machine import Machine


def test_kernel_settings_are_in_force(machine: Machine) -> None:
    lines = machine.shell("grep -v '^#' /etc/sysctl.d/90-icupa.conf").splitlines()
    wanted = dict(line.split(" = ") for line in lines)
    assert wanted["net.ipv4.ip_forward"] == "1"
    assert len(wanted) >= 10
    for name, value in wanted.items():
        path = "/proc/sys/" + name.replace(".", "/")
        assert set(machine.shell(f"cat {path}").splitlines()) == {value}, name
    assert not [name for name in wanted if not name.startswith("net.")]


def test_the_journal_is_kept(machine: Machine) -> None:
    mark = machine.shell("cat /proc/sys/kernel/random/uuid")
    machine.shell(f"logger {mark}; journalctl --sync")
    machine.reboot()
    assert mark in machine.shell("journalctl --no-pager --quiet SYSLOG_IDENTIFIER=root")
    settings = machine.shell("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=1G" in settings.splitlines()


def test_only_security_updates_install_themselves(machine: Machine) -> None:
    settings = machine.shell("apt-config dump Unattended-Upgrade; apt-config dump APT::Periodic").splitlines()
    origins = [line for line in settings if line.startswith("Unattended-Upgrade::Origins-Pattern::")]
    assert len(origins) == 3
    assert all("ecurity" in line for line in origins)
    assert not [line for line in settings if line.startswith("Unattended-Upgrade::Allowed-Origins::")]
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert machine.shell("systemctl is-enabled apt-daily-upgrade.timer") == "enabled"


def test_only_root_has_a_crontab(machine: Machine) -> None:
    if machine.run("sh", "-c", "command -v crontab").code == 0:
        assert "not allowed" in machine.run("runuser", "-u", "ops", "--", "crontab", "-l").output
    assert machine.shell("stat --format %a /etc/cron.daily") == "700"
    assert machine.shell("cat /etc/cron.allow") == "root"


def test_no_core_is_dumped(machine: Machine) -> None:
    assert machine.shell("runuser -u ops -- sh -c 'ulimit -Hc'") == "0"


def test_everything_is_running(machine: Machine) -> None:
    assert machine.shell("systemctl is-system-running") == "running"

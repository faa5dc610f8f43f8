"""What the docker stand-in asks of the engine."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from infra.providers.docker_container import Container, container_config, nanoseconds, upload_archive
from infra.providers.shapes import resource_shape

# Inputs that say how the stand-in acts, or that are asked for by requests of their own.
NOT_IN_CREATE = {
    *("attach", "containerReadRefreshTimeoutMilliseconds", "destroyGraceSeconds", "logs", "mustRun"),
    *("name", "networksAdvanced", "removeVolumes", "start", "uploads", "wait", "waitTimeout"),
}
VALUES: dict[str, Any] = {
    "capabilities": {"adds": ["CAP_NET_ADMIN"]},
    "cpus": "1.5",
    "devices": [{"hostPath": "/dev/null"}],
    "healthcheck": {"tests": ["CMD", "true"], "interval": "1m30s", "retries": 2},
    "hosts": [{"host": "a", "ip": "10.0.0.1"}],
    "labels": [{"label": "a", "value": "b"}],
    "logOpts": {"max-size": "1m"},
    "mounts": [{"target": "/a", "type": "volume", "source": "v"}],
    "ports": [{"internal": 80, "external": 8080, "ip": "127.0.0.1"}],
    "securityOpts": ["seccomp=unconfined", "systempaths=unconfined"],
    "tmpfs": {"/run": "size=1m"},
    "ulimits": [{"name": "nofile", "soft": 1, "hard": 2}],
    "volumes": [{"containerPath": "/a", "hostPath": "/b", "readOnly": True}],
    "restart": "always",
}


def config(**inputs: Any) -> dict[str, Any]:
    return container_config({**Container.defaults, "name": "a", "image": "i", **inputs})


def sample(name: str) -> Any:
    field = resource_shape("pulumi_docker", Container.token).inputs.fields[name]
    if name in VALUES:
        return VALUES[name]
    if field.items is not None:
        return {"k": "v"} if field.is_map else ["v"]
    return {bool: not Container.defaults.get(name, False), int: 7, str: "v"}[field.scalar or str]


@pytest.mark.parametrize(
    "name",
    sorted(
        set(resource_shape("pulumi_docker", Container.token).inputs.fields)
        - NOT_IN_CREATE
        - Container.unsupported
    ),
)
def test_every_supported_input_reaches_the_engine(name: str) -> None:
    assert config(**{name: sample(name)}) != config()


def test_limits_are_mebibytes_and_durations_nanoseconds() -> None:
    made = config(memory=256, memorySwap=-1, shmSize=64, cpus="1.5", healthcheck=VALUES["healthcheck"])
    host = made["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (256 * 2**20, -1, 64 * 2**20)
    assert host["NanoCpus"] == 1_500_000_000
    assert made["Healthcheck"]["Interval"] == 90 * 10**9


def test_system_paths_are_translated_as_the_command_line_does() -> None:
    host = config(securityOpts=VALUES["securityOpts"])["HostConfig"]
    assert host["SecurityOpt"] == ["seccomp=unconfined"]
    assert host["MaskedPaths"] == host["ReadonlyPaths"] == []
    assert "MaskedPaths" not in config(securityOpts=["seccomp=unconfined"])["HostConfig"]


def test_ports_are_exposed_and_bound() -> None:
    made = config(ports=[{"internal": 53, "protocol": "udp"}, *VALUES["ports"]])
    assert set(made["ExposedPorts"]) == {"53/udp", "80/tcp"}
    assert made["HostConfig"]["PortBindings"] == {
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": ""}],  # noqa: S104 - what the engine calls everywhere
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
    }


def test_volumes_become_binds_and_anonymous_volumes() -> None:
    made = config(
        volumes=[
            {"containerPath": "/a", "volumeName": "v"},
            {"containerPath": "/b", "hostPath": "/h", "readOnly": True, "selinuxRelabel": "z"},
            {"containerPath": "/c"},
            {"fromContainer": "other"},
        ]
    )
    assert made["HostConfig"]["Binds"] == ["v:/a:rw", "/h:/b:ro,z"]
    assert made["Volumes"] == {"/c": {}}
    assert made["HostConfig"]["VolumesFrom"] == ["other"]


def test_an_upload_is_one_file_below_the_root() -> None:
    archive = upload_archive(
        {"file": "/etc/a", "contentBase64": "aGk=", "permissions": "0600", "owner": "10", "group": "20"}
    )
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        (member,) = opened.getmembers()
        content = opened.extractfile(member)
        assert content is not None
        assert content.read() == b"hi"
    assert (member.name, member.mode, member.uid, member.gid) == ("etc/a", 0o600, 10, 20)


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("250ms", 250_000_000), ("1h2m", 3720 * 10**9)])
def test_durations(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize("text", ["5", "5 s", "s", "1d", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        nanoseconds(text)

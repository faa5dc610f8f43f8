"""Containers for the stand-in of the docker plugin (`infra.providers.docker`)."""

from __future__ import annotations

import base64
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from infra.providers.docker_engine import Engine, Handler, labels, pull_image, unsupported
from infra.providers.server import Failure, Properties, ProviderError, is_unknown

_MIB = 1024 * 1024
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_LOG_LINES = 15
_MOUNTS = frozenset({"bind", "volume", "tmpfs"})
_UNSUPPORTED_OF_NETWORKS = frozenset({"driverOpts", "gwPriority"})
_MODE = 0o644
_MODE_EXECUTABLE = 0o744

# Properties that the engine's API takes as they are, by its name for them.
_CONFIG = {
    "hostname": "Hostname",
    "domainname": "Domainname",
    "user": "User",
    "tty": "Tty",
    "stdinOpen": "OpenStdin",
    "stopSignal": "StopSignal",
    "stopTimeout": "StopTimeout",
    "workingDir": "WorkingDir",
    "envs": "Env",
    "command": "Cmd",
    "entrypoints": "Entrypoint",
    "image": "Image",
}
_HOST_CONFIG = {
    "privileged": "Privileged",
    "publishAllPorts": "PublishAllPorts",
    "runtime": "Runtime",
    "rm": "AutoRemove",
    "readOnly": "ReadonlyRootfs",
    "tmpfs": "Tmpfs",
    "dns": "Dns",
    "dnsOpts": "DnsOptions",
    "dnsSearches": "DnsSearch",
    "cpuPeriod": "CpuPeriod",
    "cpuQuota": "CpuQuota",
    "cpuShares": "CpuShares",
    "cpuSet": "CpusetCpus",
    "networkMode": "NetworkMode",
    "usernsMode": "UsernsMode",
    "pidMode": "PidMode",
    "ipcMode": "IpcMode",
    "sysctls": "Sysctls",
    "groupAdds": "GroupAdd",
    "cgroupnsMode": "CgroupnsMode",
    "cgroupParent": "CgroupParent",
    "storageOpts": "StorageOpt",
    "init": "Init",
    "deviceCgroupRules": "DeviceCgroupRules",
}
_MEBIBYTES = {
    "memory": "Memory",
    "memoryReservation": "MemoryReservation",
    "memorySwap": "MemorySwap",
    "shmSize": "ShmSize",
}
# Properties that can be changed while the container runs, by the engine's name for them.
_LIVE = ("cpuShares", "cpuSet", "memory", "memoryReservation", "memorySwap", "restart", "maxRetryCount")


class Container(Handler):
    """A container of the engine."""

    token = "docker:index/container:Container"  # noqa: S105 - a type token
    defaults: ClassVar[Mapping[str, Any]] = {
        "attach": False,
        "containerReadRefreshTimeoutMilliseconds": 15000,
        "init": False,
        "logs": False,
        "memoryReservation": 0,
        "mustRun": True,
        "networkMode": "bridge",
        "readOnly": False,
        "removeVolumes": True,
        "restart": "no",
        "rm": False,
        "start": True,
        "stdinOpen": False,
        "tty": False,
        "wait": False,
        "waitTimeout": 60,
    }
    updatable = frozenset(
        {
            *_LIVE,
            "attach",
            "containerReadRefreshTimeoutMilliseconds",
            "destroyGraceSeconds",
            "logs",
            "mustRun",
            "removeVolumes",
            "rm",
            "start",
            "wait",
            "waitTimeout",
        }
    )
    unordered = frozenset(
        {
            *("capabilities", "devices", "dns", "dnsOpts", "dnsSearches", "envs", "groupAdds", "hosts"),
            *("labels", "mounts", "networksAdvanced", "securityOpts", "ulimits", "uploads", "volumes"),
        }
    )
    observed = frozenset(
        {"command", "entrypoints", "hostname", "ipcMode", "logDriver", "runtime", "shmSize", "stopSignal"}
    )
    unsupported = frozenset(
        {
            *("attach", "logs", "platform", "gpus", "deviceRequests"),
            *("deviceReadBps", "deviceReadIops", "deviceWriteBps", "deviceWriteIops"),
        }
    )

    def check(self, inputs: Properties) -> Iterator[Failure]:
        """Yield what the official provider would refuse before or while it creates a container."""
        patterns = {"restart": r"no|on-failure|always|unless-stopped", "cgroupnsMode": r"private|host"}
        for key, pattern in patterns.items():
            value = inputs.get(key)
            if value is not None and not is_unknown(value) and not re.fullmatch(pattern, value):
                yield Failure(key, f"expected {pattern.replace('|', ', ')}, got {value!r}")
        if "" in _items(inputs, "command"):
            yield Failure("command", "values for command may not be empty")
        healthcheck = inputs.get("healthcheck")
        if isinstance(healthcheck, dict):
            yield from _check_healthcheck(healthcheck)
        for index, upload in enumerate(_items(inputs, "uploads")):
            if not is_unknown(upload):
                yield from _check_upload(upload, f"uploads[{index}]")
        for index, mount in enumerate(_items(inputs, "mounts")):
            if isinstance(mount, dict) and not is_unknown(mount["type"]) and mount["type"] not in _MOUNTS:
                reason = f"expected bind, volume or tmpfs, got {mount['type']!r}"
                yield Failure(f"mounts[{index}].type", reason)
        for index, network in enumerate(_items(inputs, "networksAdvanced")):
            if isinstance(network, dict):
                for key in sorted(_UNSUPPORTED_OF_NETWORKS & set(network)):
                    yield unsupported(key, f"networksAdvanced[{index}].{key}")

    def keeps(self, state: Properties, news: Properties) -> bool:
        """A container that is started again gets its addresses anew."""
        return bool(state.get("mustRun", True) == news.get("mustRun", True))

    def create(self, engine: Engine, inputs: Properties) -> tuple[str, Properties]:
        """Create, connect, upload and start the container, and wait for its health where asked.

        A container that does not come up is removed again: the next run starts from nothing.
        """
        name = inputs["name"]
        pull_image(engine, inputs["image"])
        with engine.acting(f"create container {name}") as api:
            id_: str = api.create_container_from_config(container_config(inputs), name)["Id"]
        try:
            self._prepare(engine, id_, inputs)
            if inputs["start"]:
                self._start(engine, id_, inputs)
        except Exception:
            self.delete(engine, id_, inputs)
            raise
        with engine.acting(f"inspect container {name}") as api:
            return id_, container_state(api.inspect_container(id_))

    def read(self, engine: Engine, id_: str, inputs: Properties) -> tuple[str, Properties, Properties] | None:
        """Look at the container; one that must run and doesn't is told by `mustRun` false, as officially."""
        found = engine.found(lambda: engine.api.inspect_container(id_))
        if found is None:
            return None
        drift: Properties = {
            "name": found["Name"].removeprefix("/"),
            "image": inputs.get("image", found["Config"]["Image"]),
        }
        if inputs.get("mustRun", True) and not found["State"]["Running"]:
            drift["mustRun"] = False
        policy = found["HostConfig"]["RestartPolicy"]
        if (policy["Name"] or "no") != inputs.get("restart", "no"):
            drift["restart"] = policy["Name"] or "no"
        if found["HostConfig"]["Memory"] != inputs.get("memory", 0) * _MIB:
            drift["memory"] = found["HostConfig"]["Memory"] // _MIB
        if inputs.get("networksAdvanced"):
            connected = found["NetworkSettings"]["Networks"]
            known = {*connected, *(item["NetworkID"] for item in connected.values())}
            drift["networksAdvanced"] = [it for it in inputs["networksAdvanced"] if it["name"] in known]
        return found["Id"], {**inputs, **drift}, container_state(found)

    def update(self, engine: Engine, id_: str, state: Properties, news: Properties) -> Properties:
        """Change resources and restart policy; start a container that must run and doesn't."""
        if any(state.get(key, self.defaults.get(key)) != news.get(key) for key in _LIVE):
            with engine.acting(f"update container {news['name']}") as api:
                api.update_container(
                    id_,
                    cpu_shares=news.get("cpuShares", 0),
                    cpuset_cpus=news.get("cpuSet", ""),
                    mem_limit=news.get("memory", 0) * _MIB,
                    mem_reservation=news.get("memoryReservation", 0) * _MIB,
                    memswap_limit=_mebibytes(news.get("memorySwap", 0)),
                    restart_policy=_restart_policy(news),
                )
        if news["mustRun"] and not state.get("mustRun", True) and news["start"]:
            self._start(engine, id_, news)
        found = engine.found(lambda: engine.api.inspect_container(id_))
        if found is None:
            raise ProviderError(f"container {news['name']} is gone; run again with --refresh")
        return container_state(found)

    def delete(self, engine: Engine, id_: str, state: Properties) -> None:
        """Stop the container, at once unless `destroyGraceSeconds` says otherwise, and remove it."""
        grace = state.get("destroyGraceSeconds", 0)
        engine.remove(f"container {id_}", lambda: engine.api.stop(id_, timeout=grace))
        engine.remove(
            f"container {id_}",
            lambda: engine.api.remove_container(id_, v=state.get("removeVolumes", True), force=True),
        )

        def gone() -> bool:
            return engine.found(lambda: engine.api.inspect_container(id_)) is None

        if not engine.wait_for(gone, timeout=60):
            raise ProviderError(f"container {id_} is still there a minute after it was removed")

    def _prepare(self, engine: Engine, id_: str, inputs: Properties) -> None:
        networks = inputs.get("networksAdvanced") or []
        if networks and inputs["networkMode"] == "bridge":
            with engine.acting("disconnect the default network") as api:
                api.disconnect_container_from_network(id_, "bridge")
        for item in networks:
            with engine.acting(f"connect to network {item['name']}") as api:
                api.connect_container_to_network(
                    id_,
                    item["name"],
                    ipv4_address=item.get("ipv4Address"),
                    ipv6_address=item.get("ipv6Address"),
                    aliases=item.get("aliases"),
                    link_local_ips=item.get("linkLocalIps"),
                    mac_address=item.get("macAddress"),
                )
        for upload in inputs.get("uploads") or []:
            with engine.acting(f"upload {upload['file']}") as api:
                api.put_archive(id_, "/", upload_archive(upload))

    def _start(self, engine: Engine, id_: str, inputs: Properties) -> None:
        name = inputs["name"]
        with engine.acting(f"start container {name}") as api:
            api.start(id_)
        if not inputs["wait"]:
            return
        found: dict[str, Any] = {}

        def settled() -> bool:
            with engine.acting(f"inspect container {name}") as api:
                found.update(api.inspect_container(id_)["State"])
            if "Health" not in found:
                raise ProviderError(f"container {name} has `wait`, but no health check")
            ended = not found["Running"] and inputs["restart"] == "no"
            return bool(ended or found["Health"]["Status"] == "healthy")

        if not engine.wait_for(settled, inputs["waitTimeout"]) or found["Health"]["Status"] != "healthy":
            raise ProviderError(
                f"container {name} is not healthy after {inputs['waitTimeout']} s"
                f" ({_situation(found)}); its last lines:\n{_last_lines(engine, id_)}"
            )


def container_config(inputs: Properties) -> dict[str, Any]:
    """Convert inputs, defaults included, to the body of the engine's create request."""
    host_config: dict[str, Any] = {
        theirs: inputs[ours] for ours, theirs in _HOST_CONFIG.items() if ours in inputs
    }
    host_config |= {theirs: _mebibytes(inputs[ours]) for ours, theirs in _MEBIBYTES.items() if ours in inputs}
    host_config["RestartPolicy"] = _restart_policy(inputs)
    host_config["LogConfig"] = {"Type": inputs.get("logDriver", ""), "Config": inputs.get("logOpts") or {}}
    host_config["Mounts"] = [_mount(item) for item in inputs.get("mounts") or []]
    host_config["ExtraHosts"] = [f"{item['host']}:{item['ip']}" for item in inputs.get("hosts") or []]
    host_config["Ulimits"] = [
        {"Name": item["name"], "Soft": item["soft"], "Hard": item["hard"]}
        for item in inputs.get("ulimits") or []
    ]
    host_config["Devices"] = [
        {
            "PathOnHost": item["hostPath"],
            "PathInContainer": item.get("containerPath") or item["hostPath"],
            "CgroupPermissions": item.get("permissions", "rwm"),
        }
        for item in inputs.get("devices") or []
    ]
    capabilities = inputs.get("capabilities") or {}
    host_config["CapAdd"] = capabilities.get("adds") or []
    host_config["CapDrop"] = capabilities.get("drops") or []
    host_config |= _security(inputs.get("securityOpts") or [])
    if "cpus" in inputs:
        host_config["NanoCpus"] = round(float(inputs["cpus"]) * 10**9)
    volumes, host_config["Binds"], host_config["VolumesFrom"] = _volumes(inputs.get("volumes") or [])
    exposed, host_config["PortBindings"] = _ports(inputs.get("ports") or [])
    config = _renamed(inputs, _CONFIG)
    config |= {"Labels": labels(inputs), "Volumes": volumes, "ExposedPorts": exposed}
    config["HostConfig"] = host_config
    if inputs.get("healthcheck"):
        config["Healthcheck"] = _healthcheck(inputs["healthcheck"])
    return config


def container_state(found: Mapping[str, Any]) -> Properties:
    """Convert what the engine says of a container to outputs."""
    config, host_config, settings = found["Config"], found["HostConfig"], found["NetworkSettings"]
    return {
        "bridge": settings.get("Bridge", ""),
        "exitCode": found["State"]["ExitCode"],
        "containerLogs": "",
        "command": config["Cmd"] or [],
        "entrypoints": config["Entrypoint"] or [],
        "hostname": config["Hostname"],
        "ipcMode": host_config["IpcMode"],
        "logDriver": host_config["LogConfig"]["Type"],
        "runtime": host_config["Runtime"],
        "shmSize": host_config["ShmSize"] // _MIB,
        "stopSignal": config.get("StopSignal", ""),
        "networkDatas": [
            {
                "networkName": name,
                "ipAddress": network["IPAddress"],
                "ipPrefixLength": network["IPPrefixLen"],
                "gateway": network["Gateway"],
                "globalIpv6Address": network["GlobalIPv6Address"],
                "globalIpv6PrefixLength": network["GlobalIPv6PrefixLen"],
                "ipv6Gateway": network["IPv6Gateway"],
                "macAddress": network["MacAddress"],
            }
            for name, network in sorted((settings.get("Networks") or {}).items())
        ],
    }


def upload_archive(upload: Properties) -> bytes:
    """Return a tar archive with the one file of an upload, its path relative to the root."""
    if upload.get("source"):
        content = Path(upload["source"]).read_bytes()
    elif upload.get("contentBase64"):
        content = base64.b64decode(upload["contentBase64"], validate=True)
    else:
        content = upload.get("content", "").encode()
    info = tarfile.TarInfo(upload["file"].lstrip("/"))
    info.size = len(content)
    info.uid, info.gid = int(upload.get("owner") or 0), int(upload.get("group") or 0)
    info.mode = _MODE_EXECUTABLE if upload.get("executable") else _MODE
    if upload.get("permissions"):
        info.mode = int(upload["permissions"], 8)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def nanoseconds(duration: str) -> int:
    """Convert a duration such as `1m30s` to nanoseconds.

    Raises:
        ValueError: if it is none.
    """
    if duration in {"", "0"}:
        return 0
    parts = _DURATION.findall(duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"expected a duration such as 5s or 1m30s, got {duration!r}")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


def _items(inputs: Properties, key: str) -> list[Any]:
    """Return the list at `key`; none while it is not known."""
    value = inputs.get(key)
    return value if isinstance(value, list) else []


def _check_healthcheck(healthcheck: Properties) -> Iterator[Failure]:
    for key in ("interval", "timeout", "startPeriod", "startInterval"):
        value = healthcheck.get(key)
        if value is None or is_unknown(value):
            continue
        try:
            nanoseconds(value)
        except ValueError as error:
            yield Failure(f"healthcheck.{key}", str(error))


def _check_upload(upload: Properties, path: str) -> Iterator[Failure]:
    given = [key for key in ("content", "contentBase64", "source") if upload.get(key)]
    if len(given) != 1:
        yield Failure(path, "exactly one of content, contentBase64 and source must be given and not empty")
    permissions = upload.get("permissions")
    if permissions is not None and not re.fullmatch(r"0[0-7]{3}", permissions):
        yield Failure(f"{path}.permissions", f"expected four octal digits such as 0644, got {permissions!r}")
    for key in ("owner", "group"):
        if not str(upload.get(key) or 0).isdigit():
            yield Failure(f"{path}.{key}", "the stand-in for the docker plugin takes numeric ids only")


def _renamed(inputs: Properties, names: Mapping[str, str]) -> dict[str, Any]:
    return {theirs: inputs[ours] for ours, theirs in names.items() if ours in inputs}


def _mebibytes(value: int) -> int:
    return value * _MIB if value > 0 else value


def _restart_policy(inputs: Properties) -> dict[str, Any]:
    return {"Name": inputs["restart"], "MaximumRetryCount": inputs.get("maxRetryCount", 0)}


def _security(options: list[str]) -> dict[str, Any]:
    """The one option that the command line translates itself is translated here too."""
    unconfined = "systempaths=unconfined"
    paths: dict[str, list[str]] = {"MaskedPaths": [], "ReadonlyPaths": []} if unconfined in options else {}
    return {"SecurityOpt": [item for item in options if item != unconfined], **paths}


def _mount(item: Properties) -> dict[str, Any]:
    mount: dict[str, Any] = {
        "Type": item["type"],
        "Target": item["target"],
        "Source": item.get("source", ""),
        "ReadOnly": item.get("readOnly", False),
    }
    if item["type"] == "bind" and item.get("bindOptions"):
        mount["BindOptions"] = {"Propagation": item["bindOptions"].get("propagation", "")}
    if item["type"] == "volume" and item.get("volumeOptions"):
        options = item["volumeOptions"]
        mount["VolumeOptions"] = {
            "NoCopy": options.get("noCopy", False),
            "Labels": labels(options),
            "DriverConfig": {
                "Name": options.get("driverName", ""),
                "Options": options.get("driverOptions") or {},
            },
            "Subpath": options.get("subpath", ""),
        }
    if item["type"] == "tmpfs" and item.get("tmpfsOptions"):
        options = item["tmpfsOptions"]
        mount["TmpfsOptions"] = {"SizeBytes": options.get("sizeBytes", 0), "Mode": options.get("mode", 0)}
    return mount


def _volumes(items: list[Properties]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return anonymous volumes, binds, and containers whose volumes are taken over."""
    volumes: dict[str, Any] = {}
    binds: list[str] = []
    sources: list[str] = []
    for item in items:
        target, source = item.get("containerPath", ""), item.get("volumeName") or item.get("hostPath")
        options = [
            *(["ro"] if item.get("readOnly") else ["rw"]),
            *([item["selinuxRelabel"]] if item.get("selinuxRelabel") else []),
        ]
        if item.get("fromContainer"):
            sources.append(item["fromContainer"])
        elif source:
            binds.append(f"{source}:{target}:{','.join(options)}")
        else:
            volumes[target] = {}
    return volumes, binds, sources


def _ports(items: list[Properties]) -> tuple[dict[str, Any], dict[str, Any]]:
    exposed: dict[str, Any] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for item in items:
        port = f"{item['internal']}/{item.get('protocol', 'tcp')}"
        exposed[port] = {}
        external = str(item["external"]) if item.get("external") else ""
        bindings.setdefault(port, []).append({"HostIp": item.get("ip", "0.0.0.0"), "HostPort": external})  # noqa: S104
    return exposed, bindings


def _healthcheck(item: Properties) -> dict[str, Any]:
    return {
        "Test": item.get("tests") or [],
        "Interval": nanoseconds(item.get("interval", "0s")),
        "Timeout": nanoseconds(item.get("timeout", "0s")),
        "StartPeriod": nanoseconds(item.get("startPeriod", "0s")),
        "Retries": item.get("retries", 0),
    }


def _situation(state: Mapping[str, Any]) -> str:
    if not state["Running"]:
        return f"exited with {state['ExitCode']}"
    log = state["Health"].get("Log") or []
    return (
        f"{state['Health']['Status']}: {log[-1]['Output'].strip()}" if log else str(state["Health"]["Status"])
    )


def _last_lines(engine: Engine, id_: str) -> str:
    with engine.acting("read the container's log") as api:
        return str(api.logs(id_, tail=_LOG_LINES).decode(errors="replace").strip())

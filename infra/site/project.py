"""Turns a rendered project, what the record says and secrets into the files of one host (VM-3, VM-4).

Pure: secrets come through `resolve`, a function from a text with `${secret:name}` to the text with values.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from infra.runtimes.compose import PROFILES_VARIABLE
from infra.secrets.references import find
from infra.services.agents import SWITCHES_DIRECTORY, SWITCHES_FILE, image_variable
from infra.services.topology import PROJECT_FILE
from infra.site import envfile
from infra.site.runtime import HostRuntime
from infra.site.secrets import Resolve

COMPOSE_FILE = "compose.yaml"
CONFIGURATION_LABEL = "dev.icupa.configuration"
_HASH_LENGTH = 16
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


class ProjectError(Exception):
    """The rendered project can't become files; the message names path or variable, never a value."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _octal(value: object) -> object:
    return int(value, 8) if isinstance(value, str) else value


Mode = Annotated[int, BeforeValidator(_octal), Field(ge=0, le=0o777)]
"""Mode of a file; texts are octal."""


class ProjectFile(_Model):
    """A file below the project's directory; `secret`: its content is shown nowhere."""

    path: str
    content: str
    mode: Mode
    uid: int
    gid: int
    secret: bool = False


class ProjectDirectory(_Model):
    """A directory below the project's directory."""

    path: str
    mode: Mode
    uid: int
    gid: int


class RenderedProject(_Model):
    """What the program rendered for one host (docs/architecture.md)."""

    compose: dict[str, Any]
    env_files: dict[str, dict[str, str]]
    files: list[ProjectFile] = Field(default_factory=list)
    runtime: dict[str, list[str]] = Field(default_factory=dict)
    directories: list[ProjectDirectory] = Field(default_factory=list)


@dataclass(frozen=True)
class Owner:
    """Numeric owner of the files that Compose's command line reads."""

    uid: int
    gid: int


@dataclass(frozen=True)
class HostFile:
    """One file as it must be. `hidden`: no diff; `masked`: variables whose values no diff shows."""

    path: str
    content: str = field(repr=False)
    mode: int
    uid: int
    gid: int
    hidden: bool = False
    masked: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ServiceState:
    """A service that must run (or, a `job`, must have ended well) with this hash of its configuration."""

    configuration: str
    job: bool


@dataclass(frozen=True)
class HostProject:
    """Everything the host modules need."""

    name: str
    files: list[HostFile]
    directories: list[ProjectDirectory]
    services: dict[str, ServiceState]
    idle: list[str]
    images: list[str]


def parse_project(raw: Mapping[str, Any]) -> RenderedProject:
    """Checked project; ProjectError lists everything wrong without printing a content."""
    try:
        project = RenderedProject.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ProjectError(f"rendered project: {wrong}") from None
    for path in [file.path for file in project.files] + [entry.path for entry in project.directories]:
        _relative(path)
    if not project.compose.get("services"):
        raise ProjectError("rendered project: compose has no services")
    return project


def _relative(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or pure == PurePosixPath("."):
        raise ProjectError(f"rendered project: {path!r} does not stay below the project's directory")
    return str(pure)


def project_texts(raw: Mapping[str, Any]) -> list[str]:
    """All texts of a rendered project that may refer to secrets."""
    project = parse_project(raw)
    texts = [entry.content for entry in project.files]
    return texts + [value for variables in project.env_files.values() for value in variables.values()]


def readers(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Services of a rendered project, as Compose names them, that read a secret."""
    project = parse_project(raw)
    having = {entry.path for entry in project.files if name in find(entry.content)}
    for file, variables in project.env_files.items():
        if file != PROJECT_FILE and any(name in find(value) for value in variables.values()):
            having.add(file)
    shared = project.env_files.get(PROJECT_FILE, {})
    replaced = {variable for variable, value in shared.items() if name in find(value)}
    services: dict[str, dict[str, Any]] = project.compose["services"]
    return tuple(
        sorted(
            service
            for service, definition in services.items()
            if having & {*_bind_sources(definition), *_env_names(definition)}
            or replaced & set(_VARIABLE.findall(json.dumps(definition)))
        )
    )


def _environment(project: RenderedProject, file: str, runtime: HostRuntime) -> dict[str, str]:
    """Variables of an env file, references unresolved, with those that the record holds."""
    variables = dict(project.env_files[file])
    known = {
        PROFILES_VARIABLE: ",".join(runtime.running),
        **{image_variable(slot): image for slot, image in runtime.images.items()},
        **runtime.switches,
    }
    for name in project.runtime.get(file, []):
        if name not in known:
            raise ProjectError(f"{file}: the record has no value of {name}")
        variables[name] = known[name]
    return variables


def _env_file(name: str, variables: Mapping[str, str], resolve: Resolve, owner: Owner) -> HostFile:
    try:
        content = envfile.render({key: resolve(value) for key, value in variables.items()})
    except ValueError as error:
        raise ProjectError(f"{name}: {error}") from None
    masked = tuple(sorted(key for key, value in variables.items() if find(value)))
    return HostFile(name, content, 0o600, owner.uid, owner.gid, masked=masked)


def switches_file(switches: Mapping[str, str]) -> HostFile:
    """The file of switches, which the service reads again when it changes; needs no secret."""
    return HostFile(SWITCHES_FILE, envfile.render(switches), 0o644, 0, 0)


def _bind_sources(service: Mapping[str, Any]) -> Iterable[str]:
    for volume in service.get("volumes") or []:
        source = volume.get("source", "") if isinstance(volume, Mapping) else str(volume).split(":", 1)[0]
        if source.startswith("./"):
            yield str(PurePosixPath(source))


def _env_names(service: Mapping[str, Any]) -> Iterable[str]:
    declared = service.get("env_file") or []
    for item in [declared] if isinstance(declared, str) else declared:
        yield str(PurePosixPath(item["path"] if isinstance(item, Mapping) else item))


def _configuration(
    service: Mapping[str, Any], interpolation: Mapping[str, str], files: Mapping[str, str]
) -> str:
    """Hash of all that makes a container out of date: definition, variables it uses, `files` it reads.

    A directory that is mounted as a whole is watched by its service: what is in it makes nothing out of date.
    """
    definition = json.dumps(service, sort_keys=True)
    digest = hashlib.sha256(definition.encode())
    for name in sorted(set(_VARIABLE.findall(definition))):
        digest.update(f"\0{name}={interpolation.get(name, '')}".encode())
    read = {*_bind_sources(service), *_env_names(service)}
    for path in sorted(files):
        if path in read:
            digest.update(f"\0{path}\0{files[path]}".encode())
    return digest.hexdigest()[:_HASH_LENGTH]


def _jobs(services: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Services that others await with `service_completed_successfully`."""
    jobs = set()
    for service in services.values():
        wanted = service.get("depends_on") or {}
        if isinstance(wanted, Mapping):
            jobs |= {
                name
                for name, how in wanted.items()
                if (how or {}).get("condition") == "service_completed_successfully"
            }
    return jobs


def host_project(raw: Mapping[str, Any], runtime: HostRuntime, owner: Owner, resolve: Resolve) -> HostProject:
    """Files, expected services and images of one host; raises ProjectError."""
    project = parse_project(raw)
    environments = {name: _environment(project, name, runtime) for name in project.env_files}
    rendered = [_env_file(name, variables, resolve, owner) for name, variables in environments.items()]
    for entry in project.files:
        if not entry.secret and find(entry.content):
            raise ProjectError(f"{entry.path} holds references to secrets but is not marked `secret`")
        content = resolve(entry.content)
        rendered.append(
            HostFile(_relative(entry.path), content, entry.mode, entry.uid, entry.gid, hidden=entry.secret)
        )
    if any(SWITCHES_DIRECTORY in _bind_sources(service) for service in project.compose["services"].values()):
        rendered.append(switches_file(runtime.switches))
    read = {entry.path: entry.content for entry in rendered}
    if len(read) != len(rendered) or COMPOSE_FILE in read:
        raise ProjectError("rendered project: two files have the same path")
    for name, variables in environments.items():
        # A switch that was flipped is in effect already, by the file of switches: nothing needs a restart.
        lasting = {key: resolve(value) for key, value in variables.items() if key not in runtime.switches}
        read[name] = envfile.render(lasting)
    interpolation = {key: resolve(value) for key, value in environments.get(PROJECT_FILE, {}).items()}

    services: dict[str, dict[str, Any]] = project.compose["services"]
    labelled: dict[str, dict[str, Any]] = {}
    configurations: dict[str, str] = {}
    for name, service in services.items():
        configurations[name] = _configuration(service, interpolation, read)
        labels = {**(service.get("labels") or {}), CONFIGURATION_LABEL: configurations[name]}
        labelled[name] = {**service, "labels": labels}
    compose = yaml.safe_dump({**project.compose, "services": labelled}, sort_keys=False, width=1000)
    if find(compose):
        raise ProjectError(f"{COMPOSE_FILE} holds references to secrets: they belong into env files")
    rendered.append(HostFile(COMPOSE_FILE, compose, 0o640, owner.uid, owner.gid))

    active = {
        name
        for name, service in services.items()
        if not service.get("profiles") or not set(runtime.running).isdisjoint(service["profiles"])
    }
    jobs = _jobs(services)
    return HostProject(
        name=project.compose.get("name", ""),
        files=rendered,
        directories=project.directories,
        services={name: ServiceState(configurations[name], name in jobs) for name in sorted(active)},
        idle=sorted(set(services) - active),
        images=sorted({_interpolate(str(services[name]["image"]), interpolation) for name in active}),
    )


def project_facts(project: HostProject) -> dict[str, Any]:
    """What later tasks need to know of the project."""
    return {
        "project_name": project.name,
        "services": {
            name: {"configuration": state.configuration, "job": state.job}
            for name, state in project.services.items()
        },
        "idle": project.idle,
        "images": project.images,
    }


def _interpolate(text: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match["name"], ""), text)


def registry_login(logins: Mapping[str, tuple[str, str]]) -> str:
    """Docker client configuration; registry to user and password."""
    tokens = {
        server: {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}
        for server, (username, password) in logins.items()
    }
    return json.dumps({"auths": tokens}, indent=2) + "\n"

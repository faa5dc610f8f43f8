"""What the release's image says of itself is what its code needs."""

from __future__ import annotations

import re

from infra import paths
from infra.registry import RELEASE_PATH
from infra.release.model import GIT_SHA_LABEL, SCHEMA_LABEL
from reference.agents_service.revision import REVISION
from reference.agents_service.upgrade import head


def test_the_image_names_commit_and_schema() -> None:
    dockerfile = (paths.REPOSITORY / RELEASE_PATH / "Dockerfile").read_text()
    labels = dict(re.findall(r'([a-z.]+)="([^"]*)"', dockerfile.rpartition("LABEL")[2]))
    assert labels[SCHEMA_LABEL] == "${SCHEMA_REVISION}"
    assert re.findall(r"^ARG SCHEMA_REVISION=(.*)$", dockerfile, re.MULTILINE) == [REVISION] == [head()]
    assert labels[GIT_SHA_LABEL] == "${GIT_SHA}"


def test_the_image_gets_every_package_of_the_service() -> None:
    source = paths.REPOSITORY / RELEASE_PATH
    packages = {file.parent.relative_to(source).parts[:1] for file in source.rglob("*.py")}
    sent = {line.strip("!/") for line in (source / ".dockerignore").read_text().splitlines()}
    assert {part for parts in packages for part in parts} <= sent

"""What the release's image says of itself is what its code needs."""

from __future__ import annotations

import re

from infra import paths
from infra.registry import RELEASE_PATH
from infra.release.model import GIT_SHA_LABEL, SCHEMA_LABEL
from reference.agents_service.migrate import head
from reference.agents_service.schema import REVISION


def test_the_image_names_commit_and_schema() -> None:
    dockerfile = (paths.REPOSITORY / RELEASE_PATH / "Dockerfile").read_text()
    labels = dict(re.findall(r'([a-z.]+)="([^"]*)"', dockerfile.rpartition("LABEL")[2]))
    assert labels[SCHEMA_LABEL] == REVISION == head()
    assert labels[GIT_SHA_LABEL] == "${GIT_SHA}"

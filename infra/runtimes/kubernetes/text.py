"""Objects as the YAML that `kubectl apply` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from infra.runtimes.kubernetes.model import Manifest


class _Dumper(yaml.SafeDumper):
    """Repeats what stands twice, and writes texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        """Aliases are for programs; people compare these files."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(manifests: Sequence[Manifest]) -> str:
    """Documents of a stream, in order."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=1000, explicit_start=True)

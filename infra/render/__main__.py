"""`python -m infra.render --stack NAME` writes the manifest of each cluster to `deployments/NAME/`.

Digests, switches and versions of secrets come from the stack's outputs, record and secret store, or from a
JSON file instead (`--state`). `--resolve REGION` prints one cluster's manifest with the values of secrets, to
be piped into `kubectl apply`, and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.config.load import ConfigurationError, load_file
from infra.config.model import Cluster, Stack
from infra.config.trust import MissingFileError, certificates
from infra.outputs.export import record, secretstore
from infra.outputs.model import StackError
from infra.outputs.read import read_outputs
from infra.render import manifests as files
from infra.render.state import StateError, gather_state, read_state
from infra.runtimes.kubernetes import ClusterState, Manifest, RenderError, cluster_context, clusters, render
from infra.runtimes.kubernetes.schema import check
from infra.runtimes.kubernetes.text import as_yaml
from infra.site.secrets import SecretsError, open_resolver


def main(arguments: list[str] | None = None) -> int:
    """Write, or print, manifests; 1 where something is refused or can't be read."""
    parser = argparse.ArgumentParser(prog="python -m infra.render", description=__doc__)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--state", type=Path, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", default=files.DIRECTORY)
    parser.add_argument("--resolve", metavar="REGION")
    options = parser.parse_args(arguments)
    try:
        stack = load_file(options.stack)
        regions = {cluster.region: cluster for cluster in clusters(options.stack, stack)}
        if options.resolve and options.resolve not in regions:
            raise RenderError(f"--resolve {options.resolve}: accepted: {', '.join(regions)}")
        state = read_state(options.state) if options.state else gather_state(read_outputs(options.stack))
        rendered = {
            region: _render(options.stack, stack, cluster, state) for region, cluster in regions.items()
        }
        if options.resolve:
            sys.stdout.write(_with_values(options.stack, stack, rendered[options.resolve]))
            return 0
    except _REFUSALS as error:
        print(error, file=sys.stderr)
        return 1
    for region, cluster in regions.items():
        file = files.path(options.stack, cluster, options.output)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files.text(options.stack, cluster, rendered[region]))
        print(f"{file}: {len(rendered[region])} objects for context {cluster.context}")
    return 0


_REFUSALS = (
    ConfigurationError,
    MissingFileError,
    RenderError,
    SecretsError,
    StackError,
    StateError,
)


def _render(environment: str, stack: Stack, cluster: Cluster, state: ClusterState) -> list[Manifest]:
    trust = certificates(environment, stack, preview=False)
    rendered = render(cluster_context(environment, stack, cluster, trust), state)
    check(rendered)
    return rendered


def _with_values(environment: str, stack: Stack, rendered: list[Manifest]) -> str:
    texts = files.secret_texts(rendered)
    resolve = open_resolver(secretstore(stack), environment, record(stack), texts)
    return as_yaml(files.resolved(rendered, resolve))


if __name__ == "__main__":
    sys.exit(main())

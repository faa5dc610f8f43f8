"""The VM runtime: what every host of an environment runs, as one resource of the stack (design rule 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.runtimes.compose import RenderedProject, render
from infra.services.context import Context
from infra.services.topology import topology


@dataclass(frozen=True)
class VmRuntimeArgs:
    """`contexts` by host name; `images` by name, pinned by digest."""

    contexts: Mapping[str, Context]
    images: Mapping[str, pulumi.Input[str]]


class VmRuntime(pulumi.ComponentResource):
    """Rendered projects of all hosts, kept in state so that a preview shows what changes in them.

    One resource for the environment: a variable that both regions have is one change. What is exported is the
    resource's `input`; its `output` stays what it was at first. Both hold references to secrets, no values.
    """

    projects: pulumi.Output[Any]

    def __init__(self, name: str, args: VmRuntimeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        rendered: dict[str, RenderedProject] = {
            host: render(topology(context), args.images) for host, context in args.contexts.items()
        }
        super().__init__("icupa:runtimes:VmRuntime", name, None, opts)
        self.projects = pulumi.Stash(
            "projects", input=rendered, opts=pulumi.ResourceOptions(parent=self)
        ).input
        self.register_outputs({})

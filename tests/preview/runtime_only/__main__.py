"""The VM runtime of a stack without images and hosts, so that it can be brought up without any account."""

from __future__ import annotations

import pulumi

from infra.config.runtime import runtime_stack
from infra.runtimes.vm import VmRuntime, VmRuntimeArgs
from infra.services.context import Context
from infra.services.topology import topology

environment = pulumi.get_stack()
stack = runtime_stack(environment)
contexts = {
    machine.name: Context(environment, stack, machine.region, machine.role)
    for machine in stack.hosts.machines
}
images = {
    name: f"registry.example.com/{name}@sha256:{'0' * 64}"
    for context in contexts.values()
    for name in topology(context).images
}
pulumi.export("projects", VmRuntime("runtime", VmRuntimeArgs(contexts, images)).projects)

"""The program of every environment: configuration → world → images → hosts → rendered services → outputs."""

from __future__ import annotations

import pulumi

from infra.config.load import ConfigurationError
from infra.config.model import DockerHosts
from infra.config.runtime import runtime_stack
from infra.config.trust import MissingFileError, certificates
from infra.dns.records import Records, RecordsArgs
from infra.hosts import make_hosts
from infra.local import REGISTRY
from infra.outputs.export import record, secretstore, settings, urls
from infra.registry import Images, ImagesArgs, ReleaseError, build_settings, release_commit
from infra.runtimes.vm import VmRuntime, VmRuntimeArgs
from infra.services.context import Context
from infra.world.outside import OutsideWorld

environment = pulumi.get_stack()
try:
    stack = runtime_stack(environment)
    trust = certificates(environment, stack, preview=pulumi.runtime.is_dry_run())
    git_sha = release_commit()
except (ConfigurationError, MissingFileError, ReleaseError) as error:
    raise pulumi.RunError(str(error)) from None

local = isinstance(stack.hosts, DockerHosts)
build = build_settings(local)
world = OutsideWorld("world", build) if local else None
images = Images(
    "images",
    ImagesArgs(
        environment,
        stack.registry,
        build,
        git_sha,
        secretstore(stack),
        str(REGISTRY.address) if world else None,
        trust,
    ),
    pulumi.ResourceOptions(depends_on=[world] if world else []),
)
hosts = make_hosts(environment, stack, build, world)
Records("dns", RecordsArgs(stack, hosts))
contexts = {host.name: Context(environment, stack, host.region, host.role, trust) for host in hosts}
runtime = VmRuntime("runtime", VmRuntimeArgs(contexts, images.references))

pulumi.export("environment", environment)
pulumi.export("domain", stack.domain)
pulumi.export("hosts", [host.outputs() for host in hosts])
pulumi.export("record", record(stack))
pulumi.export("secretstore", secretstore(stack))
pulumi.export("release", images.release)
pulumi.export("projects", runtime.projects)
pulumi.export("settings", settings(stack, trust))
pulumi.export("urls", urls(stack, hosts))

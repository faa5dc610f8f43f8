"""What users get in maintenance (DEP-6): runs always, so that no image is needed in the middle of the night.

The proxy sends requests here while the record says so, see `traefik.maintenance_route`.
"""

from __future__ import annotations

from infra.services import names
from infra.services.context import Context
from infra.services.model import Health, HttpProbe, Network, Port, Probe, Resources, Scratch, Service


def service(context: Context) -> Service:
    """A page for browsers, JSON for programs: 503 with Retry-After for both."""
    del context
    port = names.MAINTENANCE_PORT
    probe = HttpProbe("/health", port)
    return Service(
        name=names.MAINTENANCE,
        image=names.MAINTENANCE,
        uid=names.USERS[names.MAINTENANCE],
        networks=(Network.EDGE,),
        scratch=(Scratch("/tmp", 16),),  # noqa: S108 - a memory-backed directory of the container's own
        ports=(Port("http", port),),
        health=Health(
            startup=Probe(probe, 1, 3, 30), readiness=Probe(probe, 10, 3, 3), liveness=Probe(probe, 10, 3, 3)
        ),
        resources=Resources(cpus=0.25, memory_mib=48, pids=32, reserved_memory_mib=8, reserved_cpus=0.05),
        replicated=True,
    )

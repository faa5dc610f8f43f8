"""Telemetry (VM-7): in by OTLP, out to the trace backend; loses nothing over an outage or its own crash."""

from __future__ import annotations

from typing import Any

import yaml

from infra.services import names
from infra.services.context import Context
from infra.services.model import (
    File,
    Health,
    HttpProbe,
    Network,
    Port,
    Probe,
    Resources,
    Service,
    Volume,
)

_CONFIGURATION_PATH = "/etc/otelcol/config.yaml"
_STORAGE = "/var/lib/otelcol"
_BINARY = "/usr/local/bin/otelcol"
PROJECT_VARIABLES = ("OTLP_EXPORTER_ENDPOINT", "OTLP_EXPORTER_HEADERS")
"""Variables of `.env` (002, section 5)."""
MEMORY_MIB = 512
_QUEUED_ITEMS = 2_000_000

_EDGE = r"(?:\b|_)"  # An underscore is a part of words, but not of these.
_CARD = rf"{_EDGE}(?:[3-6][0-9]|2[2-7])(?:[ -]?[0-9]){{11,17}}{_EDGE}"
_SECRETS = (
    rf"{_EDGE}sk-[A-Za-z0-9_-]{{8,}}",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}",
    r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
    r"(?i)\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)[\"']?\s*[=:]\s*[\"']?[^\s\"',;&]{4,}",
)
REDACTED_VALUES = (*_SECRETS, _CARD)
"""Patterns of values that never leave: keys, bearer tokens, JWTs, passwords; numbers of payment cards."""
_REDACTED_KEYS = (r"(?i)(^|[._-])(authorization|password|secret|api_?key|cookie|set-cookie)$",)

# OTLP_EXPORTER_HEADERS is name=value,name=value, as SDKs read it; the exporter wants a mapping.
_ENTRYPOINT = f"""\
IFS=, read -ra pairs <<<"$OTLP_EXPORTER_HEADERS"
mapping=
for pair in "${{pairs[@]}}"; do
  mapping+="${{mapping:+, }}\\"${{pair%%=*}}\\": \\"${{pair#*=}}\\""
done
export OTLP_EXPORTER_HEADERS_MAPPING="{{$mapping}}"
exec {_BINARY} --config {_CONFIGURATION_PATH}
"""


def service(context: Context) -> Service:
    """The collector; endpoint and headers come from `.env`."""
    return Service(
        name=names.OTEL_COLLECTOR,
        image=names.OTEL_COLLECTOR,
        uid=names.USERS[names.OTEL_COLLECTOR],
        networks=(Network.TELEMETRY, Network.EGRESS),
        entrypoint=("/bin/bash", "-euc", _ENTRYPOINT),
        project_variables=PROJECT_VARIABLES,
        environment={"GOMEMLIMIT": f"{MEMORY_MIB * 3 // 4}MiB"},
        files=(File("otel-collector/config.yaml", _CONFIGURATION_PATH, _yaml(context)), *context.trust),
        volumes=(Volume("otel-collector", _STORAGE),),
        ports=(
            Port("otlp-grpc", names.OTLP_GRPC_PORT),
            Port("otlp-http", names.OTLP_HTTP_PORT),
            Port("health", names.OTEL_HEALTH_PORT),
            Port("metrics", names.OTEL_METRICS_PORT),
        ),
        health=Health(
            startup=Probe(HttpProbe("/", names.OTEL_HEALTH_PORT), 1, 3, 30),
            readiness=Probe(HttpProbe("/", names.OTEL_HEALTH_PORT), 10, 3, 3),
            liveness=Probe(HttpProbe("/", names.OTEL_HEALTH_PORT), 10, 3, 3),
        ),
        resources=Resources(cpus=1, memory_mib=MEMORY_MIB, pids=128, reserved_memory_mib=64),
        stop_seconds=20,
    )


def project_environment(context: Context) -> dict[str, str]:
    """Its part of `.env`."""
    variables = context.variables
    return {name: getattr(variables, name) for name in PROJECT_VARIABLES}


def configuration(context: Context) -> dict[str, Any]:
    """The collector's configuration; `memory_limiter` stands first in every pipeline."""
    exporter: dict[str, Any] = {
        "endpoint": "${env:OTLP_EXPORTER_ENDPOINT}",
        "headers": "${env:OTLP_EXPORTER_HEADERS_MAPPING}",
        "compression": "gzip",
        "timeout": "10s",
        "retry_on_failure": {
            "enabled": True,
            "initial_interval": "1s",
            "max_interval": "30s",
            "max_elapsed_time": 0,
        },
        "sending_queue": {
            "enabled": True,
            "storage": "file_storage",
            "sizer": "items",
            "queue_size": _QUEUED_ITEMS,
            "num_consumers": 4,
            # A full queue refuses, so that the sender keeps what it has, instead of dropping.
            "block_on_overflow": True,
            "batch": {"sizer": "items", "flush_timeout": "1s", "min_size": 512, "max_size": 2048},
        },
    }
    if context.trust_path:
        exporter["tls"] = {"ca_file": context.trust_path}
    pipeline = {
        "receivers": ["otlp"],
        "processors": ["memory_limiter", "transform", "redaction"],
        "exporters": ["otlp_http"],
    }
    return {
        "extensions": {
            "health_check": {"endpoint": f"0.0.0.0:{names.OTEL_HEALTH_PORT}"},
            "file_storage": {
                "directory": f"{_STORAGE}/queue",
                "create_directory": True,
                "fsync": True,
                "timeout": "10s",
                "compaction": {
                    "on_start": True,
                    "directory": f"{_STORAGE}/queue",
                    "cleanup_on_start": True,  # of what a compaction left that was killed
                },
            },
        },
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"0.0.0.0:{names.OTLP_GRPC_PORT}"},
                    "http": {"endpoint": f"0.0.0.0:{names.OTLP_HTTP_PORT}"},
                }
            }
        },
        "processors": {
            "memory_limiter": {
                "check_interval": "500ms",
                "limit_mib": MEMORY_MIB * 3 // 4,
                "spike_limit_mib": MEMORY_MIB // 8,
            },
            # Attributes are the redaction processor's; what it does not reach is done here. Attributes of a
            # span's links are reached by neither: nothing of ours sets any.
            "transform": {
                "error_mode": "propagate",
                # Apart: together they would run for events only, and spans without any be left as they are.
                "trace_statements": [
                    {
                        "context": "span",
                        "statements": _replacements("span.name", "span.status.message", "span.trace_state"),
                    },
                    {"context": "spanevent", "statements": _replacements("spanevent.name")},
                ],
                "log_statements": _replacements("log.body"),
                "metric_statements": ['delete_matching_keys(exemplar.filtered_attributes, ".*")'],
            },
            "redaction": {
                "allow_all_keys": True,
                "blocked_key_patterns": list(_REDACTED_KEYS),
                "blocked_values": list(REDACTED_VALUES),
                "redact_all_types": True,
                "summary": "silent",
            },
        },
        "exporters": {"otlp_http": exporter},
        "service": {
            "extensions": ["health_check", "file_storage"],
            "pipelines": {"traces": pipeline, "metrics": pipeline, "logs": pipeline},
            "telemetry": {
                "logs": {"encoding": "json"},
                "metrics": {
                    "level": "normal",
                    "readers": [
                        {
                            "pull": {
                                "exporter": {
                                    "prometheus": {"host": "0.0.0.0", "port": names.OTEL_METRICS_PORT}  # noqa: S104
                                }
                            }
                        }
                    ],
                },
            },
        },
    }


def _replacements(*targets: str) -> list[str]:
    return [
        f'replace_pattern({target}, "{_ottl(pattern)}", "****")'
        for target in targets
        for pattern in REDACTED_VALUES
    ]


def _ottl(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace('"', '\\"')


def _yaml(context: Context) -> str:
    return yaml.safe_dump(configuration(context), sort_keys=False, width=1000)

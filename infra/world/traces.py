"""The trace sink of the local stack: OTLP over HTTPS with a bearer token, kept as lines of OTLP/JSON."""

from __future__ import annotations

import yaml

from infra import local

CONFIGURATION_PATH = "/etc/otelcol/config.yaml"
SECRETS_PATH = local.SECRETS_PATH
STORAGE_PATH = "/var/lib/traces"
HEALTH_PORT = 13133
SIGNALS = ("traces", "metrics", "logs")


def sink_file(signal: str) -> str:
    """Path, in the container, of the file that has what was received of `signal`."""
    return f"{STORAGE_PATH}/{signal}.jsonl"


def configuration() -> str:
    """Text of the collector's configuration.

    Nothing is batched or sampled, and a request is answered when its data has been written: what was
    acknowledged is in the file.
    """
    return yaml.safe_dump(
        {
            "extensions": {
                "bearertokenauth": {"filename": f"{SECRETS_PATH}/token"},
                "health_check": {"endpoint": f"0.0.0.0:{HEALTH_PORT}"},
            },
            "receivers": {
                "otlp": {
                    "protocols": {
                        "http": {
                            "endpoint": f"0.0.0.0:{local.TRACES.port}",
                            "tls": {
                                "cert_file": f"{SECRETS_PATH}/tls.crt",
                                "key_file": f"{SECRETS_PATH}/tls.key",
                            },
                            "auth": {"authenticator": "bearertokenauth"},
                        }
                    }
                }
            },
            "exporters": {
                f"file/{signal}": {"path": sink_file(signal), "append": True, "flush_interval": "100ms"}
                for signal in SIGNALS
            },
            "service": {
                "extensions": ["bearertokenauth", "health_check"],
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    signal: {"receivers": ["otlp"], "exporters": [f"file/{signal}"]} for signal in SIGNALS
                },
            },
        },
        sort_keys=False,
    )


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {CONFIGURATION_PATH: configuration()}

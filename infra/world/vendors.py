"""The vendors' double of the local stack: what exists at each vendor from the start."""

from __future__ import annotations

import json
from typing import Any

from infra import local

CONFIGURATION_PATH = "/etc/vendors/settings.json"
SECRETS_PATH = local.SECRETS_PATH
STORAGE_PATH = "/var/lib/vendors"

OPENAI_PROJECT = "proj_icupa_agents"
MODELS = {
    "gpt-4.1": {"input": 2.0, "output": 8.0},
    "gpt-4.1-mini": {"input": 0.4, "output": 1.6},
    "gpt-4o": {"input": 2.5, "output": 10.0},
    "gpt-4o-mini": {"input": 0.15, "output": 0.6},
    "gpt-3.5-turbo": {"input": 0.5, "output": 1.5},
}
"""Models that are served, with USD for a million tokens."""
VECTOR_STORES = {"vs_menu": "menu", "vs_allergens": "allergens", "vs_policies": "policies"}
SUPABASE_PROJECT = "icupalocalagentsprod"
VERCEL_PROJECTS = {"prj_icupa_web": "icupa-web", "prj_icupa_admin": "icupa-admin"}
SLACK_CHANNELS = (
    "deployments",
    "status",
    "incidents",
    "ops-ai",
    "engineering",
    "backend-alerts",
    "finance",
    "trust-and-safety",
)
PAGERDUTY_SERVICE = "AI Platform"
STATUS_PAGE = "icupastatus1"
STATUS_COMPONENTS = ("agents-service", "WhatsApp", "Voice")


def url(vendor: str) -> str:
    """Base URL of a vendor's API."""
    return f"https://{local.VENDORS.host}/{vendor}"


def settings() -> dict[str, Any]:
    """Settings of reference/vendors; the first keys are in the mounted seed.json."""
    return {
        "port": local.VENDORS.port,
        "control_port": local.VENDORS_CONTROL_PORT,
        "certificate": f"{SECRETS_PATH}/tls.crt",
        "key": f"{SECRETS_PATH}/tls.key",
        "database": f"{STORAGE_PATH}/vendors.sqlite",
        "openai": {"project": OPENAI_PROJECT, "models": MODELS, "vector_stores": VECTOR_STORES},
        "supabase": {
            "project": SUPABASE_PROJECT,
            "tables": {
                "agent_runtime_configs": {
                    "columns": ["id", "key", "tenant_group", "enabled", "value", "created_at", "updated_at"],
                    "key": ["key", "tenant_group"],
                    "defaults": {"enabled": False, "value": None},
                }
            },
        },
        "vercel": {"projects": VERCEL_PROJECTS},
        "slack": {"team": "icupa", "channels": SLACK_CHANNELS},
        "pagerduty": {"service": PAGERDUTY_SERVICE},
        "statuspage": {"page": STATUS_PAGE, "components": STATUS_COMPONENTS},
    }


def files() -> dict[str, str]:
    """Every configuration file of the container, path to text."""
    return {CONFIGURATION_PATH: json.dumps(settings(), indent=2) + "\n"}

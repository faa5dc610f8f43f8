"""Reference agents-service: small, but honours the whole operational contract."""

SERVICE_NAME = "icupa-agents-service"

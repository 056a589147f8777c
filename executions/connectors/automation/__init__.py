"""Commands through an automation service that the installation has already (docs/decisions/0024-service-clients.md)."""

from executions.connectors.automation.connector import make

__all__ = ["make"]

"""How assets are reached: the connections that OpsConductor knows itself, and those that added connectors bring."""

from __future__ import annotations

from django.db import models

from executions.connectors.registry import connections


class Connection(models.TextChoices):
    LOCAL = "local"
    SSH = "ssh"
    POWERSHELL = "powershell"
    API = "api"


def connection_names() -> list[str]:
    """Every connection that an asset can have in this installation."""
    return [*Connection.values, *(name for name in connections() if name not in Connection.values)]


def connection_choices() -> list[tuple[str, str]]:
    """The same for forms. Looked at when a form is made, so that a package added later needs no migration."""
    labels = dict(Connection.choices)
    return [(name, str(labels.get(name, name))) for name in connection_names()]

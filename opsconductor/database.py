"""The DATABASES entry: an external PostgreSQL when DATABASE_URL is set, the embedded one under VAR_DIR otherwise."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from opsconductor.environment import ConfigError


def database_settings(url: str, var_dir: Path, *, pooled: bool) -> dict[str, Any]:
    """Return Django's settings of the one database; starts the embedded server when `url` is empty.

    `pooled` keeps connections open between requests: for the web process. A process that forks must not have a pool,
    its children would all talk over the same sockets.
    Raises ConfigError when `url` is not a PostgreSQL URL.
    """
    if not url:
        from opsconductor import embedded_postgres

        url = embedded_postgres.start(var_dir)
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ConfigError(f"DATABASE_URL must begin with postgresql://, not {parts.scheme or 'nothing'}://.")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or parts.hostname or ""
    if pooled:
        options["pool"] = {"min_size": 0, "max_size": 20, "timeout": 10, "max_idle": 60}
    return {
        "ENGINE": "django_prometheus.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(host),
        "PORT": str(parts.port or options.pop("port", "") or ""),
        "OPTIONS": options,
        # A pool keeps connections itself. Elsewhere a thread keeps its own, and looks whether it still works.
        "CONN_MAX_AGE": 0 if pooled else None,
        "CONN_HEALTH_CHECKS": not pooled,
    }

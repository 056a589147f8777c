"""The DATABASES entry: an external PostgreSQL when DATABASE_URL is set, the embedded one under VAR_DIR otherwise."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from opsconductor.environment import ConfigError

PREPARE_AFTER = 3  # uses of a statement over one connection; see prepared.py, nothing else of Django's is prepared

# How soon each side notices that the other is gone without a word: a host that died, a network that swallows packets.
# TCP alone takes a quarter of an hour, or two hours when it has nothing to send; so long the client would hang, and the
# server would keep the locks of what it never heard the end of. The URL may say otherwise; a Unix socket needs none.
CLIENT_SIDE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # Keepalives are not sent while something that was sent is not acknowledged: this is for that case, in ms.
    "tcp_user_timeout": 11_000,
}
SERVER_SIDE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=11000"
)


def database_settings(url: str, var_dir: Path, *, pooled: bool, as_app: bool = False) -> dict[str, Any]:
    """Return Django's settings of the one database; starts the embedded server when `url` is empty.

    `pooled` keeps connections open between requests: for the web process. A process that forks must not have a pool,
    its children would all talk over the same sockets. `as_app` is for web and workers: on the embedded server they have
    a role that may not change the audit; elsewhere the URL says which role it is.
    Raises ConfigError when `url` is not a PostgreSQL URL.
    """
    if not url:
        from opsconductor import embedded_postgres

        url = embedded_postgres.start(var_dir, role=embedded_postgres.APP_ROLE if as_app else embedded_postgres.ROLE)
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ConfigError(f"DATABASE_URL must begin with postgresql://, not {parts.scheme or 'nothing'}://.")
    given = dict(parse_qsl(parts.query))
    options: dict[str, Any] = {**CLIENT_SIDE, "prepare_threshold": PREPARE_AFTER, **given}
    options["options"] = f"{SERVER_SIDE} {given.get('options', '')}".rstrip()
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

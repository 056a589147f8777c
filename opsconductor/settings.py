"""Settings, read from the environment. A bad value stops the start with a sentence (see environment.py)."""

import contextlib
import secrets
import sys
from datetime import timedelta
from pathlib import Path

from opsconductor.admin_theme import UNFOLD as UNFOLD
from opsconductor.database import database_settings
from opsconductor.environment import (
    ConfigError,
    env_bool,
    env_certificates,
    env_choice,
    env_int,
    env_labels,
    env_list,
    env_networks,
    env_str,
    refuse_debug_for_others,
)
from opsconductor.made_once import made_once
from opsconductor.secret_store import secret_store_settings
from opsconductor.service_settings import service_settings
from opsconductor.single_sign_on import single_sign_on

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env_str("VAR_DIR", str(BASE_DIR / "var"))).resolve()
VERSION = "0.1.0"

DEBUG = env_bool("DEBUG", False)
DATABASE_URL = env_str("DATABASE_URL", "", secret=True)
if DEBUG:
    refuse_debug_for_others(bind=env_str("BIND", "127.0.0.1"), database_url=DATABASE_URL)
# Web and workers have a role of their own in the database, which may not change the audit; commands are the owner of
# the tables. With an external server the owner's address stands here, if the two are apart there.
DATABASE_OWNER_URL = env_str("DATABASE_OWNER_URL", "", secret=True)
DATABASE_ROLE = env_choice("DATABASE_ROLE", "app" if sys.argv[1:2] == ["worker"] else "owner", ["app", "owner"])
if DATABASE_OWNER_URL and not DATABASE_URL:
    raise ConfigError("DATABASE_OWNER_URL is for an external server: set DATABASE_URL as well, or neither.")
GIVEN_SECRET_KEY = env_str("SECRET_KEY", "", secret=True)
# Without it a process can neither make nor read what the others sign. Workers can live with that: the `work` calls of
# a cluster stay within it. They then leave django-q2's stored tasks and schedules, which are signed, to other hosts.
SHARES_SECRET_KEY = bool(GIVEN_SECRET_KEY) or not DATABASE_URL


def _secret_key() -> str:
    """The given SECRET_KEY; on the embedded PostgreSQL one that is made once and kept under VAR_DIR; for a worker
    without either one that lives as long as its cluster, whose processes are forked and so inherit it.
    """
    if GIVEN_SECRET_KEY:
        return GIVEN_SECRET_KEY
    if DATABASE_URL:
        if sys.argv[1:2] == ["worker"]:
            return secrets.token_urlsafe(64)
        raise ConfigError(
            "SECRET_KEY is not set: with DATABASE_URL everything but `manage.py worker` needs one"
            " (50 random characters or more)."
        )
    return made_once(VAR_DIR / "secret_key", lambda: secrets.token_urlsafe(64))


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
TRUSTED_PROXIES = env_networks("TRUSTED_PROXIES", [])  # see safety/client_address.py
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [])

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "guardian",
    "channels",
    "django_q",
    "django_prometheus",
    "opsconductor",
    "safety",
    "queueing",
    "executions",
    "monitoring",
]
# As an app Daphne only gives `runserver` its sockets; the Twisted that it brings is a fifth of the start of a process.
if sys.argv[1:2] == ["runserver"]:
    INSTALLED_APPS.insert(0, "daphne")

MIDDLEWARE = [
    "opsconductor.security_headers.SecurityHeaders",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "safety.audit.middleware.AuditOrigin",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "opsconductor.visible_text.VisibleText",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "safety.sessions.SessionActivity",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "opsconductor.urls"
CSRF_FAILURE_VIEW = "opsconductor.error_pages.form_token_missing"
DEFAULT_EXCEPTION_REPORTER_FILTER = "opsconductor.error_pages.QuietReporter"
ASGI_APPLICATION = "opsconductor.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# asgi.py sets both: the web process serves many threads, a management command or worker none.
_AS_APP = DATABASE_ROLE == "app"
DATABASES = {
    "default": database_settings(
        DATABASE_URL if _AS_APP else DATABASE_OWNER_URL or DATABASE_URL,
        VAR_DIR,
        pooled=env_bool("DATABASE_POOL", False),
        as_app=_AS_APP,
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "safety.User"
AUTHENTICATION_BACKENDS = [
    "safety.backends.PasswordBackend",
    "safety.backends.SsoBackend",
    "guardian.backends.ObjectPermissionBackend",
]
ANONYMOUS_USER_NAME = None  # guardian: there is no anonymous user to give rights to
# The first makes new ones; a password that another one hashed gets a new hash when it is next used.
PASSWORD_HASHERS = [
    "safety.passwords.Argon2",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
OIDC = single_sign_on()  # None: local accounts alone
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "executions:list"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
with contextlib.suppress(OSError):  # workers do without it, and may have no folder to write to; `serve` insists on it
    STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # serves from the source tree: no collectstatic before the first use

DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024  # a batch of 1,000 plans; request_limits.py has the limit of each door
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 1  # the import of assets takes one, and nothing else here takes any

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "executions.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "executions.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "OpsConductor",
    "DESCRIPTION": "Carries out infrastructure changes safely.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
}

# Queue and workers
WORKER_PROCESSES = env_int("WORKER_PROCESSES", 2, minimum=1, maximum=256)
# So many a scale-up or autoscaling may reach on this host; their processes are there from the start, and sleep.
WORKER_MAX_PROCESSES = env_int("WORKER_MAX_PROCESSES", max(8, WORKER_PROCESSES), minimum=WORKER_PROCESSES, maximum=256)
WORKER_POOLS = env_labels("WORKER_POOLS", ["*"])  # pools and regions that this host's workers serve; * is all of them
WORKER_REGIONS = env_labels("WORKER_REGIONS", ["*"])
WORKER_MAX_RSS = env_int("WORKER_MAX_RSS_MB", 600, minimum=100) * 1024 * 1024  # a bigger process is replaced
WORKER_CONCURRENCY = env_int("WORKER_CONCURRENCY", 500, minimum=1, maximum=10_000)
LEASE = timedelta(seconds=env_int("LEASE_SECONDS", 30, minimum=3, maximum=3600))
WORKER_SHIFT = timedelta(seconds=env_int("WORKER_SHIFT_SECONDS", 3600, minimum=1))  # then a new process takes over
SILENT_AFTER = LEASE * 2 / 3  # a worker beats every third of a lease: two beats are missing
QUEUE_AGEING = timedelta(seconds=30)  # the head start in time that one priority level is worth
QUEUE_RUNNER = "executions.engine.entry.Engine"  # what queueing's workers run; see queueing/worker.py
CLEANUP = timedelta(seconds=env_int("CLEANUP_SECONDS", 30, minimum=1, maximum=3600))
SHUTDOWN_GRACE = timedelta(seconds=env_int("SHUTDOWN_GRACE_SECONDS", 20, minimum=1, maximum=3600))

Q_CLUSTER = {
    "name": "opsconductor",
    "broker_class": "queueing.broker.ExecutionBroker",
    "orm": "default",
    # two processes more than there can be workers: one that runs suspects apart, and one for django-q2's own tasks and
    # schedules, which so go on working
    "workers": WORKER_MAX_PROCESSES + 2,
    # room for calls that nobody takes up: when it is full the broker is not asked any more, and could not see it
    "queue_limit": 4 * (WORKER_MAX_PROCESSES + 2),
    "timeout": 3600,  # of django-q2's own tasks; a `work` call carries its own: none
    "retry": 7200,
    "recycle": 1000,
    "save_limit": 250,
    "poll": 0.2,
    "catch_up": False,
    "scheduler": SHARES_SECRET_KEY,
    "log_level": "WARNING",
}


def _tools_dir() -> Path | None:
    """A site's own tools: TOOLS_DIR, or `tools` under VAR_DIR where there is such a folder."""
    given = env_str("TOOLS_DIR", "")
    folder = Path(given).resolve() if given else VAR_DIR / "tools"
    if given and not folder.is_dir():
        raise ConfigError(f"TOOLS_DIR names {folder}, which is no folder: make it, or unset TOOLS_DIR.")
    return folder if folder.is_dir() else None


def _known_hosts() -> str:
    """A file in the form of OpenSSH's known_hosts, or nothing: then only the inventory says which key a host has."""
    given = env_str("SSH_KNOWN_HOSTS", "")
    if given and not Path(given).is_file():
        raise ConfigError(f"SSH_KNOWN_HOSTS names {given}, which is no file: correct it, or unset it.")
    return given


def _agent_sockets() -> list[str]:
    """The agents that credentials may name; without any, none."""
    given = env_list("SSH_AGENT_SOCKETS")
    for path in given:
        if not path.startswith("/"):
            raise ConfigError(f"SSH_AGENT_SOCKETS names {path}, which is no whole path: write it from / on.")
    return given


# Plans and limits
TOOLS_DIR = _tools_dir()
MAX_TARGETS = env_int("MAX_TARGETS", 1000, minimum=1, maximum=100_000)
MAX_OUTPUT_BYTES = env_int("MAX_OUTPUT_BYTES", 50 * 1024 * 1024, minimum=1024)
HTTP_ALLOWED_NETWORKS = env_networks("HTTP_ALLOWED_NETWORKS", [])
ANSIBLE_PLAYBOOKS = Path(env_str("ANSIBLE_PLAYBOOKS", str(VAR_DIR / "playbooks"))).resolve()
ANSIBLE_FORKS = env_int("ANSIBLE_FORKS", 20, minimum=1, maximum=1000)
WINRM_CA_BUNDLE = env_certificates("WINRM_CA_BUNDLE")
SSH_KNOWN_HOSTS = _known_hosts()
SSH_AGENT_SOCKETS = _agent_sockets()
WINRM_AUTH = env_choice("WINRM_AUTH", "negotiate", ["negotiate", "ntlm", "kerberos", "basic"])
IDEMPOTENCY_WINDOW = timedelta(hours=env_int("IDEMPOTENCY_WINDOW_HOURS", 24, minimum=1))
# How long after its end something is kept (executions/retention.py); no time at all means for ever.
EVENT_RETENTION = timedelta(days=env_int("EVENT_RETENTION_DAYS", 90, minimum=0, maximum=36_500))
EXECUTION_RETENTION = timedelta(days=env_int("EXECUTION_RETENTION_DAYS", 730, minimum=0, maximum=36_500))
DEVELOPMENT_ENVIRONMENTS = env_list("DEVELOPMENT_ENVIRONMENTS", ["development"])
# An asset that nobody has heard of for so long is shown as stale (executions/models.py).
ASSET_SYNC = timedelta(seconds=env_int("ASSET_SYNC_SECONDS", 0, minimum=0, maximum=604_800))  # none: by command alone
ASSET_STALE_AFTER = timedelta(days=env_int("ASSET_STALE_DAYS", 30, minimum=1, maximum=36_500))
APPROVAL_TARGETS = env_int("APPROVAL_TARGETS", 50, minimum=1)  # more targets than this need two approvers
APPROVAL_GROUP_PERCENT = env_int("APPROVAL_GROUP_PERCENT", 50, minimum=1, maximum=100)  # so does more of a group

# Secrets: which store, and what it needs (secret_store.py)
_secret_store = secret_store_settings(DATABASE_URL, VAR_DIR)
SECRETS_BACKEND = _secret_store.backend
FIELD_ENCRYPTION_KEYS = _secret_store.keys
VAULT = _secret_store.vault
AWS_REGION = _secret_store.aws_region

# Services that are there already; None: the embedded inventory and connectors serve (executions/clients)
ASSET_SERVICE, AUTOMATION_SERVICE = service_settings()
ASSET_SERVICE_TENANT = env_str("ASSET_SERVICE_TENANT", "default")  # whose inventory it is

SESSION_ENGINE = "safety.sessions"
SESSION_IDLE = timedelta(minutes=env_int("SESSION_IDLE_MINUTES", 120, minimum=1, maximum=10_080))
SESSION_MAX = timedelta(hours=env_int("SESSION_MAX_HOURS", 12, minimum=1, maximum=720))
SESSION_COOKIE_AGE = int(SESSION_MAX.total_seconds())
# E-mail to those who may approve; without EMAIL_HOST nothing is sent (executions/services/notices.py)
EMAIL_HOST = env_str("EMAIL_HOST", "")
EMAIL_PORT = env_int("EMAIL_PORT", 25, minimum=1, maximum=65_535)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env_str("EMAIL_HOST_PASSWORD", "", secret=True)
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = env_bool("EMAIL_USE_SSL", False)
if EMAIL_USE_TLS and EMAIL_USE_SSL:
    raise ConfigError("EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: set the one that the mail server speaks.")
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env_str("EMAIL_FROM", "opsconductor@localhost")
PUBLIC_URL = env_str("PUBLIC_URL", "").rstrip("/")  # where people find the pages, for links in e-mails

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = False  # the API's page of calls sends it in a header
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DEFAULT_EXCEPTION_REPORTER = "safety.masking.error_pages.MaskingExceptionReporter"

# Behind a proxy that ends TLS: cookies for HTTPS only, plain HTTP led there, and browsers told to come back so.
BEHIND_HTTPS = env_bool("BEHIND_HTTPS", False)
if BEHIND_HTTPS and not TRUSTED_PROXIES:
    raise ConfigError(
        "BEHIND_HTTPS needs TRUSTED_PROXIES, the networks of the proxies that end TLS, such as 127.0.0.1: what nobody"
        " vouches for is taken for plain HTTP."
    )
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = BEHIND_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_HTTPS else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if BEHIND_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = BEHIND_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]  # asked from within, past the proxy
# Being on the browsers' own lists (preload) is for a domain's owner to ask for, not for one service on it.
SILENCED_SYSTEM_CHECKS = ["security.W021"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"masking": {"()": "safety.masking.logs.MaskingFilter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["masking"]}},
    "root": {"handlers": ["console"], "level": env_str("LOG_LEVEL", "INFO")},
    "loggers": {
        "django-q": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "asyncssh": {"level": "WARNING"},  # it tells of every connection and channel
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
    },
}

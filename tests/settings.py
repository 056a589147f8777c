"""The project's settings on an embedded PostgreSQL of the tests' own, in a folder that goes when they end."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from opsconductor import embedded_postgres

# What the tests are started with must not lead them to an installation that somebody uses.
for name in (
    "DATABASE_URL", "SECRET_KEY", "HTTP_ALLOWED_NETWORKS", "ALLOWED_HOSTS", "PORT", "BIND", "DEBUG", "SECRETS_BACKEND",
    "FIELD_ENCRYPTION_KEYS", "ASSET_SERVICE_URL", "AUTOMATION_SERVICE_URL", "SERVICE_TOKEN",
):  # fmt: skip
    os.environ.pop(name, None)
    os.environ.pop(f"{name}_FILE", None)

_folder = Path(tempfile.mkdtemp(prefix="opsconductor-tests-"))
os.environ["VAR_DIR"] = str(_folder)
embedded_postgres.start(_folder.resolve(), durable=False)


def _clean_up(owner: int = os.getpid()) -> None:
    if os.getpid() == owner:  # not in the children that tests fork
        embedded_postgres.release(_folder)
        shutil.rmtree(_folder, ignore_errors=True)


atexit.register(_clean_up)

from opsconductor.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # signing in often, quickly
LOGGING = {"version": 1, "disable_existing_loggers": False}  # pytest captures what is logged
if "pytest" not in sys.modules:
    LOGGING["root"] = {"level": "WARNING"}

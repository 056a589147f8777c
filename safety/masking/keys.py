"""Names that say that what stands under them is a secret."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST_NAME = 100

NAMES = frozenset(
    {
        "password", "passwd", "pwd", "passphrase", "passcode", "pass", "secret", "secrets", "token", "tokens",
        "api_key", "apikey", "private_key", "privatekey", "secret_key", "secretkey", "access_key", "accesskey",
        "access_key_id", "secret_access_key", "authorization", "proxy_authorization", "auth", "credential",
        "credentials", "auth_token", "access_token", "refresh_token", "id_token", "bearer", "bearer_token",
        "client_secret", "session", "session_id", "sessionid", "session_key", "session_token", "csrf_token",
        "x_api_key", "x_auth_token", "x_vault_token", "ssh_key", "ssh_private_key", "cookie", "cookies", "set_cookie",
        "encryption_key", "signing_key", "master_key", "account_key", "shared_key", "connection_string", "dsn",
        "database_url", "otp", "pin",
    }
)  # fmt: skip
ENDINGS = (
    "_password", "_passwd", "_passphrase", "_pwd", "_pass", "_secret", "_token", "_api_key", "_apikey", "_private_key",
    "_secret_key", "_access_key", "_encryption_key", "_signing_key", "_credential", "_credentials", "_cookie",
    "_session", "_session_id", "_authorization", "_keys_secret", "_dsn", "_database_url", "_encryption_keys",
)  # fmt: skip
_RUN_TOGETHER = ("password", "passwd", "passphrase", "secretkey", "privatekey", "apikey", "authtoken", "accesstoken")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_JOINTS = re.compile(r"[-\s.:/]+")


def snake_case(name: str) -> str:
    """`Proxy-Authorization`, `proxyAuthorization` and `PROXY AUTHORIZATION` are one name: proxy_authorization."""
    return _JOINTS.sub("_", _HUMP.sub("_", name).lower()).strip("_")


def names_a_secret(name: str) -> bool:
    """Whether a name, however it is written, says that its value is a secret."""
    return len(name) <= LONGEST_NAME and _says_secret(name)


@lru_cache(maxsize=4096)  # the same few names stand in every document
def _says_secret(name: str) -> bool:
    plain = snake_case(name)
    return plain in NAMES or plain.endswith(ENDINGS) or plain.endswith(_RUN_TOGETHER)

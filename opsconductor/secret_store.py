"""The settings of the secret store: SECRETS_BACKEND, its keys and where it is."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from opsconductor.environment import ConfigError, env_choice, env_list, env_str
from opsconductor.made_once import made_once

KEY_BYTES = 32
NEW_KEY = 'python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where Vault is and how to sign in there: with a token, or as an AppRole. Credentials are in no repr."""

    address: str
    mount: str
    namespace: str
    ca_file: str
    role: str = field(default="", repr=False)
    secret_id: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SecretStoreSettings:
    """`backend` is embedded, vault or aws; what belongs to another one is empty."""

    backend: str
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    vault: VaultSettings | None = None
    aws_region: str = ""


def secret_store_settings(database_url: str, var_dir: Path) -> SecretStoreSettings:
    """Read the settings of the store. Raises ConfigError for a value that cannot be used, or a library that lacks."""
    backend = env_choice("SECRETS_BACKEND", "embedded", ("embedded", "vault", "aws"))
    given = _given_keys()  # checked also when another store is used: a typing error is found today, not at the change
    if backend == "vault":
        _need_library("vault", "hvac", "requirements-vault.txt")
        return SecretStoreSettings(backend, given, vault=_vault())
    if backend == "aws":
        _need_library("aws", "boto3", "requirements-aws.txt")
        region = env_str("AWS_REGION", "")
        if not region:
            raise ConfigError("AWS_REGION is not set: with SECRETS_BACKEND=aws write the region, such as eu-west-1.")
        return SecretStoreSettings(backend, given, aws_region=region)
    if given or database_url:
        # Workers on other hosts need nothing but DATABASE_URL until a plan names a secret, and then say so.
        return SecretStoreSettings(backend, given)
    return SecretStoreSettings(backend, (_own_key(var_dir),))


def _given_keys() -> tuple[bytes, ...]:
    keys = tuple(_key(number, text) for number, text in enumerate(env_list("FIELD_ENCRYPTION_KEYS", secret=True), 1))
    if len(set(keys)) != len(keys):
        raise ConfigError("FIELD_ENCRYPTION_KEYS names the same key twice: keep one of them.")
    return keys


def _key(number: int, text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"Key {number} of FIELD_ENCRYPTION_KEYS is not 32 bytes in URL-safe base64; make one with: {NEW_KEY}"
        )
    return key


def _own_key(var_dir: Path) -> bytes:
    """The key of an installation on the embedded PostgreSQL: made once, beside the data that it protects."""
    return _key(1, made_once(var_dir / "field_encryption_key", _new_key))


def _new_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def _need_library(backend: str, library: str, requirements: str) -> None:
    if find_spec(library) is None:
        raise ConfigError(
            f"SECRETS_BACKEND={backend} needs the package {library}: .venv/bin/pip install -r {requirements}"
        )


def _vault() -> VaultSettings:
    address = (env_str("VAULT_ADDR", "") or "").rstrip("/")
    if not address:
        raise ConfigError("VAULT_ADDR is not set: with SECRETS_BACKEND=vault write https://vault.example.org:8200.")
    _check_address(address)
    ca_file = env_str("VAULT_CACERT", "")
    if ca_file and not Path(ca_file).is_file():
        raise ConfigError(f"VAULT_CACERT names {ca_file}, which is no file.")
    vault = VaultSettings(
        address=address,
        mount=env_str("VAULT_MOUNT", "secret").strip("/"),
        namespace=env_str("VAULT_NAMESPACE", ""),
        ca_file=ca_file,
        role=env_str("VAULT_ROLE", ""),
        secret_id=env_str("VAULT_SECRET_ID", "", secret=True),
        token=env_str("VAULT_TOKEN", "", secret=True),
    )
    if bool(vault.role) == bool(vault.token):
        raise ConfigError(
            "With SECRETS_BACKEND=vault set VAULT_ROLE (with VAULT_SECRET_ID), or VAULT_TOKEN, and not both."
        )
    return vault


def _check_address(address: str) -> None:
    """Secrets travel over TLS; without it only within this machine."""
    try:
        parts = urlsplit(address)
        host, scheme, _ = parts.hostname or "", parts.scheme, parts.port
    except ValueError:
        host, scheme = "", ""
    if scheme not in ("http", "https") or not host:
        raise ConfigError(f"VAULT_ADDR must be an address such as https://vault.example.org:8200, not {address!r}.")
    if scheme == "http" and not _is_loopback(host):
        raise ConfigError("VAULT_ADDR must begin with https://: over http secrets would travel in clear.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""The settings of the secret store: a bad value stops the start with a sentence that never repeats a secret."""

from __future__ import annotations

import stat
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from opsconductor import secret_store
from opsconductor.environment import ConfigError
from opsconductor.secret_store import secret_store_settings

NAMES = (
    "SECRETS_BACKEND", "FIELD_ENCRYPTION_KEYS", "VAULT_ADDR", "VAULT_ROLE", "VAULT_SECRET_ID", "VAULT_TOKEN",
    "VAULT_CACERT", "VAULT_MOUNT", "VAULT_NAMESPACE", "AWS_REGION",
)  # fmt: skip
KEY = urlsafe_b64encode(b"k" * 32).decode()
VAULT = {"SECRETS_BACKEND": "vault", "VAULT_ADDR": "https://vault.example.org:8200"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def put(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_on_the_embedded_postgresql_a_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    first = secret_store_settings("", tmp_path)
    assert secret_store_settings("", tmp_path) == first
    assert len(first.keys) == 1
    assert len(first.keys[0]) == 32
    assert stat.S_IMODE((tmp_path / "field_encryption_key").stat().st_mode) == 0o600
    assert KEY not in repr(first)
    assert repr(first.keys[0]) not in repr(first)


def test_with_a_database_of_its_own_a_key_is_given_or_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secret_store_settings("postgresql:///x", tmp_path).keys == ()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "keys").write_text(f"{KEY}, {urlsafe_b64encode(b'o' * 32).decode().rstrip('=')}\n")
    monkeypatch.setenv("FIELD_ENCRYPTION_KEYS_FILE", str(tmp_path / "keys"))
    assert secret_store_settings("postgresql:///x", tmp_path).keys == (b"k" * 32, b"o" * 32)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"SECRETS_BACKEND": "Vault"}, "SECRETS_BACKEND must be one of embedded, vault, aws"),
        ({"FIELD_ENCRYPTION_KEYS": "hunter2"}, "Key 1 of FIELD_ENCRYPTION_KEYS is not 32 bytes"),
        ({"FIELD_ENCRYPTION_KEYS": f"{KEY},hunter2hunter2"}, "Key 2 of FIELD_ENCRYPTION_KEYS"),
        ({"FIELD_ENCRYPTION_KEYS": f"{KEY},{KEY}"}, "the same key twice"),
        ({"SECRETS_BACKEND": "vault"}, "VAULT_ADDR is not set"),
        ({**VAULT, "VAULT_ADDR": "vault:8200", "VAULT_TOKEN": "hunter2"}, "VAULT_ADDR must be an address"),
        ({**VAULT, "VAULT_ADDR": "http://vault:8200", "VAULT_TOKEN": "hunter2"}, "must begin with https"),
        (VAULT, "set VAULT_ROLE"),
        ({**VAULT, "VAULT_TOKEN": "hunter2", "VAULT_ROLE": "r"}, "and not both"),
        ({**VAULT, "VAULT_TOKEN": "hunter2", "VAULT_CACERT": "/nowhere/ca.pem"}, "VAULT_CACERT"),
        ({"SECRETS_BACKEND": "aws"}, "AWS_REGION is not set"),
    ],
)
def test_a_bad_value_stops_the_start_with_a_sentence(
    given: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, given)
    with pytest.raises(ConfigError, match=words) as refused:
        secret_store_settings("", tmp_path)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("address", ["https://vault.example.org:8200/", "http://127.0.0.1:8200", "http://[::1]:8200"])
def test_vault_is_spoken_to_over_tls_or_within_this_machine(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "id").write_text("secret-id\n")
    put(monkeypatch, {"SECRETS_BACKEND": "vault", "VAULT_ADDR": address, "VAULT_ROLE": "role-id"})
    monkeypatch.setenv("VAULT_SECRET_ID_FILE", str(tmp_path / "id"))
    vault = secret_store_settings("postgresql:///x", tmp_path).vault
    assert vault is not None
    assert (vault.address, vault.mount, vault.secret_id) == (address.rstrip("/"), "secret", "secret-id")
    assert "secret-id" not in repr(vault)
    assert "role-id" not in repr(vault)


@pytest.mark.parametrize(("backend", "library"), [("vault", "hvac"), ("aws", "boto3")])
def test_a_library_that_is_not_installed_is_named(
    backend: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_store, "find_spec", lambda name: None)
    monkeypatch.setenv("SECRETS_BACKEND", backend)
    with pytest.raises(ConfigError, match=rf"needs the package {library}.*requirements-{backend}\.txt"):
        secret_store_settings("", tmp_path)

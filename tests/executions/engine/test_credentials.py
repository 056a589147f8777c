"""What a stored secret means as the credential of a machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executions.connectors import Credential
from executions.engine.credentials import credential_of, secrets_of
from safety.secrets import SecretUnavailable, StoredSecret

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"


def stored(text: str | None = None, entries: dict[str, Any] | None = None) -> StoredSecret:
    return StoredSecret("ssh/web", "1", text, entries)


@pytest.mark.parametrize(
    ("secret", "credential"),
    [
        (stored("pw with spaces \n"), Credential(password="pw with spaces ")),
        (stored(KEY), Credential(private_key=KEY)),
        (stored(json.dumps({"username": "ops", "password": "pw"})), Credential(username="ops", password="pw")),
        (stored(entries={"value": "pw"}), Credential(password="pw")),
        (stored(entries={"value": json.dumps({"user": "ops", "key": KEY})}), Credential("ops", private_key=KEY)),
        (stored(entries={"token": "t", "domain": "CORP", "port": 22}), Credential(domain="CORP", bearer_token="t")),
        (
            stored(json.dumps({"password": "pw", "jump_host": {"host": "bastion"}})),
            Credential(password="pw", jump_hosts=({"host": "bastion"},)),
        ),
    ],
)
def test_a_secret_is_read_as_a_credential(secret: StoredSecret, credential: Credential) -> None:
    assert credential_of(secret) == credential


@pytest.mark.parametrize(
    "secret",
    [stored(""), stored("\n"), stored(entries={}), stored(entries={"port": 22}), stored('{"password": "", "x": 1}')],
)
def test_a_secret_with_nothing_to_sign_in_with_is_refused(secret: StoredSecret) -> None:
    with pytest.raises(SecretUnavailable, match="nothing to sign in with"):
        credential_of(secret)


def test_a_secret_with_jump_hosts_that_are_none_is_refused() -> None:
    with pytest.raises(SecretUnavailable, match="jump_hosts"):
        credential_of(stored('{"password": "pw", "jump_hosts": ["bastion"]}'))


def test_every_secret_of_a_credential_is_hidden_also_those_of_its_jump_hosts() -> None:
    jump = {"host": "bastion", "username": "hop", "password": "jump-pw", "private_key": KEY}
    credential = Credential(username="ops", password="pw", sudo_password="root-pw", jump_hosts=(jump,))

    assert set(secrets_of(credential)) == {"pw", "root-pw", "jump-pw", KEY}
    assert not any(value in repr(credential) for value in ("ops", "pw", "bastion", "BEGIN"))

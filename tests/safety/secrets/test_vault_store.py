"""Vault: what it answers and what becomes of it, over HTTP and TLS, against a server that speaks its API."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from opsconductor.secret_store import VaultSettings
from safety.models import Tenant
from safety.secrets import SecretUnavailable, vault_session
from safety.secrets.vault import VaultStore
from tests.installations import free_port, wait_until
from tests.safety.secrets.vault_server import ROLE_ID, SECRET_ID, VaultServer

ACME = Tenant(pk=1, name="acme")
PLACE = "opsconductor/acme/db/orders"
LOGIN = "POST /v1/auth/approle/login"
RENEW = "POST /v1/auth/token/renew-self"


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    server = VaultServer()
    yield server
    server.close()


def settings_for(vault: VaultServer, **changes: Any) -> VaultSettings:
    role = {"role": ROLE_ID, "secret_id": SECRET_ID} if "token" not in changes else {}
    return replace(VaultSettings(vault.address, "secret", "", ""), **{**role, **changes})


def value_in(store: VaultStore, path: str = "db/orders", key: str | None = None) -> str:
    answer = store.read(ACME, [path])[path]
    if isinstance(answer, SecretUnavailable):
        raise answer
    return answer.value(key)


def trouble_of(store: VaultStore, path: str = "db/orders") -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as refused:
        value_in(store, path)
    said = f"{refused.value!r} {refused.value}"
    assert not any(credential in said for credential in (ROLE_ID, SECRET_ID, "hvs.")), said
    return refused.value


def test_what_is_stored_comes_back_with_its_version(vault: VaultServer) -> None:
    store = VaultStore(settings_for(vault))
    assert store.write(ACME, "db/orders", "first") == "1"
    assert store.write(ACME, "db/orders", "second") == "2"
    assert value_in(store) == "second"
    assert vault.count(LOGIN) == 1
    assert store.paths(ACME) == ["db/orders"]
    assert store.delete(ACME, "db/orders")
    assert not store.delete(ACME, "db/orders")
    assert store.paths(ACME) == []
    assert trouble_of(store).message == "There is no secret db/orders."


def test_entries_that_others_stored_are_named_by_key(vault: VaultServer) -> None:
    vault.put(PLACE, {"user": "u", "password": "p4ss", "port": 5432})
    store = VaultStore(settings_for(vault, token="root-token"))
    assert [value_in(store, key=key) for key in ("user", "password", "port")] == ["u", "p4ss", "5432"]
    assert '"key"' in trouble_of(store).how_to_fix
    vault.put(PLACE, {"password": "alone"})
    assert value_in(store) == "alone"
    store.write(ACME, "db/orders", '{"password": "in JSON"}')
    assert value_in(store, key="password") == "in JSON"


def test_another_tenants_secrets_are_out_of_reach(vault: VaultServer) -> None:
    store = VaultStore(settings_for(vault))
    store.write(Tenant(pk=2, name="other"), "db/orders", "theirs")
    assert trouble_of(store).message == "There is no secret db/orders."
    assert store.paths(ACME) == []


def test_many_are_read_at_once_and_each_has_its_own_answer(vault: VaultServer) -> None:
    store = VaultStore(settings_for(vault))
    for number in range(10):
        store.write(ACME, f"many/{number}", f"value {number}")
    answers = store.read(ACME, [f"many/{number}" for number in range(12)])
    assert [isinstance(answer, SecretUnavailable) for answer in answers.values()] == [False] * 10 + [True] * 2


@pytest.mark.parametrize(
    ("status", "transient", "words"),
    [
        (403, False, "does not let"), (404, False, "no secret"), (400, False, "does not understand"),
        (429, True, "no more requests"), (500, True, "error of its own"), (501, False, "not initialised"),
        (502, True, "error of its own"), (503, True, "sealed"), (412, True, "error of its own"),
    ],
)  # fmt: skip
def test_an_error_is_permanent_or_passes(vault: VaultServer, status: int, transient: bool, words: str) -> None:
    vault.behaviour.status = status
    trouble = trouble_of(VaultStore(settings_for(vault)))
    assert trouble.transient is transient
    assert words in trouble.message
    assert trouble.how_to_fix


def test_a_sealed_vault_is_waited_for_also_at_sign_in(vault: VaultServer) -> None:
    store = VaultStore(settings_for(vault))
    vault.put(PLACE, {"value": "x"})
    vault.behaviour.sealed = True
    assert trouble_of(store).transient
    vault.behaviour.sealed = False
    wait_until(lambda: not isinstance(store.read(ACME, ["db/orders"])["db/orders"], SecretUnavailable), what="a value")
    assert value_in(store) == "x"


def test_a_sign_in_that_failed_is_not_tried_again_for_each_secret(
    vault: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try may take seconds, one at a time: two hundred of them would keep the whole worker waiting for minutes."""
    monkeypatch.setattr(vault_session, "FAILURE_STANDS_SECONDS", 60.0)
    store = VaultStore(settings_for(vault))
    vault.behaviour.sealed = True
    answers = store.read(ACME, [f"many/{number}" for number in range(200)])
    assert vault.count(LOGIN) == 1
    for path, answer in answers.items():
        assert isinstance(answer, SecretUnavailable)
        assert (answer.path, answer.transient) == (path, True)
        assert "sealed" in answer.message


def test_a_deleted_version_is_told_from_a_path_that_never_was(vault: VaultServer) -> None:
    vault.put(PLACE, {"value": "x"})
    vault.delete_newest(PLACE)
    trouble = trouble_of(VaultStore(settings_for(vault)))
    assert "was deleted" in trouble.message
    assert not trouble.transient


def test_a_wrong_mount_is_named(vault: VaultServer) -> None:
    assert "VAULT_MOUNT" in trouble_of(VaultStore(settings_for(vault, mount="kv"))).how_to_fix


@pytest.mark.parametrize("changes", [{"secret_id": "wrong"}, {"token": "wrong"}])
def test_credentials_that_are_not_accepted_are_permanent(vault: VaultServer, changes: dict[str, str]) -> None:
    trouble = trouble_of(VaultStore(settings_for(vault, **changes)))
    assert "does not accept" in trouble.message
    assert not trouble.transient


def test_a_policy_that_denies_does_not_make_it_sign_in_again(vault: VaultServer) -> None:
    token = vault.new_token(may_read=False)
    assert not trouble_of(VaultStore(settings_for(vault, token=token))).transient
    assert vault.count(f"GET /v1/secret/data/{PLACE}") == 1


def test_a_token_that_ended_is_replaced_by_signing_in_anew(vault: VaultServer) -> None:
    vault.put(PLACE, {"value": "x"})
    store = VaultStore(settings_for(vault))
    assert value_in(store) == "x"
    vault.end_all_tokens()  # revoked, or Vault was restored from a backup: nobody told us
    assert value_in(store) == "x"
    assert vault.count(LOGIN) == 2


def test_a_given_token_that_ended_is_told_of(vault: VaultServer) -> None:
    vault.put(PLACE, {"value": "x"})
    store = VaultStore(settings_for(vault, token=vault.new_token()))
    assert value_in(store) == "x"
    vault.end_all_tokens()
    trouble = trouble_of(store)
    assert "VAULT_TOKEN" in trouble.message
    assert not trouble.transient


def test_a_lease_is_renewed_before_it_ends_also_while_nothing_is_asked_for(
    vault: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_session, "SHORTEST_LIFE_SECONDS", 0.2)
    vault.put(PLACE, {"value": "x"})
    vault.behaviour.ttl_seconds = 0.9
    store = VaultStore(settings_for(vault))
    store.keep_ready()
    wait_until(lambda: vault.count(RENEW) >= 3, seconds=20, what="a third renewal")
    assert value_in(store) == "x"
    assert vault.count(LOGIN) == 1


def test_a_token_at_its_largest_age_is_replaced_before_it_ends(
    vault: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_session, "SHORTEST_LIFE_SECONDS", 0.5)
    vault.behaviour.ttl_seconds = vault.behaviour.largest_age_seconds = 0.9
    store = VaultStore(settings_for(vault))
    store.keep_ready()
    wait_until(lambda: vault.count(LOGIN) >= 2, seconds=20, what="a second sign-in")
    assert vault.count(RENEW) >= 1


def test_a_vault_that_is_not_there_passes(vault: VaultServer) -> None:
    nowhere = settings_for(vault, address=f"http://127.0.0.1:{free_port()}")
    trouble = trouble_of(VaultStore(nowhere))
    assert trouble.transient
    assert "cannot be reached" in trouble.message


def test_a_vault_that_does_not_answer_in_time_passes(vault: VaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_session, "READ_SECONDS", 0.3)
    store = VaultStore(settings_for(vault))
    vault.behaviour.delay = threading.Event()
    try:
        trouble = trouble_of(store)
    finally:
        vault.behaviour.delay.set()
    assert trouble.transient
    assert "in time" in trouble.message


def test_the_token_does_not_follow_a_redirect(vault: VaultServer) -> None:
    elsewhere = VaultServer()
    try:
        vault.put(PLACE, {"value": "x"})
        vault.behaviour.redirect_to = f"{elsewhere.address}/v1/secret/data/{PLACE}"
        trouble = trouble_of(VaultStore(settings_for(vault)))
        assert "redirects" in trouble.message
        assert elsewhere.behaviour.log == []
    finally:
        elsewhere.close()


def test_a_certificate_is_checked_against_the_authority_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    server = VaultServer(context)
    try:
        server.put(PLACE, {"value": "over TLS"})
        assert value_in(VaultStore(settings_for(server, ca_file=str(tmp_path / "ca.pem")))) == "over TLS"
        for wrong in ("", str(tmp_path / "other.pem")):
            trouble = trouble_of(VaultStore(settings_for(server, ca_file=wrong)))
            assert "not trusted" in trouble.message
            assert not trouble.transient
    finally:
        server.close()

"""OIDC_* by halves, or with a value that cannot be meant, stops the start with a sentence."""

from __future__ import annotations

import os

import pytest

from opsconductor.environment import ConfigError
from opsconductor.single_sign_on import ROLES, single_sign_on
from safety import rbac

GOOD = {
    "OIDC_ISSUER": "https://id.example.org/realms/a",
    "OIDC_CLIENT_ID": "ops",
    "OIDC_CLIENT_SECRET": "very secret",
}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OIDC_"):
            monkeypatch.delenv(name)


def test_without_settings_there_are_local_accounts_alone() -> None:
    assert single_sign_on() is None


def test_what_is_set_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OIDC_GROUP_ROLES", "ops-admins=admin, ops=operator,ops=viewer")
    provider = single_sign_on()
    assert provider is not None
    assert provider.scopes == ("openid", "profile", "email")
    assert provider.group_roles == {"ops-admins": ("admin",), "ops": ("operator", "viewer")}
    assert (provider.tenant, provider.tenant_claim, provider.groups_claim) == ("default", "", "groups")
    assert "very secret" not in repr(provider)
    monkeypatch.setenv("OIDC_TENANT_CLAIM", "org")
    monkeypatch.setenv("OIDC_SCOPES", "openid groups")
    provider = single_sign_on()
    assert provider is not None
    assert (provider.tenant, provider.tenant_claim, provider.scopes) == ("", "org", ("openid", "groups"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"OIDC_ISSUER": ""}, "OIDC_ISSUER is not set"),
        ({"OIDC_CLIENT_ID": ""}, "OIDC_CLIENT_ID is not set"),
        ({"OIDC_ISSUER": "id.example.org"}, "OIDC_ISSUER must be an address"),
        ({"OIDC_ISSUER": "https://id.example.org/?x=1"}, "OIDC_ISSUER must be an address"),
        ({"OIDC_ISSUER": "http://id.example.org"}, "must begin with https://"),
        ({"OIDC_SCOPES": "profile"}, "OIDC_SCOPES must contain openid"),
        ({"OIDC_GROUP_ROLES": "ops"}, "OIDC_GROUP_ROLES must list pairs"),
        ({"OIDC_GROUP_ROLES": "ops=boss"}, "OIDC_GROUP_ROLES must list pairs"),
        ({"OIDC_GROUP_ROLES": "=admin"}, "OIDC_GROUP_ROLES must list pairs"),
        ({"OIDC_TENANT": "a", "OIDC_TENANT_CLAIM": "b"}, "unset one of them"),
    ],
)
def test_what_cannot_be_meant_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], says: str
) -> None:
    for name, value in {**GOOD, "OIDC_GROUP_ROLES": "ops=operator", **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says) as refused:
        single_sign_on()
    assert "very secret" not in str(refused.value)


def test_a_provider_on_this_machine_may_speak_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIDC_ISSUER", "http://127.0.0.1:9000")
    monkeypatch.setenv("OIDC_CLIENT_ID", "ops")
    provider = single_sign_on()
    assert provider is not None
    assert provider.client_secret is None


def test_the_roles_are_those_that_there_are() -> None:
    assert ROLES == rbac.ROLES

"""A credential of the asset service goes to the machine that the service says it is for, and to no other place."""

from __future__ import annotations

from typing import Any

import pytest

from executions.connectors.base import Target
from executions.engine.service_credentials import check_place, path_of
from safety.secrets import SecretUnavailable, StoredSecret

SAID = {"username": "ops", "password": "pw", "hostname": "db-7.example.org", "ip_address": "10.0.0.7", "port": 5986}


def at(said: dict[str, Any] | None = None, **where: Any) -> None:
    answer = StoredSecret(path_of("7"), version="", entries=SAID if said is None else said)
    check_place(answer, Target(name="db-7", **where))


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({}, {"hostname": "DB-7.example.org", "ip_address": "10.0.0.7", "port": 5986}),
        ({}, {"hostname": "db-7.example.org"}),
        ({}, {"ip_address": "10.0.0.7"}),
        ({"port": "5986"}, {"ip_address": "10.0.0.7", "port": 5986}),
        ({"port": None}, {"ip_address": "10.0.0.7", "port": 22}),
        ({"hostname": None, "ip_address": "2001:DB8:0::7"}, {"ip_address": "2001:db8::7"}),
        ({"hostname": "db-7"}, {}),
    ],
)
def test_it_goes_to_where_the_service_says_the_machine_is(said: dict[str, Any], where: dict[str, Any]) -> None:
    at({**SAID, **said}, **where)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ({"ip_address": "10.0.0.7", "hostname": "evil.example.org"}, "evil.example.org"),
        ({"ip_address": "10.6.6.6", "hostname": "db-7.example.org"}, "10.6.6.6"),
        ({"ip_address": "10.0.0.7", "hostname": "db-7.example.org", "port": 6666}, "port 6666"),
        ({"hostname": "evil.example.org"}, "evil.example.org"),
        ({}, "db-7 is at db-7 here"),
    ],
)
def test_it_goes_nowhere_that_a_connector_might_go_to_instead(where: dict[str, Any], named: str) -> None:
    """Some connect to the address and some to the host name: one of them that is right does not vouch for the other."""
    with pytest.raises(SecretUnavailable) as refused:
        at(**where)
    assert named in str(refused.value)
    assert "pw" not in str(refused.value)


def test_what_the_service_places_nowhere_goes_nowhere() -> None:
    with pytest.raises(SecretUnavailable, match="says nowhere"):
        at({"password": "pw", "hostname": None, "ip_address": None}, hostname="db-7.example.org")

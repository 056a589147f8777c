"""Nested data: masked by the names in it at any depth, by value, and by pattern."""

from __future__ import annotations

import pytest

from safety.masking import mask_data
from safety.masking.keys import names_a_secret


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "Passwd",
        "pwd",
        "secret",
        "token",
        "api_key",
        "apiKey",
        "API-KEY",
        "x-api-key",
        "private_key",
        "privateKey",
        "credential",
        "credentials",
        "authorization",
        "Proxy-Authorization",
        "cookie",
        "Set-Cookie",
        "session",
        "sessionid",
        "db_password",
        "db.password",
        "dbPassword",
        "client_secret",
        "clientSecret",
        "aws_secret_access_key",
        "refresh-token",
        "passphrase",
        "ssh_key",
        "DATABASE_URL",
        "mysqlpassword",
    ],
)
def test_what_stands_under_a_secrets_name_is_masked(name: str) -> None:
    assert names_a_secret(name)
    assert mask_data({name: "x"}) == {name: "[masked]"}
    assert mask_data({name: 12345}) == {name: "[masked]"}
    assert mask_data({name: ["a", {"b": "c"}]}) == {name: ["[masked]", {"b": "[masked]"}]}


@pytest.mark.parametrize(
    "name", ["user", "host", "token_count", "max_tokens", "password_policy", "keyboard", "secretary", "monkey"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert mask_data({name: "x", "n": 1, "f": 1.5, "t": True, "none": None}) == {
        name: "x",
        "n": 1,
        "f": 1.5,
        "t": True,
        "none": None,
    }


def test_any_depth_and_any_shape() -> None:
    data = {"a": [{"b": ({"c": {"Password": "hunter2"}},)}], "log": "token=abc123 ok", "plain": b"password=hunter2"}
    assert mask_data(data) == {
        "a": [{"b": ({"c": {"Password": "[masked]"}},)}],
        "log": "token=[masked] ok",
        "plain": "[masked]",
    }


def test_a_depth_that_would_break_a_recursion_is_cut_off() -> None:
    data: object = {"password": "hunter2"}
    for _ in range(5000):
        data = [data]
    assert "hunter2" not in repr_of(mask_data(data))


def repr_of(data: object) -> str:
    while isinstance(data, list) and data:
        data = data[0]
    return repr(data)


def test_a_name_beside_its_value_counts() -> None:
    env = [
        {"name": "DB_PASSWORD", "value": "hunter2"},
        {"name": "PORT", "value": "22"},
        {"key": "db.password", "value": "x"},
    ]
    assert mask_data(env) == [
        {"name": "DB_PASSWORD", "value": "[masked]"},
        {"name": "PORT", "value": "22"},
        {"key": "db.password", "value": "[masked]"},
    ]


def test_references_to_secrets_stay_readable() -> None:
    data = {"password": {"type": "secret", "path": "db/orders", "key": "password"}}
    assert mask_data(data) == data


def test_empty_values_and_switches_under_a_secrets_name_stay() -> None:
    assert mask_data({"password": "", "token": None, "secret": False}) == {
        "password": "",
        "token": None,
        "secret": False,
    }


def test_values_are_masked_in_keys_and_texts() -> None:
    assert mask_data({"x-Xk9-unlikely": ["is Xk9-unlikely"]}, ["Xk9-unlikely"]) == {"x-[masked]": ["is [masked]"]}


def test_the_given_data_is_not_changed() -> None:
    data = {"password": "hunter2", "list": ["password=a1"]}
    mask_data(data)
    assert data == {"password": "hunter2", "list": ["password=a1"]}

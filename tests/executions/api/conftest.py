"""People with tokens, and a client that speaks JSON, for the tests of the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from executions.tools import get_catalog
from safety.accounts import issue_token, set_roles
from safety.models import User
from tests.executions.live.rows import make_user


class Api:
    """One user with a token. Answers have `.json()` and `.status_code` like those of Django's client."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.token = issue_token(user, "tests")
        self.client = Client()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(_full(path), headers=self._headers(headers))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._send("post", path, body, headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._send("patch", path, body, headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._send("put", path, body, headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(_full(path), headers=self._headers({}))

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        data = body if isinstance(body, bytes | str) else json.dumps({} if body is None else body)
        kind = headers.pop("content_type", "application/json")
        send = getattr(self.client, method)
        return send(_full(path), data, content_type=kind, headers=self._headers(headers))

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Authorization": f"Bearer {self.token}", **named}


def _full(path: str) -> str:
    return path if path.startswith("/api/") else f"/api/v1/{path}"


def plan(*commands: str, title: str = "Look around", tool: str = "shell") -> dict[str, Any]:
    """A plan with a step for each command, on localhost."""
    steps = [
        {"id": f"step-{number}", "tool": tool, "inputs": {"command": command}, "targets": ["localhost"]}
        for number, command in enumerate(commands or ("true",), 1)
    ]
    return {"title": title, "steps": steps}


def problem_of(response: Any, status: int, code: str) -> dict[str, Any]:
    """Check that the response is a problem of RFC 9457 with this status and code; return its members."""
    told: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, told.get("code")) == (status, code), told
    assert response.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "how_to_fix", "instance", "errors"} <= set(told)
    assert told["status"] == status
    assert told["title"]
    assert told["how_to_fix"]
    return told


MakeApi = Callable[..., Api]


@pytest.fixture(autouse=True, scope="session")
def _catalog() -> None:
    get_catalog()  # read once, before anything is timed


@pytest.fixture
def make_api(db: None) -> MakeApi:
    """Make a user with roles and a client for them."""

    def make(name: str, *roles: str, **fields: Any) -> Api:
        user = make_user(name, **fields)
        if roles:
            set_roles(user, roles)
        return Api(user)

    return make


@pytest.fixture
def admin(make_api: MakeApi) -> Api:
    """A superuser of the tenant default."""
    return make_api("root", is_superuser=True)


@pytest.fixture
def stranger(make_api: MakeApi) -> Api:
    """A superuser of another tenant."""
    return make_api("mallory", tenant="elsewhere", is_superuser=True)

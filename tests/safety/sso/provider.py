"""The provider's process, and a person with a browser of HTTP alone who signs in there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from django.test import Client

from safety.sso.configuration import Provider
from tests.executions.live.web import free_port

ROOT = Path(__file__).resolve().parents[3]


class ProviderProcess:
    """A provider on a free port of this machine."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ProviderProcess:
        command = [sys.executable, "-m", "tests.safety.sso.rough_provider", str(self.port)]
        environment = os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        transport = httpx.HTTPTransport(retries=8)  # waits 0.5 s, 1 s, ... between them
        with httpx.Client(transport=transport) as client:
            client.get(f"{self.issuer}/jwks", timeout=30).raise_for_status()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def person(self, subject: str, **claims: Any) -> str:
        httpx.put(f"{self.issuer}/users/{subject}", json=claims).raise_for_status()
        return subject

    def be_rough(self, **how: Any) -> None:
        httpx.post(f"{self.issuer}/rough", json=how).raise_for_status()

    def rotate(self, **how: Any) -> None:
        httpx.post(f"{self.issuer}/rotate", json=how).raise_for_status()


def configured(provider: ProviderProcess, **changes: Any) -> Provider:
    values: dict[str, Any] = {
        "issuer": provider.issuer,
        "client_id": "opsconductor",
        "client_secret": "a secret of the client",
        "name": "Example ID",
        "scopes": ("openid", "profile", "email"),
        "groups_claim": "groups",
        "group_roles": {"ops-admins": ("admin",), "ops": ("operator", "viewer"), "readers": ("viewer",)},
        "tenant": "default",
        "tenant_claim": "",
    }
    return Provider(**{**values, **changes})


def way_back(browser: Client, subject: str | None, next_page: str = "") -> str:
    """Begin in the browser, sign in at the provider (None: say no there); return where it sends the browser."""
    begun = browser.get("/login/sso/", {"next": next_page} if next_page else {})
    assert begun.status_code == 302, begun.content
    answer = httpx.post(begun.headers["Location"], data={"sub": subject} if subject else {"action": "deny"})
    assert answer.status_code == 302, answer.text
    return str(answer.headers["Location"]).removeprefix("http://testserver")


def sign_in(browser: Client, subject: str, next_page: str = "") -> Any:
    return browser.get(way_back(browser, subject, next_page))

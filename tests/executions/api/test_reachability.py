"""A preview that tries the machines: real workers sign in to a real SSH server, and nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.installations import LiveInstallation
from tests.sshd import Sshd


@pytest.fixture
def http(live_installation: LiveInstallation) -> Iterator[httpx.Client]:
    made = live_installation.run_manage("create_token", "admin")
    headers = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
    with httpx.Client(base_url=f"{live_installation.base_url}/api/v1/", headers=headers, timeout=90) as client:
        yield client


def make_machine(http: httpx.Client, name: str, **fields: Any) -> None:
    made = http.post("assets/", json={"name": name, "environment": "test", **fields})
    assert made.status_code == 201, made.text


def test_a_preview_tries_the_machines_when_asked_and_only_then(
    http: httpx.Client, live_installation: LiveInstallation, sshd: Sshd
) -> None:
    secret = json.dumps({"username": sshd.username, "private_key": sshd.private_key})
    stored = live_installation.run_manage("set_secret", "ssh/reach", input=secret)
    assert stored.returncode == 0, stored.stderr
    fields = {**sshd.asset_fields(), "credential": "ssh/reach"}
    make_machine(http, "reach-good", **fields)
    make_machine(http, "reach-changed", **{**fields, "host_key": "SHA256:" + "A" * 43})
    make_machine(http, "reach-closed", **{**fields, "port": 1})
    targets = ["reach-good", "reach-changed", "reach-closed", "localhost"]
    step = {"id": "a", "tool": "shell", "inputs": {"command": "touch /tmp/never"}, "targets": targets}
    body = {"plan": {"title": "not run", "steps": [step]}}

    before = len(http.get("executions/").json()["results"])
    assert "reachability" not in http.post("executions/preview/", json=body).json()
    assert len(http.get("executions/").json()["results"]) == before

    shown = http.post("executions/preview/", json={**body, "reachability": True}).json()
    machines = {machine["asset"]: machine for machine in shown["machines"]}
    assert {name: (machine["reachable"], machine["error_code"]) for name, machine in machines.items()} == {
        "reach-good": (True, ""),
        "reach-changed": (False, "host_key_changed"),
        "reach-closed": (False, "connection_refused"),
        "localhost": (True, ""),
    }
    assert shown["reachability"]["complete"] is True
    [number] = shown["reachability"]["executions"]
    assert http.get(f"executions/{number}/").json()["action_class"] == "read"
    assert {one["title"] for one in http.get("executions/").json()["results"]}.isdisjoint({"not run"})

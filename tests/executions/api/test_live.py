"""The API of a whole installation: web process, workers and commands that really run."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.executions.api.conftest import plan
from tests.installations import LiveInstallation


@pytest.fixture
def http(live_installation: LiveInstallation) -> httpx.Client:
    made = live_installation.run_manage("create_token", "admin")
    assert made.returncode == 0, made.stderr
    token = made.stdout.split()[-1]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=live_installation.base_url, headers=headers, timeout=90)


def test_a_submit_that_waits_gets_what_really_happened(http: httpx.Client) -> None:
    body = {"plan": plan("echo out; echo err >&2", "exit 3", "echo never")}

    answer = http.post("/api/v1/executions/", json=body, headers={"Prefer": "wait=60"})

    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["status"] == "failed"
    first, second, third = (step["targets"][0] for step in told["steps"])
    assert (first["status"], first["exit_code"]) == ("succeeded", 0)
    assert (first["stdout"], first["stderr"]) == ("out\n", "err\n")
    assert (second["status"], second["exit_code"]) == ("failed", 3)
    assert (third["status"], third["exit_code"]) == ("skipped", None)
    assert [error["path"] for error in told["errors"]] == ["steps[1]"]
    assert http.get(told["links"]["self"]).json()["steps"] == told["steps"]


def test_a_running_command_is_cancelled_within_a_second(http: httpx.Client) -> None:
    accepted = http.post("/api/v1/executions/", json={"plan": plan("echo begun; sleep 60")}).json()
    with http.stream("GET", accepted["links"]["stream"]) as stream:
        told: dict[str, object] = {}
        cancelled_at = 0.0
        for line in stream.iter_lines():
            if line.startswith("data:"):
                told = json.loads(line[5:])
                if told.get("kind") == "output" and not cancelled_at:
                    cancelled_at = time.monotonic()
                    stopped = http.post(accepted["links"]["cancel"], json={"reason": "enough"})
                    assert stopped.json()["status"] == "cancelling"
        took = time.monotonic() - cancelled_at

    assert told["status"] == "cancelled"
    assert took < 5  # a second for the command, the rest for a busy machine
    events = http.get(accepted["links"]["events"]).json()["results"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_a_live_installation_is_ready_and_says_so(http: httpx.Client, live_installation: LiveInstallation) -> None:
    ready = httpx.get(f"{live_installation.base_url}/readyz")

    assert ready.status_code == 200, ready.text
    assert {check["name"]: check["status"] for check in ready.json()["checks"]}["workers"] == "pass"
    assert len(http.get("/api/v1/workers/").json()["results"]) >= 1
    assert "opsconductor_workers_beating" in httpx.get(f"{live_installation.base_url}/metrics").text

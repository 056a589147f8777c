"""The same submit fifty times at the same moment, over real sockets to a real web process: one execution."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from executions.models import Execution
from queueing.models import QueueEntry
from safety.accounts import issue_token
from tests.executions.api.conftest import plan
from tests.executions.live.rows import make_user
from tests.executions.live.web import WebProcess

pytestmark = pytest.mark.django_db(transaction=True)
TOGETHER = 50


@pytest.fixture
def web(transactional_db: None) -> Iterator[WebProcess]:
    with WebProcess() as process:
        yield process


@pytest.fixture
def client(web: WebProcess) -> Iterator[httpx.Client]:
    token = issue_token(make_user("alice", is_superuser=True))
    limits = httpx.Limits(max_connections=TOGETHER)
    with httpx.Client(
        base_url=web.url, headers={"Authorization": f"Bearer {token}"}, limits=limits, timeout=60, trust_env=False
    ) as made:
        yield made


def submit(client: httpx.Client, *commands: str, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/api/v1/executions/", json={"plan": plan(*commands)}, headers=headers)


@pytest.mark.parametrize("key", [None, "a-key-of-the-client"])
def test_fifty_equal_submits_make_one_execution_and_everybody_gets_it(client: httpx.Client, key: str | None) -> None:
    barrier = Barrier(TOGETHER)

    def one(_number: int) -> tuple[int, Any, str | None]:
        barrier.wait(timeout=30)
        answer = submit(client, "true", key=key)
        return answer.status_code, answer.json().get("id"), answer.headers.get("Idempotent-Replay")

    with ThreadPoolExecutor(TOGETHER) as pool:
        answers = list(pool.map(one, range(TOGETHER)))

    execution = Execution.objects.get()
    assert {pk for _, pk, _ in answers} == {execution.pk}
    assert sorted(status for status, _, _ in answers) == [200] * (TOGETHER - 1) + [202]
    assert all((replay == "true") == (status == 200) for status, _, replay in answers)
    assert QueueEntry.objects.count() == 1


def test_one_that_failed_is_submitted_again_and_one_that_succeeded_is_not(client: httpx.Client) -> None:
    first = submit(client, "true").json()["id"]
    assert client.post(f"/api/v1/executions/{first}/cancel/", json={"reason": "x"}).json()["status"] == "cancelled"

    again = submit(client, "true")

    assert again.status_code == 202
    assert again.json()["id"] != first
    assert submit(client, "true").json()["id"] == again.json()["id"]


def test_a_key_with_another_plan_is_refused(client: httpx.Client) -> None:
    assert submit(client, "true", key="mine").status_code == 202

    refused = submit(client, "false", key="mine")

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert Execution.objects.count() == 1

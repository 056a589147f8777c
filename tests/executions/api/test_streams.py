"""Following an execution over real HTTP: server-sent events, downloads, and waiting for the end of a submit."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.db import connection

from executions.models import Execution
from safety.accounts import issue_token
from safety.models import ApiToken, User
from tests.executions.api.conftest import plan
from tests.executions.live.rows import make_execution, make_user, move, print_out, say
from tests.executions.live.web import WebProcess, session_cookie
from tests.installations import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PROMPT_SECONDS = 0.3  # on a machine that is busy with other tests; the net under a lost notification takes 5 s


@pytest.fixture
def user() -> User:
    return make_user("alice", is_superuser=True)


@pytest.fixture
def web(user: User) -> Iterator[WebProcess]:
    with WebProcess() as process:
        yield process


@pytest.fixture
def http(web: WebProcess, user: User) -> Iterator[httpx.Client]:
    token = issue_token(user, "tests")
    with httpx.Client(
        base_url=f"{web.url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=30
    ) as client:
        yield client


class Reader:
    """Reads a stream of server-sent events in a thread of its own."""

    def __init__(self, client: httpx.Client, path: str, **headers: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.comments = 0
        self.ended = threading.Event()
        self.status = 0
        self._thread = threading.Thread(target=self._read, args=(client, path, headers), daemon=True)
        self._thread.start()

    def _read(self, client: httpx.Client, path: str, headers: dict[str, str]) -> None:
        try:
            with client.stream("GET", path, headers=headers, timeout=60) as response:
                self.status = response.status_code
                self.kind = response.headers["Content-Type"]
                event: dict[str, Any] = {}
                for line in response.iter_lines():
                    name, _, value = line.partition(":")
                    if not line and event:
                        self.events.append(event)
                        event = {}
                    elif line.startswith(":"):
                        self.comments += 1
                    elif name in ("id", "event", "data"):
                        event[name] = value.strip()
        except httpx.RemoteProtocolError:
            pass  # the server was killed
        finally:
            self.ended.set()

    @property
    def numbers(self) -> list[int]:
        return [int(event["id"]) for event in self.events if "id" in event]


def stream(execution: Execution) -> str:
    return f"executions/{execution.pk}/events/stream"


def test_a_stream_brings_everything_once_in_order_and_ends(http: httpx.Client, user: User) -> None:
    execution = make_execution(user, steps=["one"])
    target = execution.step_targets.get()
    reader = Reader(http, stream(execution))
    wait_until(lambda: reader.numbers == [1], what="the first event")
    for number in range(50):
        print_out(target, [f"line {number}\n", "more\n"])
    began = time.monotonic()
    move(execution, "succeeded", kind="execution.succeeded")

    assert reader.ended.wait(10)
    assert time.monotonic() - began < 5
    assert reader.kind.startswith("text/event-stream")
    assert reader.numbers == list(range(1, 103))
    assert json.loads(reader.events[1]["data"])["data"]["text"] == "line 0\n"
    assert reader.events[-1]["event"] == "end"
    assert json.loads(reader.events[-1]["data"]) == {"status": "succeeded", "last_seq": 102}


def test_a_stream_goes_on_after_the_last_event_that_was_got(http: httpx.Client, user: User) -> None:
    execution = make_execution(user, steps=["one"])
    for number in range(5):
        say(execution, "note", reason=str(number))
    move(execution, "failed", kind="execution.failed")

    by_header = Reader(http, stream(execution), **{"Last-Event-ID": "4"})
    by_query = Reader(http, f"{stream(execution)}?after=4")

    for reader in (by_header, by_query):
        assert reader.ended.wait(10)
        assert reader.numbers == [5, 6, 7]
        assert reader.events[-1]["event"] == "end"


def test_a_reader_of_a_killed_server_misses_nothing(http: httpx.Client, web: WebProcess, user: User) -> None:
    execution = make_execution(user, steps=["one"])
    target = execution.step_targets.get()
    first = Reader(http, stream(execution))
    print_out(target, ["a\n", "b\n"])
    wait_until(lambda: first.numbers == [1, 2, 3], what="what was printed")
    web.kill()
    assert first.ended.wait(10)
    print_out(target, ["c\n"])
    web.start()

    second = Reader(http, stream(execution), **{"Last-Event-ID": str(first.numbers[-1])})
    move(execution, "succeeded", kind="execution.succeeded")

    assert second.ended.wait(10)
    assert first.numbers + second.numbers == [1, 2, 3, 4, 5]


def test_a_stream_ends_for_somebody_whose_token_is_revoked(http: httpx.Client, user: User) -> None:
    execution = make_execution(user, steps=["one"])
    reader = Reader(http, stream(execution))
    wait_until(lambda: reader.numbers == [1], what="the first event")
    ApiToken.objects.update(revoked_at="2026-01-01T00:00:00Z")
    say(execution, "note", reason="not for everybody")

    assert reader.ended.wait(10)
    assert reader.numbers == [1]
    assert reader.events[-1]["event"] == "gone"


def test_a_signed_in_browser_may_follow_and_nobody_else(web: WebProcess, user: User) -> None:
    execution = make_execution(user, steps=["one"], status="succeeded")
    stranger = make_user("mallory", tenant="elsewhere", is_superuser=True)
    with httpx.Client(base_url=f"{web.url}/api/v1/") as client:
        reader = Reader(client, stream(execution), **session_cookie(user))
        assert reader.ended.wait(10)
        assert reader.events[-1]["event"] == "end"
        assert client.get(stream(execution), headers=session_cookie(stranger)).status_code == 404
        assert client.get(stream(execution)).status_code == 401
        assert client.get(f"{stream(execution)}?after=x", headers=session_cookie(user)).status_code == 400


def test_output_can_be_downloaded_as_text(http: httpx.Client, user: User) -> None:
    execution = make_execution(user, steps=["check"], hosts=["web-1", "web-2"])
    for target in execution.step_targets.all():
        print_out(target, [f"{target.name}: {number} ü\n" for number in range(4500)])
    output = f"executions/{execution.pk}/output/"

    one = http.get(f"{output}?target=web-2", headers={"Accept": "text/plain"})
    whole = http.get(f"{output}?format=text")

    expected = "".join(f"web-2: {number} ü\n" for number in range(4500))
    assert one.headers["Content-Type"].startswith("text/plain")
    assert "attachment" in one.headers["Content-Disposition"]
    assert one.text == expected
    assert whole.text.startswith("==> check / web-1 <==\nweb-1: 0 ü\n")
    assert whole.text.endswith(f"==> check / web-2 <==\n{expected}")


def submit_waiting(http: httpx.Client, seconds: int, command: str = "true") -> httpx.Response:
    return http.post("executions/", json={"plan": plan(command)}, headers={"Prefer": f"wait={seconds}"})


def in_thread(http: httpx.Client, seconds: int, command: str, answers: list[httpx.Response]) -> threading.Thread:
    """Submit in a thread of its own; the answer is appended when it comes."""
    thread = threading.Thread(target=lambda: answers.append(submit_waiting(http, seconds, command)))
    thread.start()
    return thread


def test_a_submit_that_waits_is_answered_as_soon_as_the_execution_ends(http: httpx.Client) -> None:
    delays: list[float] = []
    for number in range(5):
        answers: list[httpx.Response] = []
        waiting = in_thread(http, 60, f"echo {number}", answers)
        wait_until(lambda n=number: Execution.objects.count() == n + 1, what="the execution")  # type: ignore[misc]
        execution = Execution.objects.latest("pk")
        time.sleep(0.2)
        assert not answers
        target = execution.step_targets.get()
        print_out(target, ["done\n"])
        type(target).objects.filter(pk=target.pk).update(status="succeeded", exit_code=0, stdout_bytes=5)
        move(execution, "succeeded", kind="execution.succeeded")
        began = time.monotonic()
        waiting.join(10)
        delays.append(time.monotonic() - began)

        (answer,) = answers
        assert answer.status_code == 200
        assert answer.headers["Preference-Applied"] == "wait=60"
        state = answer.json()
        assert (state["id"], state["status"]) == (execution.pk, "succeeded")
        assert state["steps"][0]["targets"][0]["stdout"] == "done\n"
    assert min(delays) < PROMPT_SECONDS, delays


def test_a_submit_that_waited_long_enough_is_accepted_all_the_same(http: httpx.Client) -> None:
    began = time.monotonic()
    answer = submit_waiting(http, 1)

    assert 0.9 < time.monotonic() - began < 10
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"


def test_those_who_wait_hold_no_database_connection(http: httpx.Client, user: User) -> None:
    """More of them than the pool has connections: otherwise the last ones, and everybody else, would get none."""
    count = 40
    answers: list[httpx.Response] = []
    with ExitStack() as stack:
        threads = []
        for number in range(count):
            client = stack.enter_context(httpx.Client(base_url=http.base_url, headers=http.headers, timeout=120))
            threads.append(in_thread(client, 100, f"echo {number}", answers))
        wait_until(lambda: Execution.objects.count() == count, seconds=60, what="all of them accepted")
        time.sleep(1)

        assert http.get("executions/?limit=1").status_code == 200
        assert busy_connections() < 20
        assert not answers
        for execution in Execution.objects.all():
            move(execution, "cancelled", kind="execution.cancelled")
        for thread in threads:
            thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * count


def busy_connections() -> int:
    """Connections of others to this database that are in the middle of something."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state <> 'idle'"
        )
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])

"""Where events and output have been removed by retention, every door says so, and no reader waits for them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from django.test import Client

from executions.models import Execution
from executions.retention import Pace, prune
from safety.accounts import issue_token
from safety.models import User
from tests.executions.api.conftest import Api
from tests.executions.live.rows import make_execution, make_user
from tests.executions.live.test_sockets import close_code, follow, receive_until
from tests.executions.live.web import WebProcess
from tests.executions.old_rows import old_execution

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return make_user("alice", is_superuser=True)


@pytest.fixture
def removed(user: User) -> Execution:
    execution = old_execution(user, 100)
    prune(Pace(pause_seconds=0))
    execution.refresh_from_db()
    assert execution.events_pruned_at is not None
    return execution


def test_the_api_says_that_they_were_removed_and_that_nothing_will_come(user: User, removed: Execution) -> None:
    api = Api(user)
    events = api.get(f"executions/{removed.pk}/events/").json()
    assert (events["results"], events["more"], events["complete"]) == ([], False, True)
    assert events["next_after"] == events["last_seq"] == removed.last_seq
    output = api.get(f"executions/{removed.pk}/output/").json()
    assert (output["results"], output["more"], output["complete"]) == ([], False, True)
    detail = api.get(f"executions/{removed.pk}/").json()
    assert detail["events_pruned_at"] is not None
    assert events["notice"] == output["notice"] == detail["notice"] == removed.removal_notice
    targets = [target for step in detail["steps"] for target in step["targets"]]
    assert {(target["stdout"], target["more_output"]) for target in targets} == {("", False)}
    assert max(target["stdout_bytes"] for target in targets) == 14
    text = api.get(f"executions/{removed.pk}/output/?format=text").content.decode()
    assert text == f"{removed.removal_notice}\n"


def test_where_they_are_there_nothing_is_said(user: User) -> None:
    execution = make_execution(user)
    api = Api(user)
    for path in ("", "events/", "output/"):
        assert api.get(f"executions/{execution.pk}/{path}").json()["notice"] is None


def test_the_pages_say_it_in_the_audit_the_feed_and_the_download(
    client: Client, user: User, removed: Execution
) -> None:
    client.force_login(user, backend="safety.backends.PasswordBackend")
    base = f"/executions/{removed.pk}/"
    assert removed.removal_notice in client.get(base).content.decode()
    feed = client.get(f"{base}feed/").json()
    assert feed == {"items": [], "more": False, "ended": True, "removed": removed.removal_notice}
    assert client.get(f"{base}log/").content.decode() == f"{removed.removal_notice}\n"


@pytest.fixture
def web(transactional_db: None) -> Iterator[WebProcess]:
    with WebProcess() as process:
        yield process


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("after", [0, 2])
def test_a_reader_of_the_series_is_told_at_once_and_does_not_wait_for_the_first(
    web: WebProcess, user: User, removed: Execution, after: int
) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {issue_token(user, 'tests')}"}, timeout=10) as http:
        stream = http.get(f"{web.url}/api/v1/executions/{removed.pk}/events/stream?after={after}").text
    events = [dict(line.split(": ", 1) for line in part.splitlines()) for part in stream.strip().split("\n\n")[1:]]
    assert [event["event"] for event in events] == ["removed", "end"]
    notice = removed.removal_notice
    assert json.loads(events[0]["data"]) == {"last_seq": removed.last_seq, "notice": notice}
    with follow(web, user, removed.pk, f"?after={after}") as socket:
        marks = receive_until(socket, "end")
        assert close_code(socket) == 1000
    last = removed.last_seq
    assert marks == [
        {"kind": "removed", "seq": last, "notice": notice},
        {"kind": "caught_up", "seq": last},
        {"kind": "end", "seq": last},
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(120)
def test_a_reader_who_has_all_of_it_is_told_nothing_of_the_removal(
    web: WebProcess, user: User, removed: Execution
) -> None:
    with follow(web, user, removed.pk, f"?after={removed.last_seq}") as socket:
        assert [mark["kind"] for mark in receive_until(socket, "end")] == ["caught_up", "end"]

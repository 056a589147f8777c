"""The sockets of a real web process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from executions.models import Execution, StepTarget
from safety import accounts
from safety.models import AuditRecord, Session, User
from tests.executions.live.rows import make_execution, make_user, move, print_out
from tests.executions.live.web import WebProcess, session_cookie

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def web(transactional_db: None) -> Iterator[WebProcess]:
    with WebProcess() as process:
        yield process


@pytest.fixture
def user(transactional_db: None) -> User:
    return make_user()


def follow(web: WebProcess, user: User | None, execution_id: int, query: str = "", **headers: str) -> ClientConnection:
    cookie = session_cookie(user) if user else {}
    return connect(f"{web.ws_url}/ws/executions/{execution_id}/{query}", additional_headers=cookie | headers)


def receive(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(timeout=10))


def receive_until(socket: ClientConnection, kind: str) -> list[Any]:
    items = [receive(socket)]
    while items[-1]["kind"] != kind:
        items.append(receive(socket))
    return items


def close_code(socket: ClientConnection) -> int:
    def read_all() -> None:
        while True:
            socket.recv(timeout=10)

    with socket, pytest.raises(ConnectionClosed):
        read_all()
    assert socket.close_code is not None
    return socket.close_code


def first_target(execution: Execution) -> StepTarget:
    return StepTarget.objects.filter(execution=execution).select_related("execution", "step").order_by("pk")[0]


def test_a_viewer_gets_the_past_then_what_happens_then_the_end(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    target = first_target(execution)
    print_out(target, ["one\n", "two\n"])
    with follow(web, user, execution.pk) as socket:
        past = receive_until(socket, "caught_up")
        assert [item["seq"] for item in past] == [1, 2, 3, 3]
        assert past[1]["data"]["text"] == "one\n"
        print_out(target, ["three\n"], "stderr")
        live = receive(socket)
        assert (live["seq"], live["data"]["stream"], live["data"]["text"]) == (4, "stderr", "three\n")
        move(execution, "succeeded", kind="execution.succeeded")
        last = receive_until(socket, "end")
        assert [item["kind"] for item in last] == ["execution.succeeded", "end"]
        assert last[-1]["seq"] == 5
    assert close_code(socket) == 1000


def test_coming_back_with_the_cursor_gives_what_is_missing_and_nothing_twice(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    print_out(first_target(execution), [f"{n}\n" for n in range(20)])
    with follow(web, user, execution.pk, "?after=15") as socket:
        assert [item["seq"] for item in receive_until(socket, "caught_up")] == [16, 17, 18, 19, 20, 21, 21]


def test_many_viewers_get_each_line_once_and_in_order_across_the_death_of_the_web_process(
    web: WebProcess, user: User
) -> None:
    execution = make_execution(user)
    target = first_target(execution)
    seen: list[list[int]] = [[] for _ in range(20)]

    def read(sockets: list[ClientConnection], last: int) -> None:
        for lines, socket in zip(seen, sockets, strict=True):
            while not lines or lines[-1] < last:
                item = receive(socket)
                if item["kind"] != "caught_up":
                    lines.append(item["seq"])

    stack = ExitStack()
    sockets = [stack.enter_context(follow(web, user, execution.pk)) for _ in seen]
    last = 1
    for n in range(10):
        last = print_out(target, [f"{n}.{line}\n" for line in range(7)])
    read(sockets, last)
    print_out(target, ["printed while it dies\n"] * 5)
    web.kill()
    last = print_out(target, ["printed while it is away\n"] * 30)
    web.start()
    sockets = [stack.enter_context(follow(web, user, execution.pk, f"?after={lines[-1]}")) for lines in seen]
    last = print_out(target, ["printed when it is back\n"] * 30)
    read(sockets, last)
    assert all(lines == list(range(1, last + 1)) for lines in seen)
    stack.close()


def test_what_a_user_may_not_see_is_not_there(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    stranger = make_user("mallory", tenant="other")
    assert close_code(follow(web, stranger, execution.pk)) == 4404
    assert close_code(follow(web, user, execution.pk + 1000)) == 4404
    assert close_code(follow(web, None, execution.pk)) == 4401
    assert close_code(follow(web, user, execution.pk, "?after=x")) == 4400
    for _ in range(3):  # nobody needs to be signed in for it: in the audit once
        assert close_code(follow(web, user, execution.pk, Origin="https://evil.example")) == 4403
    refused = AuditRecord.objects.filter(door="socket").order_by("pk")
    assert list(refused.values_list("actor", "code", "address", "allowed")) == [
        ("user:mallory", "not_found", "127.0.0.1", False),
        (user.actor, "not_found", "127.0.0.1", False),
        ("anonymous", "foreign_page", "127.0.0.1", False),
    ]


def test_a_token_opens_a_socket_only_with_the_scope_read(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    reader, submitter = (accounts.make_token(user, scopes=[scope]).value for scope in ("read", "submit"))
    with follow(web, None, execution.pk, Authorization=f"Bearer {reader}") as socket:
        receive_until(socket, "caught_up")
    assert close_code(follow(web, None, execution.pk, Authorization=f"Bearer {submitter}")) == 4401


def test_a_revoked_user_is_cut_off_before_the_next_line(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    with follow(web, user, execution.pk) as socket:
        receive_until(socket, "caught_up")
        User.objects.filter(pk=user.pk).update(is_active=False)
        print_out(first_target(execution), ["not for you\n"])
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 4404


def test_signing_out_cuts_the_socket_off(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    with follow(web, user, execution.pk) as socket:
        receive_until(socket, "caught_up")
        Session.objects.all().delete()
        print_out(first_target(execution), ["not for you\n"])
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


@pytest.mark.parametrize("what", ["signed out", "inactive", "another password", "token revoked"])
@pytest.mark.parametrize("path", ["ws/executions/N/", "ws/executions/"])
def test_a_silent_socket_ends_within_seconds_when_its_viewer_is_signed_out(
    web: WebProcess, user: User, what: str, path: str
) -> None:
    execution = make_execution(user)
    token = accounts.make_token(user)
    with_token = {"Authorization": f"Bearer {token.value}"}
    headers = with_token if what == "token revoked" else session_cookie(user)
    with connect(f"{web.ws_url}/{path.replace('N', str(execution.pk))}", additional_headers=headers) as socket:
        socket.recv(timeout=10)
        match what:
            case "signed out":
                Session.objects.all().delete()
            case "inactive":
                User.objects.update(is_active=False)
            case "another password":
                user.set_password("another password of hers")
                user.save()
            case "token revoked":
                accounts.revoke_token(token.token.pk)
        assert close_code(socket) in (4401, 4404)


def test_batches_carry_the_same_items(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    print_out(first_target(execution), [f"{n}: {'ü' * 100}\n" for n in range(6000)])
    with follow(web, user, execution.pk, "?batch=1") as socket:
        seqs: list[int] = []
        messages = 0
        while True:
            items = receive(socket)
            messages += 1
            if items and items[-1]["kind"] == "caught_up":
                break
            seqs += [item["seq"] for item in items]
    assert seqs == list(range(1, 6002))
    assert messages < 60


def test_a_viewer_who_does_not_read_does_not_fill_the_server(web: WebProcess, user: User) -> None:
    execution = make_execution(user)
    target = first_target(execution)
    for _ in range(12):
        print_out(target, ["x" * 100_000 + "\n"] * 50)  # 60 MB in all
    assert web.process
    process = psutil.Process(web.process.pid)
    with follow(web, user, execution.pk, "?batch=1") as quick:
        receive(quick)
    before = process.memory_info().rss
    with connect(
        f"{web.ws_url}/ws/executions/{execution.pk}/?batch=1", additional_headers=session_cookie(user), max_queue=1
    ) as slow:
        time.sleep(4)
        assert process.memory_info().rss - before < 30_000_000
        count = 0
        while (items := receive(slow)) and items[-1]["kind"] != "caught_up":
            count += len(items)
    assert count == 601  # all the same, once it reads on


def test_the_list_socket_says_which_executions_moved_within_the_tenant(web: WebProcess, user: User) -> None:
    mine = make_execution(user)
    theirs = make_execution(make_user("mallory", tenant="other"))
    with connect(f"{web.ws_url}/ws/executions/", additional_headers=session_cookie(user)) as socket:
        socket.recv(timeout=10)  # it has begun to listen: look at everything
        move(theirs, "failed", kind="execution.failed")
        move(mine, "failed", kind="execution.failed")
        assert receive(socket) == {"changed": [mine.pk]}

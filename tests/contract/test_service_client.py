"""Retries, time limits, the breaker and TLS, over real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from executions.clients import pauses
from executions.clients.breaker import FAILURES, LONGEST_OPEN_SECONDS, OPEN_SECONDS, Breaker
from executions.clients.client import MOST_TRIES, Patience, ServiceClient
from executions.clients.pauses import backoff_seconds, retry_after_seconds
from executions.clients.traffic import traffic
from executions.clients.transport import Call
from executions.clients.troubles import (
    AnswerLost,
    BadAnswer,
    BreakerOpen,
    Declined,
    GivenUp,
    NotReached,
    ServiceTrouble,
)
from opsconductor.service_settings import ServiceSettings
from tests.contract.conftest import settings_of
from tests.contract.fake_services import Answer, FakeAutomationService, drip, half_an_answer, never, reset
from tests.installations import free_port

SOON = Patience(read=1.0, total=2.0, retries=5.0)
AT_ONCE = Patience(read=0.2, total=0.4, retries=3.0)


@pytest.fixture
def client(automation_server: FakeAutomationService, quick: None) -> ServiceClient:
    return ServiceClient(settings_of(automation_server, "automation"), probe_path="/status")


def ask(client: ServiceClient, patience: Patience = SOON) -> object:
    return client.get("/status", patience=patience).object()


@pytest.mark.parametrize(
    "bad",
    [
        Answer(500, {"detail": "boom"}), Answer(502, b"<html>"), Answer(503, b""), Answer(429, {"detail": "slow down"}),
        Answer(instead=reset), Answer(instead=half_an_answer),
    ],
    ids=["500", "502", "503", "429", "reset", "half"],
)  # fmt: skip
def test_a_get_is_tried_again_and_a_post_is_not(
    bad: Answer, client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.planned = [bad, bad]
    assert ask(client)
    assert len(automation_server.seen) == 3
    automation_server.planned = [bad, bad]
    with pytest.raises((AnswerLost, Declined)):
        client.post("/execute", {}, patience=SOON, call=Call())
    assert len(automation_server.seen) == 4


def test_gets_share_a_connection_and_a_post_has_one_that_nobody_else_had(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    """One that was kept open may be closed over there at any moment: whether the command came in would not be known."""
    for _ in range(2):
        ask(client)
        client.post("/execute", {"command": "true"}, patience=SOON, call=Call())
    first, other, second, another = (request.client_port for request in automation_server.seen)
    assert first == second
    assert len({first, other, another}) == 3


def test_a_get_is_not_tried_for_ever(client: ServiceClient, automation_server: FakeAutomationService) -> None:
    automation_server.always = Answer(500)
    with pytest.raises(AnswerLost, match="500"):
        ask(client)
    assert len(automation_server.seen) == MOST_TRIES


def test_a_refusal_and_nonsense_are_not_asked_for_twice(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.planned = [Answer(404, {"detail": "no"}), Answer(body=b"nonsense")]
    with pytest.raises(Declined, match=r"404 \(no\)"):
        ask(client)
    with pytest.raises(BadAnswer):
        ask(client)
    assert len(automation_server.seen) == 2


def test_what_a_refusal_repeats_of_a_command_is_not_told(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.planned = [Answer(422, {"detail": "hunter2"})]
    with pytest.raises(Declined) as refusal:
        client.post("/execute", {"credentials": {"password": "hunter2"}}, patience=SOON, call=Call())
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("said", ["password=hunter2", f"{'x' * 180} https://ops:hunter2-and-more@db.example.org/"])
def test_secrets_in_what_the_service_says_are_masked(
    said: str, client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    """The second would be cut in the middle of the secret, where nobody knows it for one."""
    automation_server.planned = [Answer(404, {"detail": said})]
    with pytest.raises(Declined) as refusal:
        ask(client)
    assert "hunter" not in str(refusal.value)
    assert said[:20] in str(refusal.value) or "password=[masked]" in str(refusal.value)
    assert refusal.value.plain == "The automation service answered 404."


def test_a_post_that_was_not_sent_is_tried_again_until_somebody_listens(quick: None) -> None:
    port = free_port()
    client = ServiceClient(ServiceSettings("automation", f"http://127.0.0.1:{port}"), probe_path="/status")
    with pytest.raises(NotReached) as trouble:
        client.post("/execute", {}, patience=SOON, call=Call())
    assert trouble.value.why == "refused"
    assert client.breaker.standing().failures == MOST_TRIES


def test_a_name_that_nobody_knows_is_told_as_such(quick: None) -> None:
    client = ServiceClient(ServiceSettings("asset", "http://no-such-host.invalid"), probe_path="/health")
    with pytest.raises(NotReached, match="host name") as trouble:
        client.get("/", patience=Patience(retries=0))
    assert trouble.value.why == "unreachable"


@pytest.mark.parametrize("silence", [never, drip])
def test_no_try_takes_longer_than_its_limit(
    silence: object, client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    """A byte now and then keeps the socket's own time limit from ever ending it."""
    automation_server.always = Answer(instead=silence)  # type: ignore[arg-type]
    with pytest.raises(AnswerLost, match="did not answer"):
        client.post("/execute", {}, patience=AT_ONCE, call=Call())


def test_an_answer_that_is_too_large_is_dropped(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.always = Answer(body=b" " * 2_000_000)
    with pytest.raises(BadAnswer, match="larger"):
        client.get("/status", patience=SOON, largest=1_000_000)


def test_a_redirect_is_not_followed(client: ServiceClient, automation_server: FakeAutomationService) -> None:
    automation_server.always = Answer(302, b"", {"Location": "/elsewhere"})
    with pytest.raises(BadAnswer, match="302"):
        ask(client)
    assert len(automation_server.seen) == 1


def test_a_request_that_waits_for_its_answer_is_given_up_at_once(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.go_on = threading.Event()
    call, ended = Call(), threading.Event()
    failures: list[ServiceTrouble] = []

    def post() -> None:
        try:
            client.post("/execute", {"command": "sleep"}, patience=Patience(60, 60, 60), call=call)
        except ServiceTrouble as trouble:
            failures.append(trouble)
        ended.set()

    threading.Thread(target=post, daemon=True).start()
    assert automation_server.running.wait(10)
    call.abort()
    assert ended.wait(10)
    automation_server.go_on.set()
    (trouble,) = failures
    assert isinstance(trouble, GivenUp)
    assert trouble.sent
    assert client.breaker.standing().failures == 0  # it is no fault of the service


def test_a_request_that_was_given_up_before_is_not_sent(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    call = Call()
    call.abort()
    with pytest.raises(GivenUp) as trouble:
        client.post("/execute", {}, patience=SOON, call=call)
    assert not trouble.value.sent
    assert automation_server.seen == []


def test_a_pause_between_tries_ends_when_the_request_is_given_up(
    automation_server: FakeAutomationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE_SECONDS", 30.0)
    monkeypatch.setattr(pauses, "LONGEST_PAUSE_SECONDS", 30.0)
    client = ServiceClient(ServiceSettings("automation", f"http://127.0.0.1:{free_port()}"), probe_path="/status")
    call = Call()
    threading.Timer(0.2, call.abort).start()
    with pytest.raises(GivenUp) as trouble:
        client.post("/execute", {}, patience=Patience(retries=60), call=call)
    assert not trouble.value.sent


# -- Retry-After and backoff


def test_a_service_that_says_when_is_not_asked_before(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.planned = [Answer(503, b"", {"Retry-After": "1"})]
    began = time.monotonic()
    assert ask(client)
    assert time.monotonic() - began >= 1.0


def test_a_service_that_wants_more_time_than_there_is_is_asked_no_more(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    automation_server.planned = [Answer(503, b"", {"Retry-After": "20"})]
    with pytest.raises(AnswerLost) as trouble:
        ask(client)
    assert trouble.value.retry_after == 20
    assert len(automation_server.seen) == 1


def test_retry_after_is_read_as_seconds_or_as_a_date_by_the_clock_of_the_service() -> None:
    then = datetime(2020, 1, 1, tzinfo=UTC)
    dated = {"Retry-After": format_datetime(then + timedelta(seconds=7), usegmt=True)}
    assert retry_after_seconds({"Retry-After": " 12 "}) == 12
    assert retry_after_seconds(dated | {"Date": format_datetime(then, usegmt=True)}) == 7
    assert retry_after_seconds(dated) == 0  # long past
    for nonsense in ("", "soon", "-3", "1.5", "9" * 400):
        given = retry_after_seconds({"Retry-After": nonsense})
        assert given is None or given > 0


def test_pauses_grow_to_a_limit_and_are_never_the_same_for_all() -> None:
    for attempt, longest in ((1, 0.2), (2, 0.4), (3, 0.8), (50, 5.0)):
        pauses_taken = {backoff_seconds(attempt) for _ in range(50)}
        assert len(pauses_taken) > 40
        assert longest / 2 <= min(pauses_taken) <= max(pauses_taken) <= longest


# -- the breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert breaker.wait_seconds() == 0
        breaker.failed("boom")
    return breaker


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_probe_through() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert breaker.standing().state == "open"
    assert breaker.wait_seconds() == OPEN_SECONDS
    clock.now += OPEN_SECONDS
    asked = [breaker.wait_seconds() for _ in range(5)]
    assert asked[0] is None
    assert all(seconds for seconds in asked[1:])
    breaker.probed(None)
    assert breaker.standing().state == "closed"
    assert breaker.wait_seconds() == 0


def test_a_failed_probe_opens_it_for_longer_up_to_a_limit() -> None:
    clock = Clock()
    breaker = opened(clock)
    waits = []
    for _ in range(5):
        clock.now += breaker.wait_seconds() or 0
        assert breaker.wait_seconds() is None
        breaker.probed("still")
        waits.append(breaker.wait_seconds())
    assert waits == [20, 40, 60, 60, LONGEST_OPEN_SECONDS]


def test_a_success_between_failures_keeps_it_closed_and_a_late_one_does_not_close_it() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES - 1):
        breaker.failed("boom")
    breaker.passed()
    breaker.failed("boom")
    assert breaker.standing().state == "closed"
    breaker = opened(clock)
    breaker.passed()  # began before it opened
    assert breaker.standing().state == "open"


def test_of_many_that_ask_at_once_exactly_one_probes() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_SECONDS
    barrier, answers = threading.Barrier(16), []

    def one() -> None:
        barrier.wait()
        answers.append(breaker.wait_seconds())

    threads = [threading.Thread(target=one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(None) == 1


def test_a_service_in_trouble_is_left_alone_and_a_command_is_never_the_probe(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    clock = Clock()
    client.breaker._clock = clock
    automation_server.always = Answer(500)
    for _ in range(FAILURES):
        with pytest.raises(AnswerLost):
            client.post("/execute", {}, patience=SOON, call=Call())
    with pytest.raises(BreakerOpen) as trouble:
        client.post("/execute", {}, patience=SOON, call=Call())
    assert trouble.value.retry_after
    assert len(automation_server.seen) == FAILURES
    automation_server.always = None
    clock.now += OPEN_SECONDS
    client.post("/execute", {"command": "true"}, patience=SOON, call=Call())
    assert [request.path for request in automation_server.seen[FAILURES:]] == ["/status", "/execute"]
    assert client.breaker.standing().state == "closed"


def test_a_worker_waits_for_the_breaker_within_its_patience(
    client: ServiceClient, automation_server: FakeAutomationService
) -> None:
    for _ in range(FAILURES):
        client.breaker.failed("boom")
    client.breaker._open_until = time.monotonic() + 0.3
    assert client.get("/status", patience=Patience(retries=5, waits_for_breaker=True)).status == 200


# -- TLS


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[FakeAutomationService, Path]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = FakeAutomationService()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    server.start()
    yield server, tmp_path / "ca.pem"
    server.stop()


def test_a_certificate_is_checked_and_nothing_is_sent_to_whom_it_does_not_prove(
    secure: tuple[FakeAutomationService, Path], quick: None
) -> None:
    server, ca_file = secure
    stranger = ServiceClient(ServiceSettings("automation", server.url, token="t"), probe_path="/status")
    with pytest.raises(NotReached, match="certificate") as trouble:
        stranger.post("/execute", {}, patience=SOON, call=Call())
    assert trouble.value.why == "tls"
    assert server.seen == []
    known = ServiceClient(ServiceSettings("automation", server.url, str(ca_file)), probe_path="/status")
    assert ask(known)
    call = Call()
    server.go_on = threading.Event()

    def give_up() -> None:
        server.running.wait(10)
        call.abort()

    threading.Thread(target=give_up, daemon=True).start()
    with pytest.raises(GivenUp):
        known.post("/execute", {"command": "sleep"}, patience=Patience(60, 60), call=call)
    server.go_on.set()


def test_figures_say_how_requests_ended(client: ServiceClient, automation_server: FakeAutomationService) -> None:
    traffic.take()
    automation_server.planned = [Answer(500)]
    ask(client)
    taken = traffic.take()
    assert {key: (counts.requests, counts.retried) for key, counts in taken.items()} == {
        ("automation", "ok"): (1, 0),
        ("automation", "answer_lost"): (1, 1),
    }
    assert all(sum(counts.buckets) == counts.requests for counts in taken.values())
    traffic.give_back(taken)
    assert traffic.take() == taken


def test_nobody_who_listens_but_never_accepts_holds_a_request_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog: the kernel drops what would connect, so only the time limit ends it."""
    monkeypatch.setattr("executions.clients.client.CONNECT_SECONDS", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        client = ServiceClient(
            ServiceSettings("asset", f"http://127.0.0.1:{listener.getsockname()[1]}"), probe_path="/health"
        )
        with pytest.raises(NotReached, match="took no connection"):
            client.get("/", patience=Patience(retries=0))
        for filler in fillers:
            filler.close()

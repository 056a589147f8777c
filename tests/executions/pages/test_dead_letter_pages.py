"""The DLQ in the admin: figures, groups, decisions on what the filter selects, their progress, one entry."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from executions.dead_letter_queries import COUNTED, GROUPS, SUMMARY
from executions.models import Event, OutputChunk, StepTarget
from executions.services import requeue_dead_letters, work_at_batches
from executions.services.dead_letter_batches import SMALL
from queueing.models import Attempt, DeadLetter, DeadLetterBatch, DeadReason, QueueEntry
from safety.models import User
from tests.executions.pages.test_admin import signed_in
from tests.executions.services.parked import execution_of, park
from tests.executions.services.requests import make_asset, make_user, status_of
from tests.queueing.lines import several

pytestmark = pytest.mark.django_db

LIST = "/admin/queueing/deadletter/"
LOST = "Each of its 3 attempts ended with the loss of its worker."


@pytest.fixture
def alice(db: None) -> User:
    return make_user("alice", "admin")


@pytest.fixture
def olga(db: None) -> Client:
    return signed_in("olga", "operator")


def text_of(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, response
    return re.sub(r"\s+", " ", response.content.decode())


def entries_in(page: str) -> list[int]:
    return [int(number) for number in re.findall(r"/admin/queueing/deadletter/(\d+)/change/[^>]*>#\1<", page)]


def test_the_list_has_figures_reasons_and_groups_and_shows_what_is_open(alice: User, olga: Client) -> None:
    old = park(alice, 3, hours_old=30)
    lost = park(alice, 2, reason="attempts_exhausted", error=LOST)
    closed = park(alice, 1)
    requeue_dead_letters(closed, by=alice)
    page = text_of(olga, LIST)
    assert "<b>5</b><span>wait for a decision</span>" in page
    assert "<b>2</b><span>new</span>" in page
    assert "<b>1 d 6 h</b><span>the oldest waits</span>" in page
    assert entries_in(page) == [*lost[::-1], *old[::-1]]
    assert "Engine error <b>3</b>" in page
    assert "Attempts exhausted <b>2</b>" in page
    assert "Outcome unknown <b>" not in page
    assert ">The engine failed: KeyError: &lt;name&gt;</a>" in page
    assert "Requeue these 5…" in page
    assert f'href="/executions/{execution_of(old[0])}/"' in page


def test_every_chip_group_and_search_selects_what_its_button_decides_on(alice: User, olga: Client) -> None:
    park(alice, 3, hours_old=30)
    lost = park(alice, 2, reason="attempts_exhausted", error=LOST)
    one = execution_of(lost[0])
    group = DeadLetter.objects.get(pk=lost[0]).fingerprint
    for query, count in (
        ("reason=attempts_exhausted", 2),
        (f"fingerprint={group}", 2),
        (f"reason=attempts_exhausted&fingerprint={group}", 2),
        ("q=keyerror", 3),
        (f"q={one}", 1),
        (f"q=%23{one}", 1),
        ("which=today", 2),
        ("reason=engine_error&q=worker", 0),
    ):
        page = text_of(olga, f"{LIST}?{query}")
        assert len(entries_in(page)) == count, query
        assert (f"Requeue these {count}…" in page) is (count > 1), query
        decide = text_of(olga, f"{LIST}decide/?{query}&verb=requeue")
        assert (f"<b>{count}</b> open" in decide) is (count > 0), query


def test_decided_ones_are_shown_with_the_decision_and_without_a_button(alice: User, olga: Client) -> None:
    letters = park(alice, 3)
    requeue_dead_letters(letters[:1], by=alice, reason="db-3 is back")
    page = text_of(olga, f"{LIST}?which=decided")
    assert entries_in(page) == letters[:1]
    assert "user:alice: db-3 is back" in page
    assert "Requeue these" not in page
    assert len(entries_in(text_of(olga, f"{LIST}?which=all"))) == 3


def test_an_empty_dlq_says_so(olga: Client) -> None:
    page = text_of(olga, LIST)
    assert "nothing: the system goes on by itself" in page
    assert "Requeue these" not in page


def test_the_row_says_where_it_got_stuck(alice: User, olga: Client) -> None:
    for number in range(5):
        make_asset(f"web-{number}", "development")
    (letter,) = park(alice, 1, *(f"web-{number}" for number in range(5)), step_status="unknown")
    StepTarget.objects.filter(execution_id=execution_of(letter), name="web-0").update(status="succeeded")
    page = text_of(olga, LIST)
    assert 'data-status="unknown">a</span>' in page
    assert "web-1, web-2, web-3 and 2 more" in page


def test_errors_are_escaped(alice: User, olga: Client) -> None:
    (letter,) = park(alice, error="<script>alert(1)</script> broke")
    for address in (LIST, f"{LIST}{letter}/change/", f"{LIST}decide/?fingerprint={_group(letter)}"):
        assert "<script>alert(1)" not in text_of(olga, address)


def _group(letter: int) -> str:
    return DeadLetter.objects.get(pk=letter).fingerprint


def test_a_preview_says_what_would_be_met(alice: User, olga: Client) -> None:
    park(alice, 3)
    park(alice, 2, step_status="unknown", reason="outcome_unknown")
    page = text_of(olga, f"{LIST}decide/?verb=requeue")
    assert "<b>5</b> open entries" in page
    assert "<b>2</b> have a step whose outcome is unknown: as it is, they are left in the DLQ" in page
    assert "<b>0</b> of their assets are locked by others now" in page
    discard = text_of(olga, f"{LIST}decide/?verb=discard")
    assert "They end as <b>failed</b>" in discard
    assert "name=&quot;start_from" not in discard
    assert not DeadLetterBatch.objects.exists()


def test_a_decision_touches_only_what_its_preview_counted(alice: User, olga: Client) -> None:
    letters = park(alice, 3)
    page = text_of(olga, f"{LIST}decide/?verb=requeue&reason=engine_error")
    (up_to,) = re.findall(r'name="up_to" value="(\d+)"', page)
    later = park(alice, 2)
    answer = olga.post(f"{LIST}decide/?verb=requeue&reason=engine_error", {"up_to": up_to, "start_from": "as_it_is"})
    batch = DeadLetterBatch.objects.get()
    assert answer.headers["Location"] == f"/admin/queueing/deadletterbatch/{batch.pk}/change/"
    assert (batch.matched, batch.state, batch.counts) == (3, "done", {"requeued": 3})
    assert set(DeadLetter.objects.filter(state="open").values_list("pk", flat=True)) == set(later)
    assert set(QueueEntry.objects.values_list("execution_id", flat=True)) == {execution_of(pk) for pk in letters}


def test_a_big_one_goes_at_its_pace_and_its_page_shows_how_far_it_is(alice: User, olga: Client) -> None:
    park(alice, SMALL + 1)
    park(alice, 2, step_status="unknown", reason="outcome_unknown")
    olga.post(f"{LIST}decide/?verb=requeue", {"start_from": "as_it_is", "reason": "db-3 is back", "per_second": "100"})
    batch = DeadLetterBatch.objects.get()
    assert (batch.per_second, batch.state, batch.by) == (100, "running", "user:olga")
    address = f"/admin/queueing/deadletterbatch/{batch.pk}/change/"
    page = text_of(olga, address)
    assert "Requeue of 203 entries" in page
    assert "0 done, about 2.0 s to go at 100 a second" in page
    assert 'hx-trigger="every 1s"' in page
    assert "No worker is alive" in page
    assert "Cancel: leave the other 203 in the DLQ" in page
    assert f"Batch #{batch.pk}</a> is at work for user:olga" in text_of(olga, LIST)
    DeadLetterBatch.objects.update(per_second=None)
    while work_at_batches():
        pass
    part = text_of(olga, f"/admin/queueing/deadletterbatch/{batch.pk}/progress/?outcome=&after=")
    assert "Requeued <b>201</b>" in part
    assert "Outcome unknown <b>2</b>" in part
    assert "hx-get" not in part, "an ended batch is not asked for again"
    left = text_of(olga, f"{address}?outcome=unknown_outcome")
    assert len(set(re.findall(r"/deadletter/(\d+)/change/", left))) == 2
    first = text_of(olga, address)
    (more,) = re.findall(r'href="([^"]+)">The next ones', first)
    assert len(set(re.findall(r"/deadletter/(\d+)/change/", text_of(olga, more.replace("&amp;", "&"))))) == 100


def test_a_running_batch_is_cancelled_from_its_page(alice: User, olga: Client) -> None:
    park(alice, 3)
    olga.post(f"{LIST}decide/?verb=discard", {"reason": "gone", "per_second": "1"})
    batch = DeadLetterBatch.objects.get()
    address = reverse("admin:queueing_deadletterbatch_cancel", args=[batch.pk])
    assert olga.get(address).status_code == 404
    assert "Cancelled: what was not done stays" in olga.post(address, follow=True).content.decode()
    assert "has ended" in olga.post(address, follow=True).content.decode()
    assert "cancelled by user:olga" in text_of(olga, f"/admin/queueing/deadletterbatch/{batch.pk}/change/")
    assert DeadLetter.objects.filter(state="open").count() == 3


def test_what_needs_a_reason_is_refused_without_one_and_says_so_beside_the_field(alice: User, olga: Client) -> None:
    park(alice, 2, step_status="unknown", reason="outcome_unknown")
    for verb, form in (("discard", {}), ("requeue", {"start_from": "failed_step"})):
        page = olga.post(f"{LIST}decide/?verb={verb}", {**form, "reason": " "}).content.decode()
        assert 'role="alert">Say why' in page
    page = olga.post(f"{LIST}decide/?verb=requeue", {"start_from": "as_it_is", "per_second": "0"}).content.decode()
    assert page.count('role="alert"') == 1
    assert not DeadLetterBatch.objects.exists()
    olga.post(f"{LIST}decide/?verb=requeue", {"start_from": "failed_step", "reason": "idempotent"})
    assert DeadLetterBatch.objects.get().counts == {"requeued": 2}


def test_an_entry_shows_every_attempt_the_end_of_output_and_the_ways_to_resolve(alice: User, olga: Client) -> None:
    (letter,) = park(alice, step_status="unknown", reason="outcome_unknown")
    one = execution_of(letter)
    target = StepTarget.objects.get(execution_id=one)
    Event.objects.create(execution_id=one, seq=3, kind="execution.claimed", actor="worker:w", data={"fence": 71})
    OutputChunk.objects.create(execution_id=one, seq=4, step_target=target, stream="stdout", text="<i>Stopping</i>\n")
    Attempt.objects.create(
        execution_id=one, tenant_id=alice.tenant_id, number=1, token=71, worker_id=5, worker="host-2/71",
        leased_at=timezone.now(), end="worker_died", error="Its process ended without a word.",
    )  # fmt: skip
    page = text_of(olga, f"{LIST}{letter}/change/")
    assert "A person has to say what became of 1 step" in page
    assert f'<a href="/executions/{one}/">the execution’s page</a>' in page
    assert "succeeded</b>, that it <b>failed</b>, or that it is to <b>run again" in page
    assert "host-2/71" in page
    assert "/admin/queueing/worker/5/change/" in page
    assert "Its worker process died" in page
    assert "Its process ended without a word." in page
    assert "&lt;i&gt;Stopping&lt;/i&gt;" in page
    assert f"reason=outcome_unknown&amp;fingerprint={_group(letter)}" in page
    assert f'href="/admin/executions/execution/{one}/change/"' in page
    assert f"/admin/queueing/deadletter/{letter}/change/" in text_of(olga, f"/admin/executions/execution/{one}/change/")


def test_one_entry_is_decided_on_from_its_page(alice: User, olga: Client) -> None:
    as_it_is, again, gone = park(alice, 3)
    (unknown,) = park(alice, step_status="unknown", reason="outcome_unknown")

    def decide(letter: int, **form: str) -> str:
        address = reverse("admin:queueing_deadletter_decide_one", args=[letter])
        return olga.post(address, form, follow=True).content.decode()

    assert "1 of 1 requeued" in decide(as_it_is, verb="requeue", start_from="as_it_is")
    assert "0 of 1 requeued; 1 had moved on" in decide(as_it_is, verb="requeue", start_from="as_it_is")
    assert "outcome has to be said first" in decide(unknown, verb="requeue", start_from="as_it_is")
    assert "Say why" in decide(again, verb="requeue", start_from="failed_step")
    assert "1 of 1 requeued" in decide(again, verb="requeue", start_from="failed_step", reason="idempotent")
    assert "Say why" in decide(gone, verb="discard")
    assert "1 of 1 discarded" in decide(gone, verb="discard", reason="gone")
    assert status_of(execution_of(gone)) == "failed"
    assert olga.get(reverse("admin:queueing_deadletter_decide_one", args=[gone])).status_code == 404


def test_viewers_look_and_decide_nothing_and_strangers_see_nothing(alice: User) -> None:
    (letter,) = park(alice)
    victor = signed_in("victor", "viewer")
    page = text_of(victor, LIST)
    assert entries_in(page) == [letter]
    assert "Requeue it" not in page
    assert victor.get(f"{LIST}decide/?verb=requeue").status_code == 403
    assert victor.post(f"{LIST}decide/?verb=discard", {"reason": "x"}).status_code == 403
    assert "Decide</h2>" not in text_of(victor, f"{LIST}{letter}/change/")
    address = reverse("admin:queueing_deadletter_decide_one", args=[letter])
    victor.post(address, {"verb": "discard", "reason": "x"})
    signed_in("olga", "operator").post(f"{LIST}decide/?verb=discard", {"reason": "x", "per_second": "1"})
    batch = DeadLetterBatch.objects.get().pk
    victor.post(reverse("admin:queueing_deadletterbatch_cancel", args=[batch]))
    assert DeadLetterBatch.objects.get().state == "running"

    mallory = make_user("mallory", tenant="other", is_staff=True, is_superuser=True)
    other = Client()
    other.force_login(mallory, backend="safety.backends.PasswordBackend")
    assert entries_in(text_of(other, LIST)) == []
    assert other.get(f"{LIST}{letter}/change/").status_code == 302
    assert other.post(address, {"verb": "discard", "reason": "x"}).status_code == 404
    for name in ("change", "progress", "cancel"):
        assert other.post(reverse(f"admin:queueing_deadletterbatch_{name}", args=[batch])).status_code == 404
    nobody = signed_in("nobody")
    for path in (LIST, f"{LIST}decide/", f"/admin/queueing/deadletterbatch/{batch}/change/"):
        assert nobody.get(path).status_code == 403
    assert DeadLetter.objects.get(pk=letter).state == "open"


def test_the_pages_cost_the_same_number_of_queries_however_much_there_is(
    alice: User, olga: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    make_asset("m1", "development")
    park(alice, 2, "m1")
    with django_assert_max_num_queries(14):
        olga.get(LIST)
    for number in range(8):
        park(alice, 8, "m1", error=f"fault {'x' * number}")
    with CaptureQueriesContext(connection) as told:
        olga.get(LIST)
    assert len(told) <= 14, [query["sql"][:120] for query in told]


MANY = """
INSERT INTO queueing_deadletter (execution_id, tenant_id, reason, error, pattern, fingerprint, attempts, created_at)
SELECT 1000000000 + n, %s, CASE WHEN n %% 3 = 0 THEN 'attempts_exhausted' ELSE 'engine_error' END,
       'The engine failed: ' || n %% 7, 'The engine failed: ' || n %% 7, lpad((n %% 7)::text, 16, '0'), 3,
       now() - n * interval '1 minute'
  FROM generate_series(1, 100000) n
"""


def test_the_list_of_100_000_entries_asks_as_little_as_a_short_one_whatever_the_filter(
    alice: User, olga: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    """How long it takes, `make bench` says (growth)."""
    with connection.cursor() as cursor:
        cursor.execute(MANY, [alice.tenant_id])
        cursor.execute("ANALYZE queueing_deadletter")
    newest = park(alice, 50)
    queries = (
        "", "reason=engine_error", "reason=attempts_exhausted&fingerprint=0000000000000003", "which=today", "which=all",
        "fingerprint=0000000000000003", "p=1000", f"q={execution_of(newest[0])}", "q=failed: 5", "q=nothing like it",
    )  # fmt: skip
    assert entries_in(text_of(olga, LIST)) == newest[::-1]
    for query in queries:
        with django_assert_max_num_queries(14):
            assert olga.get(f"{LIST}?{query}").status_code == 200


@several
def test_the_summary_of_many_reads_an_index_and_not_the_table(alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(MANY, [alice.tenant_id])
        cursor.execute("VACUUM ANALYZE queueing_deadletter")
        cursor.execute(
            f"EXPLAIN {SUMMARY}",
            {"tenant": alice.tenant_id, "reasons": DeadReason.values, "cap": COUNTED + 1, "groups": GROUPS},
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in plan, plan
    assert "dead_letter_open" in plan
    assert "dead_letter_open_since" in plan

"""The pages on queue and locks: what waits and why, who has which machine, and how a lock is taken back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from executions import admin_queue
from executions.admin_queue import QUESTIONS
from executions.models import Asset, Execution
from queueing.models import AssetLock, LockState, Pool, QueueControl, QueueEntry
from safety.models import User
from tests.executions.live.rows import make_execution, make_user
from tests.queueing.lines import claim_ids, enqueue, entry, move_back, new_worker

pytestmark = pytest.mark.django_db

QUEUE = "/admin/queueing/queueentry/"
LOCKS = "/admin/queueing/assetlock/"


def signed_in(name: str, *roles: str, tenant: str = "default") -> Client:
    user = make_user(name, tenant=tenant, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    client = Client()
    client.force_login(user, backend="safety.backends.PasswordBackend")
    return client


@pytest.fixture
def olga(db: None) -> Client:
    return signed_in("olga", "operator")


@pytest.fixture
def alice(db: None) -> User:
    return make_user("alice")


def machine(by: User, name: str) -> int:
    values = {"hostname": name, "connection": "local", "environment": "development"}
    return Asset.objects.get_or_create(tenant=by.tenant, name=name, defaults=values)[0].pk


def queued(by: User, *machines: str, shared: Iterable[str] = (), title: str = "Restart nginx", **fields: Any) -> int:
    """An execution in the queue that wants these machines; returns its number."""
    execution = make_execution(by, steps=["check"], hosts=machines or ["localhost"], status="queued", title=title)
    wants = entry(
        execution.pk, *(machine(by, name) for name in machines), shared=[machine(by, name) for name in shared]
    )
    enqueue(wants | {"tenant_id": by.tenant_id} | fields)
    return execution.pk


def claim(worker: int, limit: int = 100) -> list[int]:
    """As a worker does: leases what it can, parks what has to wait for a machine."""
    connection.ensure_connection()
    ids = claim_ids(connection.connection, worker, limit)
    Execution.objects.filter(pk__in=ids).update(status="running", started_at=timezone.now())
    return ids


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def rows(client: Client, address: str) -> dict[int, str]:
    """The text of each row of the list, by the number of its execution."""
    page = client.get(address + ("&" if "?" in address else "?") + "fragment=1").content.decode()
    body = page[page.index('data-part="entries"') :]
    found = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    return {
        int(match.group(1)): text_of(row)
        for row in found
        if (match := re.search(r'lp-strong"[^>]*href="/executions/(\d+)/"', row))
    }


# -- the queue


def test_every_entry_says_why_it_waits_and_where_it_stands(olga: Client, alice: User) -> None:
    worker = new_worker()
    holder = queued(alice, "db-1")
    assert claim(worker) == [holder]
    second, third = queued(alice, "db-1"), queued(alice, "db-1")
    claim(worker)
    free, next_one = queued(alice), queued(alice)
    later = queued(alice, not_before=(timezone.now() + timedelta(hours=1)).isoformat())
    shown = rows(olga, QUEUE)
    assert list(shown) == [free, next_one, second, third, later]
    assert f"Waiting for the lock on db-1, held by #{holder}" in shown[second]
    assert "1st in line" in shown[second]
    assert "2nd in line" in shown[third]
    assert "Waiting for a free worker: 2nd in line." in shown[next_one]
    assert "Not before" in shown[later]
    page = olga.get(QUEUE).content.decode()
    assert f'by <a href="/executions/{holder}/">#{holder}</a>' in page


def test_nobody_to_run_it_and_a_paused_pool_are_said_at_the_entry(olga: Client, alice: User) -> None:
    new_worker(regions=["eu-1"])
    there, paused = queued(alice, region="eu-2"), queued(alice, pool="heavy")
    Pool.objects.create(name="heavy", paused=True, changed_by="user:bob", reason="disk swap")
    shown = rows(olga, QUEUE)
    assert "No worker serves pool default in region eu-2" in shown[there]
    assert "user:bob: disk swap" in shown[paused]
    assert "No worker serves region eu-2: 1 execution waits." in text_of(olga.get(QUEUE).content.decode())
    QueueControl.objects.update(draining=True, changed_by="user:bob", reason="upgrade")
    assert "The queue is drained by user:bob: upgrade." in text_of(olga.get(QUEUE).content.decode())


def test_what_runs_names_its_worker_and_its_lease(olga: Client, alice: User) -> None:
    worker, other = new_worker(host="ops-1", pid=77), new_worker(host="ops-2", pid=78)
    one = queued(alice)
    claim(worker)
    two = queued(alice)
    claim(other)
    shown = rows(olga, f"{QUEUE}?question=running")
    assert set(shown) == {one, two}
    assert "ops-1/77" in shown[one]
    assert "its lease ends in" in shown[one]
    assert set(rows(olga, f"{QUEUE}?worker={worker}")) == {one}
    assert f"/admin/queueing/worker/{worker}/change/" in olga.get(f"{QUEUE}?worker={worker}").content.decode()


def test_each_question_finds_what_it_asks_for(olga: Client, alice: User) -> None:
    worker = new_worker()
    numbers = {name: queued(alice) for name in ("running", "expired", "again", "last", "cancel")}
    assert len(claim(worker)) == 5
    past = timezone.now() - timedelta(minutes=1)
    QueueEntry.objects.filter(pk=numbers["expired"]).update(lease_expires_at=past)
    QueueEntry.objects.filter(pk=numbers["again"]).update(attempt=2)
    QueueEntry.objects.filter(pk=numbers["last"]).update(attempts_left=0)
    QueueEntry.objects.filter(pk=numbers["cancel"]).update(cancel_reason="wrong hosts")
    leased = set(numbers.values())
    numbers["worker"], numbers["apart"], numbers["long"] = queued(alice), queued(alice), queued(alice)
    QueueEntry.objects.filter(pk=numbers["apart"]).update(losses=1)
    move_back(90, numbers["long"])
    numbers["time"] = queued(alice, not_before=(timezone.now() + timedelta(hours=1)).isoformat())
    numbers["machine"] = queued(alice)
    QueueEntry.objects.filter(pk=numbers["machine"]).update(state="blocked")
    expected = {name: {numbers[name]} for name in numbers} | {
        "running": leased,
        "worker": {numbers["worker"], numbers["long"]},
        "waiting": {numbers[name] for name in ("worker", "apart", "long", "time", "machine")},
    }
    assert {name: set(rows(olga, f"{QUEUE}?question={name}")) for name in QUESTIONS} == expected


def test_pages_show_every_entry_once_in_the_order_in_which_they_are_claimed(olga: Client, alice: User) -> None:
    now = timezone.now()
    made = [
        QueueEntry(
            execution_id=number, tenant_id=alice.tenant_id, state=state, priority=5, attempts_left=3,
            pool=f"p-{number % 3}", available_at=now, place=now + timedelta(seconds=number % 7),
        )
        for state, numbers in (("ready", range(1, 121)), ("blocked", range(201, 281)), ("delayed", range(301, 321)))
        for number in numbers
    ]  # fmt: skip
    QueueEntry.objects.bulk_create(made)
    seen: list[int] = []
    address = QUEUE
    for _ in range(10):
        page = olga.get(address).content.decode()
        seen += [int(number) for number in re.findall(r'lp-strong"[^>]*href="/executions/(\d+)/"', page)]
        following = re.search(r'href="([^"]*after=[^"]*)">The next', page)
        if following is None:
            break
        address = unescape(following.group(1))
    assert len(seen) == len(set(seen)) == 220
    ready = [number for number in seen if number < 200]
    assert ready == sorted(ready, key=lambda number: (number % 7, number))
    assert seen[:120] == ready


def test_an_address_that_somebody_changed_shows_the_first_page(olga: Client, alice: User) -> None:
    number = queued(alice)
    for after in ("x", "ready~not-a-time~1", "nothing~2026-01-01T00:00:00~1", "ready~2026-99-01T00:00:00~1"):
        assert set(rows(olga, f"{QUEUE}?after={after}")) == {number}, after


def test_the_list_is_narrowed_by_pool_region_and_number(olga: Client, alice: User) -> None:
    one, two, three = queued(alice, pool="heavy"), queued(alice, region="eu-2"), queued(alice)
    assert set(rows(olga, f"{QUEUE}?pool=heavy")) == {one}
    assert set(rows(olga, f"{QUEUE}?region=eu-2")) == {two}
    assert set(rows(olga, f"{QUEUE}?q=%23{three}")) == {three}
    assert "is not in the queue" in olga.get(f"{QUEUE}?q=99999").content.decode()
    assert "is no number" in olga.get(f"{QUEUE}?q=nginx").content.decode()


def test_nothing_of_another_tenant_is_shown(alice: User) -> None:
    worker = new_worker()
    number = queued(alice, "db-1", title="Secret of alice")
    claim(worker)
    other = queued(alice, "db-1")
    claim(worker)
    mallory = signed_in("mallory", "admin", tenant="other")
    for question in QUESTIONS:
        assert rows(mallory, f"{QUEUE}?question={question}") == {}
    assert rows(mallory, f"{QUEUE}?q={other}") == {}
    page = mallory.get(f"{QUEUE}?q={number}").content.decode() + mallory.get(LOCKS).content.decode()
    assert "Secret of alice" not in page
    assert "db-1" not in page
    assert f'data-asset="{machine(alice, "db-1")}"' not in page
    assert text_of(mallory.get(QUEUE).content.decode()).count("default runs") == 0


def test_each_tenant_sees_its_share_and_the_installation_that_of_all(olga: Client, alice: User) -> None:
    bob = make_user("bob", tenant="payments")
    worker = new_worker()
    for by in (alice, alice, alice, bob):
        queued(by)
    claim(worker)
    queued(bob)
    page = text_of(olga.get(QUEUE).content.decode())
    assert "default runs 3 (75 % of all), 0 wait for a worker" in page
    assert "payments runs 1 (25 % of all), 1 wait for a worker" in page
    theirs = text_of(signed_in("paul", "viewer", tenant="payments").get(QUEUE).content.decode())
    assert "payments runs 1 (25 % of all), 1 wait for a worker" in theirs
    assert "default runs" not in theirs


def test_the_queue_costs_the_same_number_of_statements_however_long_it_is(
    olga: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    worker = new_worker()
    queued(alice, "db-1")
    claim(worker)
    queued(alice, "db-1")
    claim(worker)
    queued(alice)
    with django_assert_max_num_queries(26):
        olga.get(QUEUE)
    for number in range(60):
        queued(alice, f"db-{number % 4}")
    claim(worker, 30)
    with django_assert_max_num_queries(26):
        assert len(rows(olga, QUEUE)) == admin_queue.PAGE


def test_no_statement_of_the_page_reads_the_queue_as_a_whole(olga: Client, alice: User) -> None:
    now = timezone.now()
    QueueEntry.objects.bulk_create(
        QueueEntry(
            execution_id=number, tenant_id=1_000_000 + number % 2, state="ready" if number % 3 else "blocked",
            priority=5, attempts_left=3, available_at=now, place=now,
        )
        for number in range(1, 6001)
    )  # fmt: skip
    QueueEntry.objects.filter(pk__lte=3000).update(tenant_id=alice.tenant_id)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE queueing_queueentry")
    for question in ("waiting", "long", "running"):
        with CaptureQueriesContext(connection) as asked:
            olga.get(f"{QUEUE}?question={question}&fragment=1")
        sql = [one["sql"] for one in asked.captured_queries if "FROM queueing_queueentry" in one["sql"]]
        assert sql
        for statement in sql:
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + statement)
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan on queueing_queueentry" not in plan, statement + plan


# -- the locks


def held_by(worker: int, by: User, *machines: str, shared: Iterable[str] = ()) -> int:
    number = queued(by, *machines, shared=shared)
    assert number in claim(worker)
    return number


def test_each_held_machine_is_one_row_with_holder_mode_number_and_line(olga: Client, alice: User) -> None:
    worker = new_worker(host="ops-1", pid=77)
    holder = held_by(worker, alice, "db-1")
    waiters = [queued(alice, "db-1") for _ in range(5)]
    readers = [held_by(worker, alice, shared=["web-1"]) for _ in range(2)]
    move_back(90, waiters[2])
    page = olga.get(f"{LOCKS}?fragment=1").content.decode()
    table = re.findall(r"<tr>(.*?)</tr>", page[page.index('data-part="locks"') :], re.S)[1:]
    assert len(table) == 2
    first, second = (text_of(row) for row in table)
    fence = AssetLock.objects.get(execution_id=holder).fence
    for words in (
        "Wanted",
        "db-1",
        f"#{holder} Restart nginx",
        "on ops-1/77",
        "exclusive",
        str(fence),
        "5 , the longest",
    ):
        assert words in first, (words, first)
    assert "the longest for 1 min 30 s" in first
    for number in waiters[:3]:
        assert f'href="/executions/{number}/"' in table[0]
    assert f"#{waiters[4]}" not in first
    assert "shared" in second
    assert all(f"#{number}" in second for number in readers)
    assert "Somebody waits for 1 of the machines that are held." in text_of(page)


def test_locks_are_found_by_question_name_and_execution(olga: Client, alice: User) -> None:
    worker = new_worker()
    held_by(worker, alice, "db-1")
    queued(alice, "db-1")
    old = held_by(worker, alice, "web-1")
    AssetLock.objects.filter(execution_id=old).update(held_at=F("held_at") - timedelta(minutes=11))
    held_by(worker, alice, shared=["web-2"])
    freed = held_by(worker, alice, "web_3")
    QueueEntry.objects.filter(pk=freed).update(revoked_at=timezone.now())

    def names(query: str) -> set[str]:
        page = olga.get(f"{LOCKS}?fragment=1&{query}").content.decode()
        return set(re.findall(r'lp-strong" href="/admin/executions/asset/\d+/change/">([^<]+)<', page))

    assert names("") == {"db-1", "web-1", "web-2", "web_3"}
    assert names("question=wanted") == {"db-1"}
    assert names("question=long") == {"web-1"}
    assert names("question=shared") == {"web-2"}
    assert names("question=freeing") == {"web_3"}
    assert names("q=WEB") == {"web-1", "web-2", "web_3"}
    assert names("q=web_") == {"web_3"}
    assert names(f"q=%23{old}") == {"web-1"}
    assert names("question=nonsense") == names("")


def test_pages_of_locks_show_every_machine_once(olga: Client, alice: User) -> None:
    now = timezone.now()
    AssetLock.objects.bulk_create(
        AssetLock(
            execution_id=number, asset_id=machine(alice, f"m-{number}"), place=now, exclusive=True,
            state=LockState.HELD, fence=number, held_at=now,
        )
        for number in range(1, 112)
    )  # fmt: skip
    seen: list[str] = []
    address = LOCKS
    for _ in range(5):
        page = olga.get(address).content.decode()
        seen += re.findall(r'data-machine="([^"]+)"', page)
        following = re.search(r'href="([^"]*after=[^"]*)">The next', page)
        if following is None:
            break
        address = unescape(following.group(1))
    assert len(seen) == len(set(seen)) == 111


def test_the_locks_cost_the_same_number_of_statements_however_many_there_are(
    olga: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    worker = new_worker(slots=1000)
    held_by(worker, alice, "db-1")
    with django_assert_max_num_queries(12):
        olga.get(LOCKS)
    for number in range(20):
        held_by(worker, alice, f"web-{number}")
        queued(alice, f"web-{number}")
    with django_assert_max_num_queries(12):
        olga.get(LOCKS)


def free(client: Client, asset_id: int, reason: str = "the outage needs it") -> str:
    response = client.post(f"{LOCKS}free/", {"asset": asset_id, "reason": reason}, follow=True)
    assert response.status_code == 200
    return " ".join(str(one) for one in response.context["messages"])


def test_freeing_a_lock_stops_its_holder_ends_its_lease_and_says_when_it_is_free(olga: Client, alice: User) -> None:
    worker = new_worker()
    holder = held_by(worker, alice, "db-1")
    page = unescape(olga.get(LOCKS).content.decode())
    assert f'data-who="#{holder} is asked to stop"' in page
    assert "at the latest after 42 s" in page
    told = free(olga, machine(alice, "db-1"))
    assert told == f"#{holder} asked to stop. The lock is free when its worker has let go, at the latest after 42 s."
    entry_ = QueueEntry.objects.get(pk=holder)
    assert entry_.revoked_at is not None
    assert "the outage needs it" in (entry_.cancel_reason or "")
    execution = Execution.objects.get(pk=holder)
    assert execution.status == "cancelling"
    assert AssetLock.objects.get(execution_id=holder).state == LockState.HELD  # never at once, never by force
    assert "Being freed" in olga.get(LOCKS).content.decode()


def test_a_lock_is_not_freed_without_a_reason_nor_twice_nor_by_a_viewer(olga: Client, alice: User) -> None:
    worker = new_worker()
    holder = held_by(worker, alice, "db-1")
    asset_id = machine(alice, "db-1")
    assert "Say why" in free(olga, asset_id, reason=" ")
    victor = signed_in("victor", "viewer")
    assert "data-dialog" not in victor.get(LOCKS).content.decode()
    assert victor.post(f"{LOCKS}free/", {"asset": asset_id, "reason": "x"}).status_code == 403
    assert "Nobody holds the lock" in free(olga, machine(alice, "web-9"))
    assert "There is no asset 999999" in free(olga, 999_999)
    mallory = signed_in("mallory", "admin", tenant="other")
    assert f"There is no asset {asset_id}" in free(mallory, asset_id)
    assert Execution.objects.get(pk=holder).status == "running"
    assert QueueEntry.objects.get(pk=holder).revoked_at is None


def test_names_of_machines_and_titles_are_shown_and_never_run(olga: Client, alice: User) -> None:
    evil = "<script>alert(1)</script>"
    worker = new_worker()
    execution = queued(alice, evil, title=evil)
    claim(worker)
    queued(alice, evil, title=evil)
    claim(worker)
    for address in (LOCKS, QUEUE, f"{QUEUE}?question=running", f"{QUEUE}?pool={evil}", f"{LOCKS}?q={evil}"):
        page = olga.get(address).content.decode()
        assert evil not in page
    assert execution

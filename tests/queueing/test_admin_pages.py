"""The Fleet page: what it says of workers, clusters and queue, and what operators do from it."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from queueing.admin import overview
from queueing.admin.overview import Fleet
from queueing.models import (
    Attempt,
    AttemptEnd,
    Cluster,
    Pool,
    QueueControl,
    QueueEntry,
    ScalingDecision,
    Worker,
)
from queueing.throughput import AT_LEAST, Throughput
from safety.models import Tenant, User
from tests.queueing.lines import enqueue, entry, move_back, new_worker

pytestmark = pytest.mark.django_db

PAGE = "/admin/queueing/worker/"


def signed_in(name: str, *roles: str, tenant: str = "default") -> Client:
    user = User(username=name, tenant=Tenant.objects.get_or_create(name=tenant)[0], is_staff=True)
    user.set_unusable_password()
    user.save()
    user.groups.set(Group.objects.filter(name__in=roles))
    client = Client()
    client.force_login(user, backend="safety.backends.PasswordBackend")
    return client


@pytest.fixture
def olga(db: None) -> Client:
    return signed_in("olga", "operator")


def new_cluster(name: str = "test", **fields: Any) -> Cluster:
    values = {
        "host": "host", "pid": 1, "version": "0", "processes": 1, "initial_processes": 1, "max_processes": 8, **fields,
    }  # fmt: skip
    return Cluster.objects.create(name=name, **values)


def said() -> list[str]:
    return [one.text for one in Fleet().sentences]


def tile(label: str) -> str:
    (found,) = [one.value for one in Fleet().tiles if one.label == label]
    return found


def act(client: Client, door: str, **fields: Any) -> str:
    """Do something from the page, and return what it says afterwards."""
    response = client.post(f"{PAGE}{door}/", {"reason": "patch night", **fields}, follow=True)
    assert response.status_code == 200
    (messages,) = [[str(one) for one in response.context["messages"]]]
    return " ".join(messages)


# -- what it says


def test_a_fleet_that_is_well_says_so_in_one_sentence() -> None:
    new_cluster()
    new_worker()
    assert said() == ["All is well: 1 worker on 1 host, nothing waits."]


def test_nobody_at_work_is_the_first_thing_said() -> None:
    enqueue(entry(1), entry(2))
    assert said()[0].startswith("No worker is running: 2 executions wait.")


def test_a_region_that_nobody_serves_is_named_with_how_many_wait() -> None:
    new_worker(regions=["eu-1"])
    enqueue(*(entry(number) | {"region": "eu-2"} for number in range(1, 15)))
    assert said() == ["No worker serves region eu-2: 14 executions wait."]


def test_a_worker_that_misses_two_beats_is_named_with_what_it_holds() -> None:
    new_worker()
    silent = new_worker(host="ops-2", pid=123, running=7)
    Worker.objects.filter(pk=silent).update(last_beat_at=F("last_beat_at") - timedelta(seconds=22))
    assert said() == ["Worker ops-2/123 has been silent for 22 s, with 7 executions."]
    assert tile("Silent") == "1"
    assert tile("Workers alive") == "1"


def test_of_many_silent_workers_some_are_named_and_the_rest_counted() -> None:
    new_worker()
    long_ago = timezone.now() - timedelta(minutes=5)
    for number in range(8):
        new_worker(host=f"h-{number}", last_beat_at=long_ago)
    texts = said()
    assert len(texts) == 6
    assert texts[-1] == "3 more workers are silent."


def test_a_host_that_is_gone_is_said_once_and_not_for_each_of_its_workers() -> None:
    new_worker()
    long_ago = timezone.now() - timedelta(seconds=40)
    new_cluster("gone", host="ops-3", processes=3, last_beat_at=long_ago)
    for _ in range(3):
        new_worker(cluster="gone", host="ops-3", last_beat_at=long_ago)
    assert said() == ["Host ops-3 has been silent for 40 s, and so are its 3 workers."]


def test_a_cluster_that_is_silent_beside_its_living_workers_is_said_as_that() -> None:
    new_cluster("mute", host="ops-3", pid=9, last_beat_at=timezone.now() - timedelta(seconds=40))
    new_worker(cluster="mute", host="ops-3")
    assert said() == ["The cluster ops-3/9 has been silent for 40 s: nobody there starts a worker anew."]


def test_missing_processes_are_counted_by_host() -> None:
    new_cluster("web", host="web-2", processes=6)
    for _ in range(4):
        new_worker(cluster="web", host="web-2")
    assert said() == ["2 of 6 processes are missing on host web-2."]


def test_that_every_worker_drains_is_a_warning() -> None:
    new_worker(draining=True)
    new_worker(host="ops-2")
    assert said() == ["All is well: 2 workers on 2 hosts, nothing waits.", "1 of 2 workers drains."]
    Worker.objects.update(draining=True)
    assert said() == ["Every worker drains: nothing starts, nothing waits."]


def test_a_drained_host_is_named_and_can_be_undrained_only(olga: Client) -> None:
    new_cluster(host="ops-2")
    new_worker(host="ops-2")
    assert "Drain host" in olga.get(f"{PAGE}?fragment=1").content.decode()
    act(olga, "drain-workers", host="ops-2")
    page = olga.get(f"{PAGE}?fragment=1").content.decode()
    assert "Host ops-2 is drained: what starts there drains as well." in page
    assert "Undrain host" in page
    assert "Drain host" not in page
    act(olga, "undrain-workers", host="ops-2")
    assert not Cluster.objects.get().draining


def test_a_paused_pool_is_named_with_who_paused_it_and_why() -> None:
    new_worker()
    Pool.objects.create(name="heavy", paused=True, changed_by="user:alice", reason="disk swap")
    enqueue(entry(1) | {"pool": "heavy"})
    assert "Pool heavy is paused by user:alice: disk swap. 1 execution waits." in said()


def test_a_drained_queue_is_said_with_who_drained_it_and_why() -> None:
    new_worker()
    QueueControl.objects.update(draining=True, changed_by="user:alice", reason="upgrade")
    (text,) = said()
    assert text == "The queue is drained by user:alice: upgrade. Nothing is taken in, nothing starts; nothing waits."


def test_suspects_are_counted_with_what_makes_them_suspects() -> None:
    new_worker()
    enqueue(*(entry(number) for number in (1, 2, 3)))
    QueueEntry.objects.update(losses=1)
    assert said() == ["3 executions wait to be run apart: a worker died of each."]


def test_a_loop_that_is_late_makes_a_worker_unwell() -> None:
    new_worker()
    new_worker(host="ops-2", pid=7, loop_lag_ms=2300)
    (text,) = said()
    assert text.startswith("Worker ops-2/7: Its event loop was 2.3 s late")


def test_the_worst_is_said_first() -> None:
    new_worker(regions=["eu-1"])
    new_worker(host="ops-2", pid=7, loop_lag_ms=2300, regions=["eu-1"])
    new_worker(host="ops-2", pid=8, draining=True)
    enqueue(entry(1) | {"region": "eu-2"})
    statuses = [one.status for one in Fleet().sentences]
    assert statuses == ["failed", "needs_attention", "queued"]


def test_what_ended_badly_in_the_last_hour_is_counted_and_older_is_not() -> None:
    new_worker()
    now = timezone.now()
    for number, (ago, end) in enumerate(
        [(5, AttemptEnd.LEASE_EXPIRED), (50, AttemptEnd.WORKER_DIED), (70, AttemptEnd.LEASE_EXPIRED)], 1
    ):
        Attempt.objects.create(
            execution_id=number, tenant_id=1, number=1, token=number, worker_id=1, worker="h/1", leased_at=now,
            ended_at=now - timedelta(minutes=ago), end=end,
        )  # fmt: skip
    assert tile("Leases lost in an hour") == "2"
    assert "1 lease ran out in the last hour." in said()


def test_depth_is_shown_by_priority() -> None:
    enqueue(entry(1, priority=1), entry(2, priority=5), entry(3, priority=5))
    (depth,) = [one for one in Fleet().tiles if one.label == "In the queue"]
    assert depth.value == "3"
    assert [(label, number) for label, number, _ in depth.bars] == [("1", 1), ("5", 2)]


def test_throughput_is_measured_between_two_readings_and_counts_workers_that_ended() -> None:
    one, two = new_worker(finished=1000), new_worker(finished=50)
    throughput, began = Throughput(), timezone.now()
    assert throughput.read(began).over is None  # nothing to compare with: an average since the workers began
    Worker.objects.filter(pk=one).update(finished=1100)
    Worker.objects.filter(pk=two).update(finished=60, stopped_at=timezone.now(), state="stopped")
    new_worker(finished=10)
    later = began + 2 * AT_LEAST
    rate = throughput.read(later)
    assert rate.over == 2 * AT_LEAST
    assert rate.per_minute == pytest.approx(120 / (rate.over / timedelta(minutes=1)))


# -- the page


def test_the_page_shows_every_worker_with_state_health_and_what_it_runs(olga: Client) -> None:
    new_cluster(host="ops-1")
    pk = new_worker(host="ops-1", pid=77, running=3, finished=200, failed=10, isolation=True, capabilities=["ssh"])
    page = olga.get(PAGE).content.decode()
    for text in ("ops-1/77", "Active", "3 of 10", "5.0 %", "10 of 200", "apart", "ssh", "all regions"):
        assert text in page, text
    assert f"/admin/queueing/queueentry/?worker={pk}" in page
    assert f"/admin/queueing/worker/{pk}/change/" in page
    one = olga.get(reverse("admin:queueing_worker_change", args=[pk])).content.decode()
    assert "Its event loop turns in time." in one


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("which=live", {"ops-1/1", "ops-2/2", "ops-2/3"}), ("which=draining", {"ops-2/2"}),
        ("which=silent", {"ops-2/3"}), ("which=ended", {"ops-1/4"}), ("which=unwell", set()),
        ("host=ops-2", {"ops-2/2", "ops-2/3"}),
        ("q=ops-1", {"ops-1/1"}), ("q=/2", {"ops-2/2"}), ("which=nonsense", {"ops-1/1", "ops-2/2", "ops-2/3"}),
    ],
)  # fmt: skip
def test_workers_are_found_by_question_host_and_words(olga: Client, question: str, expected: set[str]) -> None:
    new_worker(host="ops-1", pid=1)
    new_worker(host="ops-2", pid=2, draining=True)
    new_worker(host="ops-2", pid=3, last_beat_at=timezone.now() - timedelta(minutes=1))
    new_worker(host="ops-1", pid=4, state="lost", stopped_at=timezone.now())
    page = unescape(olga.get(f"{PAGE}?{question}&fragment=1").content.decode())
    table = page[page.index('data-part="workers"') : page.index('data-part="rest"')]
    assert set(re.findall(r"lp-strong\"[^>]*>(ops-\d/\d)<", table)) == expected


def test_a_refresh_gives_the_parts_of_the_page_and_nothing_around_them(olga: Client) -> None:
    new_worker(host="ops-1", pid=77)
    page = olga.get(PAGE).content.decode()
    parts = olga.get(f"{PAGE}?fragment=1").content.decode()
    names = re.findall(r'data-part="(\w+)"', parts)
    assert set(names) == {"actions", "top", "workers", "rest"} == set(re.findall(r'data-part="(\w+)"', page))
    assert "ops-1/77" in parts
    assert "<html" not in parts


def test_the_page_costs_the_same_number_of_statements_however_big_the_fleet_is(
    olga: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    new_cluster()
    new_worker()
    with django_assert_max_num_queries(24):  # session, user, tenant, roles; the rest is the page
        olga.get(PAGE)
    for number in range(40):
        new_cluster(f"c-{number}", host=f"h-{number}")
        new_worker(cluster=f"c-{number}", host=f"h-{number}", pools=[f"p-{number}"])
        enqueue(entry(number + 1) | {"pool": f"p-{number}"})
    with django_assert_max_num_queries(24):
        olga.get(PAGE)


def test_a_thousand_workers_are_a_page_of_two_hundred_that_says_so(olga: Client) -> None:
    Worker.objects.bulk_create(
        Worker(cluster="c", host=f"h-{number:04}", pid=1, version="1", slots=1) for number in range(1000)
    )
    page = olga.get(f"{PAGE}?fragment=1").content.decode()
    assert page.count("data-id=") == overview.SHOWN_WORKERS
    assert "The first 200 of 1000" in page


def test_decisions_are_shown_newest_first_with_reason_and_whether_they_were_applied(olga: Client) -> None:
    now = timezone.now()
    for number in range(8):
        ScalingDecision.objects.create(
            at=now - timedelta(minutes=number), cluster="c", host="ops-1", before=number, after=number + 1,
            reason=f"because {number}", by="autoscale", applied=number > 0, depth=3, waiting_seconds=12, running=1,
            slots=2,
        )  # fmt: skip
    page = olga.get(f"{PAGE}?fragment=1").content.decode()
    assert re.findall(r"because \d", page) == [f"because {number}" for number in range(5)]
    assert "Dry run" in page
    every = olga.get(reverse("admin:queueing_scalingdecision_changelist")).content.decode()
    assert "because 7" in every


@pytest.mark.parametrize("name", ["cluster", "pool", "scalingdecision"])
def test_the_registers_can_be_looked_at_and_not_edited(olga: Client, name: str) -> None:
    new_cluster()
    Pool.objects.create(name="heavy", paused=True)
    assert olga.get(reverse(f"admin:queueing_{name}_changelist")).status_code == 200
    assert olga.get(reverse(f"admin:queueing_{name}_add")).status_code == 403


# -- who may see, who may do

DOORS = ("drain", "resume", "drain-workers", "undrain-workers", "scale", "autoscale", "pause-pool", "resume-pool")


def test_whoever_has_a_role_in_another_tenant_does_not_see_the_fleet() -> None:
    mallory = signed_in("mallory", "admin", tenant="other")
    assert mallory.get(PAGE).status_code == 403
    assert PAGE not in mallory.get("/admin/").content.decode()
    assert mallory.get(f"{PAGE}?fragment=1").status_code == 403
    assert mallory.get(reverse("admin:queueing_scalingdecision_changelist")).status_code == 403


@pytest.mark.parametrize("door", DOORS)
def test_a_viewer_sees_no_actions_and_may_do_none(door: str) -> None:
    pk = new_worker()
    victor = signed_in("victor", "viewer")
    page = victor.get(PAGE).content.decode()
    assert "<dialog" not in page
    assert "data-dialog" not in page
    fields = {
        "reason": "because", "ids": pk, "pool": "default", "processes": 2, "mode": "on", "minimum": 1, "maximum": 2,
    }  # fmt: skip
    assert victor.post(f"{PAGE}{door}/", fields).status_code == 403
    assert not Worker.objects.get(pk=pk).draining
    assert not Pool.objects.exists()
    control = QueueControl.objects.get()
    assert (control.draining, control.processes, control.autoscale) == (False, None, "off")


@pytest.mark.parametrize("door", DOORS)
def test_nothing_is_done_without_a_reason_or_by_a_link(olga: Client, door: str) -> None:
    pk = new_worker()
    new_cluster()
    fields = {"ids": pk, "pool": "heavy", "processes": 2, "mode": "on", "minimum": 1, "maximum": 2}
    assert "Say why" in act(olga, door, **fields, reason=" ")
    assert olga.get(f"{PAGE}{door}/").status_code == 302
    assert not Worker.objects.get(pk=pk).draining
    assert not Pool.objects.exists()
    control = QueueControl.objects.get()
    assert (control.draining, control.processes, control.autoscale) == (False, None, "off")


# -- what is done


def test_draining_some_says_how_many_and_what_became_of_the_others(olga: Client) -> None:
    one, two = new_worker(), new_worker()
    ended = new_worker(state="stopped", stopped_at=timezone.now())
    assert act(olga, "drain-workers", ids=f"{one},{two},{ended}") == "2 of 3 workers drained; 1 had ended already."
    assert act(olga, "drain-workers", ids=f"{one}") == "0 of 1 worker drained; 1 drained before, or is ending."
    assert Worker.objects.get(pk=one).note == "Draining, by user:olga: patch night."
    assert act(olga, "undrain-workers", ids=f"{one},{two}") == "2 of 2 workers undrained."
    assert not Worker.objects.filter(draining=True).exists()


def test_all_workers_or_those_of_a_host_are_drained_and_undrained(olga: Client) -> None:
    here, there = new_worker(host="ops-1"), new_worker(host="ops-2")
    assert act(olga, "drain-workers", host="ops-2") == "1 of 1 worker drained."
    assert set(Worker.objects.filter(draining=True).values_list("pk", flat=True)) == {there}
    assert act(olga, "drain-workers", ids="all") == "1 of 2 workers drained; 1 drained before, or is ending."
    assert act(olga, "undrain-workers", ids="all") == "2 of 2 workers undrained."
    assert not Worker.objects.filter(pk=here, draining=True).exists()


def test_a_form_that_names_no_worker_drains_none(olga: Client) -> None:
    pk = new_worker()
    for ids in ("", "x", ",", "9" * 30):
        assert "Choose at least one worker." in act(olga, "drain-workers", ids=ids)
    assert "No worker runs on the host nowhere" in act(olga, "drain-workers", host="nowhere")
    assert not Worker.objects.get(pk=pk).draining


def test_scaling_by_hand_reports_before_and_after_and_ends_autoscaling(olga: Client) -> None:
    new_cluster(processes=2)
    QueueControl.objects.update(autoscale="on")
    assert act(olga, "scale", processes="6") == "6 worker processes on 1 host; before it was 2."
    control = QueueControl.objects.get()
    assert (control.processes, control.autoscale) == (6, "off")
    decision = ScalingDecision.objects.get()
    assert (decision.before, decision.after, decision.by) == (2, 6, "user:olga")
    assert "patch night" in decision.reason


def test_what_cannot_be_scaled_is_refused_with_the_way_out(olga: Client) -> None:
    new_cluster(max_processes=4)
    assert "raise WORKER_MAX_PROCESSES" in act(olga, "scale", processes="5")
    assert "must be a whole number" in act(olga, "scale", processes="-1")
    assert "a minimum of 2 and a maximum of 6" in act(olga, "autoscale", mode="on", minimum="5", maximum="2")
    assert "off, dry_run or on" in act(olga, "autoscale", mode="maybe", minimum="1", maximum="2")
    control = QueueControl.objects.get()
    assert (control.processes, control.autoscale) == (None, "off")


def test_autoscaling_is_switched_on_with_its_limits(olga: Client) -> None:
    new_cluster()
    assert "changes nothing" in act(olga, "autoscale", mode="dry_run", minimum="2", maximum="6")
    assert "between 2 and 6" in act(olga, "autoscale", mode="on", minimum="2", maximum="6")
    control = QueueControl.objects.get()
    assert (control.autoscale, control.min_processes, control.max_processes) == ("on", 2, 6)


def test_a_pool_is_paused_and_resumed_with_who_and_why(olga: Client) -> None:
    assert act(olga, "pause-pool", pool="heavy") == "Pool heavy is paused: what runs goes on."
    assert act(olga, "pause-pool", pool="heavy") == "Pool heavy was paused before."
    row = Pool.objects.get()
    assert (row.paused, row.changed_by, row.reason) == (True, "user:olga", "patch night")
    assert "user:olga: patch night" in unescape(olga.get(f"{PAGE}?fragment=1").content.decode())
    assert act(olga, "resume-pool", pool="heavy") == "Pool heavy is open."
    assert "has a name" in act(olga, "pause-pool", pool="")


def test_lines_show_who_serves_them_and_link_to_what_waits(olga: Client) -> None:
    new_worker(pools=["heavy"], regions=["eu-1"])
    enqueue(entry(1) | {"pool": "heavy", "region": "eu-1"}, entry(2) | {"pool": "heavy", "region": "eu-2"}, entry(3))
    rows = {(line.pool, line.region): (line.waiting, line.serving, line.look[2]) for line in Fleet().lines}
    assert rows == {
        ("default", ""): (1, 0, "Not served"),
        ("heavy", "eu-1"): (1, 1, "Served"),
        ("heavy", "eu-2"): (1, 0, "Not served"),
    }
    assert "?pool=heavy&amp;region=eu-2" in olga.get(f"{PAGE}?fragment=1").content.decode()


def test_names_that_workers_bring_are_shown_and_never_run(olga: Client) -> None:
    evil = "<script>alert(1)</script>"
    new_worker(host=evil, note=evil, version=evil)
    new_cluster(host=evil)
    Pool.objects.create(name=evil, paused=True, reason=evil)
    assert evil not in olga.get(PAGE).content.decode()


def test_the_oldest_wait_and_full_slots_are_said() -> None:
    new_worker(slots=2, running=2)
    enqueue(entry(1))
    move_back(200, 1)
    assert "All slots are in use, and the oldest execution has waited for 3 min." in said()
    assert timedelta(seconds=200) > settings.SILENT_AFTER

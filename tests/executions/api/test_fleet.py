"""Workers and queue over the API: who is there and how well, how many, who drains, what waits and why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from executions.models import Execution
from queueing import control, pool, queue
from queueing.models import Cluster, QueueControl, ScalingDecision, Worker
from safety.accounts import set_roles
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of
from tests.executions.live.rows import make_execution

pytestmark = pytest.mark.django_db

STEERING = (
    "workers/scale/", "workers/autoscale/", "workers/drain/", "workers/undrain/", "workers/1/drain/",
    "workers/1/undrain/", "queue/pools/heavy/pause/", "queue/pools/heavy/resume/",
)  # fmt: skip


def cluster(name: str = "c", **fields: Any) -> Cluster:
    return Cluster.objects.create(
        name=name, host=f"host-{name}", pid=7, version="0.1.0", processes=2, initial_processes=2, max_processes=4,
        **fields,
    )  # fmt: skip


def worker(host: str = "host-1", **fields: Any) -> Worker:
    return Worker.objects.create(
        **{"cluster": "c", "host": host, "pid": 42, "version": "0.1.0", "slots": 500, **fields}
    )


def test_the_number_of_workers_is_set_and_told(admin: Api) -> None:
    cluster()
    assert admin.post("workers/scale/", {"processes": 3, "dry_run": True}).json() == {
        "before": 2, "after": 3, "clusters": 1, "dry_run": True
    }  # fmt: skip
    assert QueueControl.objects.get().processes is None
    told = admin.post("workers/scale/", {"processes": 4, "reason": "Patch night."}).json()
    assert (told["before"], told["after"], told["clusters"], told["dry_run"]) == (2, 4, 1, False)
    assert QueueControl.objects.get().processes == 4
    (decision,) = admin.get("workers/scaling/").json()["results"]
    assert (decision["before"], decision["after"], decision["by"]) == (2, 4, "user:root")
    assert decision["reason"] == "Scaled to 4 in all. Patch night."


def test_a_number_that_cannot_be_is_refused(admin: Api) -> None:
    problem_of(admin.post("workers/scale/", {"processes": 2}), 409, "no_cluster")
    cluster()
    assert (
        "room for 4" in problem_of(admin.post("workers/scale/", {"processes": 5}), 422, "too_many_processes")["detail"]
    )
    problem_of(admin.post("workers/scale/", {"processes": 0}), 422, "too_few_processes")
    for wrong in ({}, {"processes": "2"}, {"processes": 2.5}, {"processes": True}, {"processes": 2, "workers": 2}):
        problem_of(admin.post("workers/scale/", wrong), 422, "invalid_body")
    problem_of(admin.post("workers/autoscale/", {"mode": "on", "min": 5, "max": 2}), 422, "bad_limits")
    problem_of(admin.post("workers/autoscale/", {"mode": "perhaps"}), 422, "invalid_body")
    assert (QueueControl.objects.get().processes, ScalingDecision.objects.count()) == (None, 0)


def test_autoscaling_is_set_and_every_decision_is_listed(admin: Api) -> None:
    cluster()
    told = admin.post("workers/autoscale/", {"mode": "on", "min": 2, "max": 3, "reason": "Nights."}).json()
    assert (told["autoscale"], told["min"], told["max"], told["processes"]) == ("on", 2, 3, None)
    assert [(one["host"], one["processes"], one["alive"], one["max_processes"]) for one in told["clusters"]] == [
        ("host-c", 2, 0, 4)
    ]
    assert admin.post("workers/autoscale/", {"mode": "dry_run"}).json()["max"] == 3
    for number in range(5):
        pool.scale(1 + number % 2, by=f"user:{number}")
    first = admin.get("workers/scaling/?limit=4").json()
    second = admin.get(first["next"]).json()
    reasons = [one["reason"] for page in (first, second) for one in page["results"]]
    assert len(reasons) == ScalingDecision.objects.count()
    assert reasons[-1] == "Autoscaling on, between 2 and 3. Nights."
    assert second["next"] is None
    assert admin.get(second["previous"]).json()["results"] == first["results"]


def test_a_worker_says_how_well_it_is(admin: Api) -> None:
    well = worker(pools=["default"], regions=["eu-1"], capabilities=["local"], finished=9, failed=2)
    late = worker(loop_lag_ms=2500, renewal_ms=settings.LEASE.total_seconds() * 500)
    silent = worker(last_beat_at=timezone.now() - settings.SILENT_AFTER - timedelta(seconds=1))
    worker(stopped_at=timezone.now(), state="lost")

    told = {row["id"]: row for row in admin.get("workers/").json()["results"]}

    assert set(told) == {well.pk, late.pk, silent.pk}
    row = told[well.pk]
    assert (row["healthy"], row["silent"], row["failed"]) == (True, False, 2)
    assert (row["pools"], row["regions"], row["capabilities"]) == (["default"], ["eu-1"], ["local"])
    assert row["health"][1:] == ["Its event loop turns in time.", "Its leases are renewed in time."]
    assert told[late.pk]["healthy"] is False
    assert told[late.pk]["health"][1].startswith("Its event loop was 2.5 s late")
    assert told[late.pk]["health"][2].startswith("Its last renewal of leases took 15.0 s")
    assert (told[silent.pk]["healthy"], told[silent.pk]["silent"]) == (False, True)
    assert told[silent.pk]["health"][0].startswith("Silent for 21 s")
    ended = admin.get("workers/?all=true").json()["results"][0]
    assert (ended["state"], ended["healthy"], ended["health"]) == ("lost", None, [])


def test_the_list_of_workers_costs_the_same_however_many_they_are(
    admin: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        cluster(f"c{number}")
        worker(cluster=f"c{number}", host=f"host-{number}")
    admin.get("workers/")
    # who calls; the figures, their workers, draining; what was decided; workers, beats and rows of clusters; workers
    with django_assert_num_queries(9):
        assert len(admin.get("workers/").json()["results"]) == 30


def test_workers_are_drained_by_host_by_id_and_all(admin: Api) -> None:
    here, there = worker("a"), worker("b")
    told = admin.post("workers/drain/", {"host": "a", "reason": "kernel"}).json()
    assert (told["changed"], told["running"]) == (1, 0)
    assert [(row["id"], row["draining"], row["note"]) for row in told["results"]] == [
        (here.pk, True, "Draining, by user:root: kernel.")
    ]
    assert admin.post(f"workers/{there.pk}/drain/").json()["changed"] == 1
    assert admin.post("workers/drain/").json()["changed"] == 0
    assert admin.post("workers/undrain/", {"ids": [here.pk]}).json()["results"][0]["draining"] is False
    assert admin.post(f"workers/{there.pk}/undrain/").json()["changed"] == 1
    assert admin.post("workers/drain/").json()["changed"] == 2


def test_draining_what_is_not_there_is_refused(admin: Api) -> None:
    ended = worker(stopped_at=timezone.now(), state="stopped")
    known = worker()
    problem_of(admin.post("workers/drain/", {"host": "nowhere"}), 404, "unknown_host")
    problem_of(admin.post("workers/drain/", {"ids": [known.pk, ended.pk]}), 404, "unknown_worker")
    problem_of(admin.post(f"workers/{ended.pk}/drain/"), 404, "not_found")
    wrong: dict[str, Any]
    for wrong in ({"ids": []}, {"ids": ["x"]}, {"host": ""}, {"hosts": ["a"]}):
        problem_of(admin.post("workers/drain/", wrong), 422, "invalid_body")
    assert not Worker.objects.filter(draining=True).exists()


def test_a_pool_is_paused_and_resumed(admin: Api) -> None:
    told = admin.post("queue/pools/heavy/pause/", {"reason": "backup"}).json()
    assert told == {
        "pool": "heavy", "paused": True, "changed": True, "changed_by": "user:root", "reason": "backup", "running": 0,
        "known": False,
    }  # fmt: skip
    assert admin.post("queue/pools/heavy/pause/").json()["changed"] is False
    assert admin.post("queue/pools/heavy/resume/").json()["paused"] is False
    problem_of(admin.post("queue/pools/no%20name/pause/"), 404, "not_found")


@pytest.mark.parametrize("role", ["viewer", "requester", "approver"])
def test_only_operators_steer_the_workers(make_api: MakeApi, role: str) -> None:
    somebody = make_api("somebody", role)
    worker()
    for path in STEERING:
        problem_of(somebody.post(path, {}), 403, "forbidden")
    problem_of(somebody.get("workers/scaling/"), 403, "forbidden")
    assert not Worker.objects.filter(draining=True).exists()


def test_workers_are_not_for_another_tenants_administrators(stranger: Api) -> None:
    set_roles(stranger.user, ["admin"])
    cluster()
    for path in STEERING:
        problem_of(stranger.post(path, {"processes": 1}), 403, "forbidden")
    problem_of(stranger.get("workers/scaling/"), 403, "forbidden")
    assert QueueControl.objects.get().processes is None


def labelled(admin: Api, region: str, count: int) -> list[int]:
    """Submit plans for a region, each another one: the same plan again would be the same execution."""
    made = [{**plan(f"echo {region} {number}"), "labels": {"region": region}} for number in range(count)]
    return [admin.post("executions/", {"plan": document}).json()["id"] for document in made]


def test_the_queue_says_what_stands_still(admin: Api) -> None:
    worker(regions=["eu-1"])
    labelled(admin, "eu-2", 3)
    labelled(admin, "eu-1", 1)
    told = admin.get("queue/").json()
    assert told["sentences"] == ["No worker serves region eu-2: 3 executions wait."]
    assert [(line["pool"], line["region"], line["waiting"], line["served"]) for line in told["lines"]] == [
        ("default", "eu-1", 1, True), ("default", "eu-2", 3, False)
    ]  # fmt: skip
    admin.post("queue/drain/", {"reason": "upgrade"})
    assert admin.get("queue/").json()["sentences"][0].startswith("The queue is draining (user:root: upgrade)")


def test_every_waiting_execution_has_its_place_and_its_reason(admin: Api) -> None:
    running = worker(regions=["eu-1"]).pk
    ids = [admin.post("executions/", {"plan": plan(f"echo {number}")}).json()["id"] for number in range(3)]
    elsewhere = labelled(admin, "us", 1)
    claimed = queue.claim(connection.connection, running, 10, settings.LEASE)
    assert [lease.execution_id for lease in claimed.leases] == ids[:1]
    told = {row["execution"]: row for row in admin.get("queue/entries/").json()["results"]}
    assert set(told) == {*ids[1:], *elsewhere}
    assert (told[ids[1]]["kind"], told[ids[1]]["position"]) == ("lock", 1)
    assert told[ids[1]]["reason"].startswith(f"Waiting for the lock on localhost, held by #{ids[0]} for 0 s; 1st in")
    assert (told[ids[2]]["kind"], told[ids[2]]["position"]) == ("lock", 2)
    assert told[elsewhere[0]]["region"] == "us"
    assert [row["execution"] for row in admin.get("queue/entries/?region=us").json()["results"]] == elsewhere
    assert admin.get("queue/entries/?state=delayed").json()["results"] == []
    problem_of(admin.get("queue/entries/?state=leased"), 400, "invalid_parameter")
    problem_of(admin.get("queue/entries/?limit=201"), 400, "invalid_parameter")


def wait_in_queue(by: Api, count: int) -> list[int]:
    made = [make_execution(by.user, steps=["one"], status="queued") for _ in range(count)]
    queue.enqueue(
        [
            {"execution_id": one.pk, "tenant_id": one.tenant_id, "priority": 5, "not_before": None, "max_attempts": 3,
             "locks": []}
            for one in made
        ]
    )  # fmt: skip
    return [one.pk for one in made]


def test_the_list_of_what_waits_is_paged_oldest_first_and_costs_the_same_for_every_page(
    admin: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    worker()
    ids = wait_in_queue(admin, 60)
    admin.get("queue/entries/")
    # who calls; entries; is it draining, paused pools, in the way, served, ahead
    with django_assert_num_queries(7):
        first = admin.get("queue/entries/?limit=20").json()
    with django_assert_num_queries(7):
        whole = admin.get("queue/entries/?limit=60").json()
    assert [row["execution"] for row in whole["results"]] == ids
    assert [row["position"] for row in whole["results"]] == list(range(1, 61))
    assert (whole["next"], whole["previous"], first["previous"]) == (None, None, None)
    second = admin.get(first["next"]).json()
    third = admin.get(second["next"]).json()
    assert [row["execution"] for row in second["results"] + third["results"]] == ids[20:]
    assert third["next"] is None
    assert admin.get(third["previous"]).json()["results"] == second["results"]
    assert admin.get(second["previous"]).json()["results"] == first["results"]


def test_what_waits_is_seen_by_who_may_see_the_execution(admin: Api, stranger: Api, make_api: MakeApi) -> None:
    ours, theirs = wait_in_queue(admin, 2), wait_in_queue(stranger, 1)
    viewer, nobody = make_api("vera", "viewer"), make_api("nemo")

    def seen(by: Api) -> list[int]:
        return [row["execution"] for row in by.get("queue/entries/").json()["results"]]

    assert seen(viewer) == ours
    assert seen(stranger) == theirs
    assert seen(nobody) == []
    assert Execution.objects.filter(pk__in=ours + theirs).count() == 3
    assert control.queue_figures()["depth"] == 3

"""The DLQ over the API: figures, attempts, decisions on what a filter selects, their batches, and who may."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from executions.models import Event, Execution, OutputChunk, StepTarget
from executions.services import work_at_batches
from executions.services.dead_letter_batches import SMALL
from queueing.models import Attempt, DeadLetter, DeadLetterBatch, QueueEntry
from tests.executions.api.conftest import Api, MakeApi, problem_of
from tests.executions.services.parked import execution_of, park

pytestmark = pytest.mark.django_db


def listed(api: Api, query: str = "") -> list[int]:
    return [row["id"] for row in api.get(f"dead-letters/?{query}").json()["results"]]


def test_the_summary_has_total_new_oldest_reasons_and_errors_with_an_example(
    admin: Api, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    park(admin.user, 3, hours_old=48)
    newest = park(admin.user, 2, reason="attempts_exhausted", error="Each of its 3 attempts ended")[-1]
    with django_assert_max_num_queries(5):
        told = admin.get("dead-letters/summary/").json()
    assert (told["total"], told["capped"], told["new_today"]) == (5, False, 2)
    assert told["by_reason"] == {
        "outcome_unknown": 0, "rollback_failed": 0, "attempts_exhausted": 2, "engine_error": 3,
    }  # fmt: skip
    assert told["oldest_at"] is not None
    keyed, ended = told["groups"]
    assert (keyed["count"], keyed["pattern"]) == (3, "The engine failed: KeyError: <name>")
    assert ended["example"] == {
        "id": newest, "execution": execution_of(newest), "error": "Each of its 3 attempts ended"
    }  # fmt: skip
    assert len(listed(admin, f"fingerprint={keyed['fingerprint']}")) == 3
    assert len(listed(admin, f"fingerprint={keyed['fingerprint']},{ended['fingerprint']}&reason=engine_error")) == 3


def test_an_empty_dlq_is_told_as_such(admin: Api) -> None:
    told = admin.get("dead-letters/summary/").json()
    assert (told["total"], told["oldest_at"], told["groups"]) == (0, None, [])
    nothing = admin.post("dead-letters/requeue/", {"filter": {}, "reason": "x"})
    assert nothing.status_code == 200
    assert (nothing.json()["matched"], nothing.json()["batch"], nothing.json()["results"]) == (0, None, [])


def test_an_entry_has_every_attempt_with_worker_times_error_and_the_end_of_its_output(admin: Api) -> None:
    (entry,) = park(admin.user, step_status="unknown", reason="outcome_unknown")
    one = execution_of(entry)
    target = StepTarget.objects.get(execution_id=one)
    data = {"execution_id": one, "actor": "worker:w/1"}
    for token, seq in ((71, 3), (72, 10)):
        Event.objects.create(seq=seq, kind="execution.claimed", data={"fence": token}, **data)
        Attempt.objects.create(
            execution_id=one, tenant_id=1, number=token - 70, token=token, worker_id=5, worker=f"host/{token}",
            leased_at=timezone.now(), end="worker_died" if token == 71 else "dead", error=f"error of {token}",
        )  # fmt: skip
        OutputChunk.objects.create(
            execution_id=one, seq=seq + 1, step_target=target, stream="stdout", text=f"said by {token}\n"
        )
    told = admin.get(f"dead-letters/{entry}/").json()
    assert [
        (row["number"], row["worker"], row["end"], row["error"], row["output"]) for row in told["each_attempt"]
    ] == [
        (1, "host/71", "worker_died", "error of 71", "said by 71\n"),
        (2, "host/72", "dead", "error of 72", "said by 72\n"),
    ]
    assert told["unknown_steps"] == [{"step": "a", "kind": "step", "targets": ["localhost"]}]
    assert told["advice"]


def test_few_are_done_at_once_and_answered(admin: Api) -> None:
    letters = park(admin.user, 3)
    answered = admin.post("dead-letters/requeue/", {"filter": {"reason": "engine_error"}, "reason": "mended"})
    told = answered.json()
    assert (answered.status_code, told["matched"], told["counts"], told["more"]) == (200, 3, {"requeued": 3}, False)
    assert told["results"] == [{"id": letter, "outcome": "requeued"} for letter in letters]
    assert told["state"] == "done"
    batch = admin.get(told["links"]["batch"]).json()
    assert (batch["id"], batch["by"], batch["reason"]) == (told["batch"], "user:root", "mended")
    assert batch["filter"] == {"reason": "engine_error"}
    assert QueueEntry.objects.count() == 3


def test_many_are_accepted_and_done_at_a_pace_by_whoever_comes_first(admin: Api) -> None:
    letters = park(admin.user, SMALL + 1)
    answered = admin.post("dead-letters/discard/", {"filter": {}, "reason": "the machines are gone"})
    told = answered.json()
    assert (answered.status_code, told["matched"], told["more"], told["state"]) == (202, SMALL + 1, True, "running")
    assert told["results"] == []
    address = told["links"]["batch"]
    assert DeadLetter.objects.filter(state="open").count() == SMALL + 1, "the request itself did none"
    DeadLetterBatch.objects.update(per_second=None)
    while admin.get(address).json()["state"] == "running":
        work_at_batches()
    batch = admin.get(address).json()
    assert (batch["done"], batch["counts"]) == (SMALL + 1, {"discarded": SMALL + 1})
    seen: list[int] = []
    page: Any = {"next": f"{batch['links']['results']}?limit=150&outcome=discarded"}
    while page["next"]:
        page = admin.get(page["next"]).json()
        seen += [row["id"] for row in page["results"]]
    assert sorted(seen) == letters
    assert Execution.objects.filter(status="failed").count() == SMALL + 1
    assert [row["id"] for row in admin.get("dead-letters/batches/?state=done").json()["results"]] == [batch["id"]]
    assert admin.get("dead-letters/batches/?state=running").json()["results"] == []


def test_a_pace_that_is_asked_for_is_kept_also_for_few(admin: Api) -> None:
    park(admin.user, 3)
    answered = admin.post("dead-letters/requeue/", {"filter": {}, "reason": "x", "per_second": 2})
    assert (answered.status_code, answered.json()["state"]) == (202, "running")
    assert admin.get(answered.json()["links"]["batch"]).json()["per_second"] == 2


def test_a_running_batch_is_cancelled_once(admin: Api) -> None:
    park(admin.user, 3)
    told = admin.post("dead-letters/requeue/", {"filter": {}, "reason": "x", "per_second": 1}).json()
    cancelled = admin.post(f"{told['links']['batch']}cancel/", {}).json()
    assert (cancelled["state"], cancelled["ended_by"]) == ("cancelled", "user:root")
    problem_of(admin.post(f"{told['links']['batch']}cancel/", {}), 409, "batch_ended")
    results = admin.get(f"{told['links']['batch']}results/").json()["results"]
    assert {row["outcome"] for row in results} == {"waiting"}


def test_a_dry_run_says_what_would_be_met_and_writes_nothing(admin: Api) -> None:
    park(admin.user, 2)
    park(admin.user, 1, step_status="unknown", reason="outcome_unknown")
    told = admin.post("dead-letters/requeue/", {"filter": {}, "dry_run": True}).json()
    assert (told["matched"], told["dry_run"], told["batch"], told["counts"]) == (3, True, None, {})
    assert {row["outcome"] for row in told["results"]} == {"matched"}
    assert told["preview"] == {"looked_at": 3, "unknown_outcome": 1, "forbidden": 0, "locked_assets": 0}
    assert not DeadLetterBatch.objects.exists()


def test_from_the_failed_step_by_one_and_by_filter(admin: Api) -> None:
    one, other = park(admin.user, 2, step_status="unknown", reason="outcome_unknown")
    problem_of(admin.post(f"dead-letters/{one}/requeue/", {"reason": "x"}), 409, "unknown_outcome")
    problem_of(admin.post(f"dead-letters/{one}/requeue/", {"from": "failed_step"}), 422, "invalid_input")
    problem_of(admin.post("dead-letters/requeue/", {"filter": {}, "from": "failed_step"}), 422, "invalid_input")
    problem_of(admin.post("dead-letters/requeue/", {"filter": {}, "from": "the_moon"}), 422, "invalid_body")
    problem_of(admin.post("dead-letters/discard/", {"filter": {}, "from": "as_it_is"}), 422, "invalid_body")
    problem_of(admin.post("dead-letters/requeue/", {"filter": {"fingerprint": "x"}}), 422, "invalid_body")
    problem_of(admin.post("dead-letters/requeue/", {"filter": {}, "per_second": 0}), 422, "invalid_body")
    assert DeadLetter.objects.filter(state="open").count() == 2
    body = {"from": "failed_step", "reason": "it is idempotent"}
    assert admin.post(f"dead-letters/{one}/requeue/", body).json()["outcome"] == "requeued"
    told = admin.post("dead-letters/requeue/", {"filter": {"ids": [other]}, **body}).json()
    assert told["counts"] == {"requeued": 1}
    assert admin.get(told["links"]["batch"]).json()["start_from"] == "failed_step"
    assert set(StepTarget.objects.values_list("status", flat=True)) == {"pending"}


def test_a_viewer_reads_and_decides_nothing(admin: Api, make_api: MakeApi) -> None:
    (letter,) = park(admin.user)
    vera = make_api("vera", "viewer")
    assert listed(vera) == [letter]
    assert vera.get("dead-letters/summary/").json()["total"] == 1
    problem_of(vera.post(f"dead-letters/{letter}/requeue/", {}), 403, "forbidden")
    problem_of(vera.post(f"dead-letters/{letter}/discard/", {}), 403, "forbidden")
    assert vera.post("dead-letters/requeue/", {"filter": {}}).json()["counts"] == {"forbidden": 1}
    park(admin.user, SMALL)
    problem_of(vera.post("dead-letters/requeue/", {"filter": {}}), 403, "forbidden")
    assert DeadLetter.objects.filter(state="open").count() == SMALL + 1


def test_somebody_without_a_role_sees_only_entries_of_their_own(admin: Api, make_api: MakeApi) -> None:
    (theirs,) = park(admin.user)
    nora = make_api("nora")
    (own,) = park(admin.user)
    Execution.objects.filter(pk=execution_of(own)).update(actor=nora.user)
    assert listed(nora) == [own]
    problem_of(nora.get(f"dead-letters/{theirs}/"), 404, "not_found")
    problem_of(nora.get("dead-letters/summary/"), 403, "forbidden")
    told = nora.post("dead-letters/requeue/", {"filter": {}, "reason": "mine"}).json()
    assert told["results"] == [{"id": own, "outcome": "requeued"}]


def test_batches_of_another_tenant_are_out_of_reach(admin: Api, stranger: Api) -> None:
    park(admin.user, 2)
    told = admin.post("dead-letters/requeue/", {"filter": {}, "per_second": 1}).json()
    address = told["links"]["batch"]
    for path in (address, f"{address}results/"):
        problem_of(stranger.get(path), 404, "not_found")
    problem_of(stranger.post(f"{address}cancel/", {}), 404, "not_found")
    assert stranger.get("dead-letters/batches/").json()["results"] == []
    assert stranger.get("dead-letters/summary/").json()["total"] == 0

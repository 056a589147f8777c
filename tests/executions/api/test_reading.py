"""Lists, filters, pages, and one execution with everything; each with a fixed number of statements."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from executions.models import Asset, Execution, StepTarget
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of
from tests.executions.live.rows import make_execution, move, move_target, print_out

pytestmark = pytest.mark.django_db


def ids(response: Any) -> list[int]:
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


def test_a_list_is_walked_forth_and_back_without_gap_or_repeat(admin: Api) -> None:
    made = [make_execution(admin.user, steps=["one"]).pk for _ in range(11)][::-1]
    seen: list[int] = []
    link: str | None = "/api/v1/executions/?limit=4"
    pages = []
    while link:
        page = admin.get(link).json()
        pages.append(page)
        seen += [row["id"] for row in page["results"]]
        if len(pages) == 1:
            make_execution(admin.user, steps=["newer"])  # shifts nothing
        link = page["next"]

    assert seen == made
    assert pages[0]["previous"] is None
    assert ids(admin.get(pages[2]["previous"])) == made[4:8]
    newest = admin.get(admin.get(pages[2]["previous"]).json()["previous"]).json()
    assert [row["id"] for row in newest["results"]] == made[:4]
    assert newest["previous"], "the execution that came meanwhile is before it"


def test_the_list_takes_two_statements_however_long_it_is(
    admin: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    admin.get("executions/")  # notes that the token was used
    for _ in range(3):
        make_execution(admin.user)

    with django_assert_num_queries(2):  # who calls; the rows
        assert len(ids(admin.get("executions/"))) == 3


def test_one_execution_takes_five_statements_however_many_targets_it_has(
    admin: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    execution = make_execution(admin.user, hosts=[f"h-{n}" for n in range(20)], step_status="running")
    for target in execution.step_targets.all():
        print_out(target, ["x\n"])
    admin.get("executions/")

    with django_assert_num_queries(5):  # who calls; execution, steps, targets, output
        detail = admin.get(f"executions/{execution.pk}/").json()
    assert len(detail["steps"][0]["targets"]) == 20


def test_filters(admin: Api, make_api: MakeApi) -> None:
    other = make_api("bob", "viewer").user
    done = make_execution(admin.user, status="succeeded", title="Rotate logs", tags=["weekly", "logs"], trace_id="tr-7")
    failed = make_execution(other, status="failed", title="Restart", hosts=["db-1"], tags=["weekly"], reason="half%")
    Execution.objects.filter(pk=done.pk).update(created_at="2026-01-01T12:00:00Z")
    Execution.objects.filter(pk=failed.pk).update(created_at="2026-01-02T12:00:00Z", plan_hash="feedbeef" * 8)
    asset = Asset.objects.get(name="db-1")
    expected = {
        "status=failed": [failed], "status=failed,succeeded": [failed, done],
        "status=failed&status=succeeded": [failed, done],
        "tag=weekly": [failed, done], "tag=weekly&tag=logs": [done], "tag=logs": [done], "tag=none": [],
        "actor=bob": [failed], "actor=user:bob": [failed], "asset=db-1": [failed], f"asset={asset.pk}": [failed],
        "asset=localhost": [done], "asset=nowhere": [],
        "created_after=2026-01-02": [failed], "created_before=2026-01-02": [done],
        "created_after=2026-01-01T14:00:00%2B02:00&created_before=2026-01-01T12:00:01Z": [done],
        "q=rotate": [done], "q=half%25": [failed], "q=tr-7": [done], f"q={done.pk}": [done], f"q=%23{done.pk}": [done],
        "q=feedbeef": [failed], "q=%25": [failed], "q=_": [], "status=failed&actor=root": [],
    }  # fmt: skip

    found = {query: ids(admin.get(f"executions/?{query}")) for query in expected}

    assert found == {query: [row.pk for row in rows] for query, rows in expected.items()}


def test_an_execution_shows_its_steps_targets_and_what_they_printed(admin: Api) -> None:
    execution = make_execution(admin.user, steps=["check", "apply"], hosts=["web-1", "web-2"])
    target = StepTarget.objects.get(step__key="check", name="web-1")
    print_out(target, ["out 1\n", "out 2\n"])
    print_out(target, ["oh no\n"], "stderr")
    move_target(target, "failed", exit_code=3, error_code="", error="ended with 3", stdout_bytes=12, stderr_bytes=6)
    move(execution, "failed", kind="execution.failed", reason="Step check failed.")

    detail = admin.get(f"executions/{execution.pk}/").json()

    assert (detail["status"], detail["final"], detail["actor"], detail["tenant"]) == ("failed", True, "root", "default")
    assert [step["id"] for step in detail["steps"]] == ["check", "apply"]
    first = detail["steps"][0]["targets"][0]
    shown = ("target", "status", "exit_code", "stdout", "stderr", "error", "more_output")
    assert {key: first[key] for key in shown} == {
        "target": "web-1", "status": "failed", "exit_code": 3, "stdout": "out 1\nout 2\n", "stderr": "oh no\n",
        "error": "ended with 3", "more_output": False,
    }  # fmt: skip
    assert detail["errors"][0]["path"] == "steps[0]"
    assert detail["errors"][0]["code"] == "failed"
    assert detail["errors"][0]["how_to_fix"]
    assert admin.get(f"executions/{execution.pk}/steps/").json()["results"] == detail["steps"]


def test_of_long_output_the_end_is_shown_and_said_to_be_a_part(admin: Api) -> None:
    execution = make_execution(admin.user, steps=["one"])
    target = execution.step_targets.get()
    lines = [f"{n:07d} ä\n" for n in range(20_000)]
    print_out(target, ["".join(lines[n : n + 1000]) for n in range(0, 20_000, 1000)])
    size = len("".join(lines).encode())
    move_target(target, "succeeded", exit_code=0, stdout_bytes=size)

    shown = admin.get(f"executions/{execution.pk}/").json()["steps"][0]["targets"][0]

    assert shown["more_output"] is True
    assert shown["stdout_bytes"] == size
    assert 60_000 < len(shown["stdout"].encode()) <= 65_536
    assert "".join(lines).endswith(shown["stdout"])


def test_a_queued_execution_says_what_it_waits_for(admin: Api) -> None:
    accepted = admin.post("executions/", {"plan": plan()}).json()

    assert "No worker is running" in admin.get(f"executions/{accepted['id']}/").json()["status_reason"]


def test_events_and_output_are_one_series_without_a_gap(admin: Api) -> None:
    execution = make_execution(admin.user, steps=["one"])
    print_out(execution.step_targets.get(), [f"line {n}\n" for n in range(30)])
    move(execution, "succeeded", kind="execution.succeeded")
    items: list[dict[str, Any]] = []
    link: str | None = f"/api/v1/executions/{execution.pk}/events/?limit=7"
    while link:
        page = admin.get(link).json()
        items += page["results"]
        link = page["next"]

    assert [item["seq"] for item in items] == list(range(1, 33))
    assert (items[0]["kind"], items[1]["kind"], items[-1]["kind"]) == (
        "execution.submitted",
        "output",
        "execution.succeeded",
    )
    assert page["complete"] is True
    assert page["next_after"] == page["last_seq"] == 32
    assert admin.get(f"executions/{execution.pk}/events/?after=31").json()["results"] == items[31:]
    assert admin.get(f"executions/{execution.pk}/events/?after=9223372036854775807").json()["results"] == []


def test_output_by_step_and_target(admin: Api) -> None:
    execution = make_execution(admin.user, steps=["check", "apply"], hosts=["web-1", "web-2"])
    for target in execution.step_targets.select_related("step"):
        print_out(target, [f"{target.step.key} on {target.name}\n"])
        print_out(target, ["warning\n"], "stderr")
    step = execution.steps.get(key="apply")
    one = StepTarget.objects.get(step=step, name="web-2")
    base = f"executions/{execution.pk}/output/"

    def texts(query: str) -> list[str]:
        return [piece["text"] for piece in admin.get(f"{base}?{query}").json()["results"]]

    assert len(texts("")) == 8
    assert texts("step=apply&target=web-2") == ["apply on web-2\n", "warning\n"]
    assert texts(f"step={step.pk}&target={one.pk}") == ["apply on web-2\n", "warning\n"]
    assert texts(f"target={one.pk}&stream=stderr") == ["warning\n"]
    assert texts("target=web-1&stream=stdout") == ["check on web-1\n", "apply on web-1\n"]
    first = admin.get(f"{base}?step=apply&limit=1").json()
    assert first["more"] is True
    assert [piece["text"] for piece in admin.get(first["next"]).json()["results"]] == ["warning\n"]
    problem_of(admin.get(f"{base}?step=nope"), 404, "unknown_step")
    problem_of(admin.get(f"{base}?step=apply&target=nope"), 404, "unknown_step")


def test_the_plan_can_be_read_as_it_was_compiled(admin: Api) -> None:
    accepted = admin.post("executions/", {"plan": plan("true", title="Mine")}).json()

    assert admin.get(f"executions/{accepted['id']}/plan/").json()["title"] == "Mine"


def test_the_steps_of_a_replayed_or_retried_execution_name_their_parent(admin: Api) -> None:
    old = admin.post("executions/", {"plan": plan("true")}).json()["id"]
    admin.post(f"executions/{old}/cancel/", {"reason": "no"})

    retried = admin.post(f"executions/{old}/retry/", {"from_start": True})

    assert retried.status_code == 202, retried.content
    assert admin.get(f"executions/{retried.json()['id']}/").json()["parent"] == old

"""POST /executions/: what is taken in, what is repeated, what is refused."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from executions.models import Event, Execution, Step
from queueing import control
from queueing.models import QueueEntry
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of

pytestmark = pytest.mark.django_db


def test_a_plan_is_taken_in_with_everything_that_it_asks_for(admin: Api) -> None:
    body = {"plan": plan("true"), "reason": "why", "tags": ["a", "b"], "priority": 2, "trace_id": "t-1"}

    response = admin.post("executions/", body)

    assert response.status_code == 202
    accepted = response.json()
    assert set(accepted) == {"id", "status", "approval_level", "sla_class", "links"}
    assert (accepted["status"], accepted["approval_level"]) == ("queued", 0)
    assert response.headers["Location"] == accepted["links"]["self"]
    kept = Execution.objects.get(pk=accepted["id"])
    assert (kept.actor, kept.tenant) == (admin.user, admin.user.tenant)
    assert (kept.reason, kept.tags, kept.priority, kept.trace_id) == ("why", ["a", "b"], 2, "t-1")
    assert QueueEntry.objects.filter(pk=kept.pk).exists()


def test_the_links_of_an_accepted_plan_lead_somewhere(admin: Api) -> None:
    links = admin.post("executions/", {"plan": plan()}).json()["links"]

    for name in ("self", "steps", "events", "output", "plan"):
        assert admin.get(links[name]).status_code == 200, name


def test_the_same_request_again_gets_the_same_execution(admin: Api) -> None:
    body = {"plan": plan("true")}
    first = admin.post("executions/", body, Idempotency_Key="k-1")
    again = admin.post("executions/", body, Idempotency_Key="k-1")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replay"] == "true"
    assert "Idempotent-Replay" not in first.headers


def test_a_change_asked_for_twice_without_a_key_is_one_execution(admin: Api) -> None:
    first = admin.post("executions/", {"plan": plan("systemctl restart nginx")})
    renamed = plan("systemctl restart nginx")
    renamed["steps"][0]["id"] = "another-id"

    again = admin.post("executions/", {"plan": renamed})

    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


def test_a_key_used_for_another_plan_is_refused(admin: Api) -> None:
    admin.post("executions/", {"plan": plan("one")}, Idempotency_Key="k-1")

    refused = admin.post("executions/", {"plan": plan("two")}, Idempotency_Key="k-1")

    problem_of(refused, 422, "idempotency_key_reused")
    assert Execution.objects.count() == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there"])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(admin: Api, key: str) -> None:
    problem_of(admin.post("executions/", {"plan": plan()}, Idempotency_Key=key), 400, "invalid_header")


def test_a_draining_queue_takes_nothing_in_and_says_when_to_come_again(admin: Api) -> None:
    control.drain(by="user:root", reason="maintenance")

    refused = admin.post("executions/", {"plan": plan()})

    problem_of(refused, 503, "draining")
    assert int(refused.headers["Retry-After"]) > 0
    assert not Execution.objects.exists()


def test_all_problems_of_a_plan_come_in_one_answer(admin: Api) -> None:
    broken = {
        "title": "Broken",
        "steps": [
            {"id": "a", "tool": "no-such-tool", "inputs": {}, "targets": ["localhost"]},
            {"id": "a", "tool": "shell", "inputs": {"command": "true"}, "targets": ["nowhere.example.org"]},
            {"id": "c", "tool": "shell", "inputs": {"command": "true"}, "depends_on": ["never"]},
        ],
    }

    told = problem_of(admin.post("executions/", {"plan": broken}), 422, "invalid_plan")

    codes = {error["code"] for error in told["errors"]}
    assert {"unknown_tool", "duplicate_step_id", "unknown_asset", "unknown_dependency", "missing_target"} <= codes
    assert all(error["path"] and error["message"] and error["how_to_fix"] for error in told["errors"])
    assert not Execution.objects.exists()


@pytest.mark.parametrize("empty", [{}, [], {"steps": []}, "", "steps: []", None])
def test_an_empty_plan_is_refused(admin: Api, empty: object) -> None:
    told = problem_of(admin.post("executions/", {"plan": empty}), 422, "invalid_plan")

    assert [error["code"] for error in told["errors"]] == ["empty_plan"]


YAML_BODY = """
reason: from a file
tags: [nightly]
plan:
  title: Written in YAML
  steps:
    - id: look
      tool: command
      inputs: {argv: [df, -h]}
      targets: [localhost]
"""


@pytest.mark.parametrize("kind", ["application/yaml", "text/yaml; charset=utf-8", "application/x-yaml"])
def test_a_body_may_be_yaml(admin: Api, kind: str) -> None:
    response = admin.post("executions/", YAML_BODY, content_type=kind)

    assert response.status_code == 202, response.content
    kept = Execution.objects.get()
    assert (kept.title, kept.reason, kept.tags) == ("Written in YAML", "from a file", ["nightly"])


@pytest.mark.parametrize(
    "written", [json.dumps(plan()), "title: T\nsteps:\n- {id: a, tool: noop}\n", [{"tool": "noop"}]]
)
def test_a_plan_may_be_a_text_of_json_or_yaml_or_its_bare_steps(admin: Api, written: object) -> None:
    assert admin.post("executions/", {"plan": written}).status_code == 202


def test_actor_and_tenant_come_from_the_token_alone(admin: Api, stranger: Api) -> None:
    body = {
        "plan": plan("true"), "actor": "mallory", "actor_id": stranger.user.pk, "tenant": "elsewhere",
        "tenant_id": stranger.user.tenant_id, "approval_level": 0, "approver": "mallory",
    }  # fmt: skip

    response = admin.post("executions/", body)

    assert response.status_code == 202
    kept = Execution.objects.get()
    assert (kept.actor, kept.tenant) == (admin.user, admin.user.tenant)
    assert Event.objects.get(execution=kept, kind="execution.submitted").actor == "user:root"


def test_a_misspelt_field_is_refused_and_not_ignored(admin: Api) -> None:
    told = problem_of(admin.post("executions/", {"plan": plan(), "prority": 1}), 422, "invalid_body")

    assert [error["path"] for error in told["errors"]] == ["prority"]


@pytest.mark.parametrize("wrong", [7, True, 1.5])
def test_what_is_no_plan_is_told_in_one_sentence(admin: Api, wrong: object) -> None:
    told = problem_of(admin.post("executions/", {"plan": wrong}), 422, "invalid_body")

    assert [error["path"] for error in told["errors"]] == ["plan"]
    assert "must be an object" in told["errors"][0]["message"]


def test_null_is_as_good_as_absent(admin: Api) -> None:
    names = ("reason", "tags", "priority", "not_before", "trace_id", "check")
    response = admin.post("executions/", {"plan": plan(), **dict.fromkeys(names)})

    assert response.status_code == 202
    assert admin.get(response.json()["links"]["self"]).json()["priority"] == 5


def test_all_faults_of_a_body_come_in_one_answer(admin: Api) -> None:
    body = {"priority": 11, "tags": ["x" * 101, 7], "reason": "a\0b", "not_before": "2026-01-01T00:00:00"}

    told = problem_of(admin.post("executions/", body), 422, "invalid_body")

    paths = {error["path"] for error in told["errors"]}
    assert {"plan", "priority", "tags[0]", "tags[1]", "reason", "not_before"} <= paths


@pytest.mark.parametrize("when", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", 1e300, 10**30])
def test_a_time_beyond_the_calendar_is_refused(admin: Api, when: object) -> None:
    assert admin.post("executions/", {"plan": plan(), "not_before": when}).status_code == 422


def test_a_later_time_is_kept(admin: Api) -> None:
    response = admin.post("executions/", {"plan": plan(), "not_before": "2099-01-31T22:00:00+02:00"})

    detail = admin.get(response.json()["links"]["self"]).json()
    assert detail["not_before"] == "2099-01-31T20:00:00Z"
    assert "2099" in detail["status_reason"]


def test_somebody_without_a_role_may_not_submit(make_api: MakeApi) -> None:
    nobody = make_api("nobody")

    problem_of(nobody.post("executions/", {"plan": plan()}), 403, "forbidden")
    assert not Execution.objects.exists()


def test_a_session_may_submit_only_with_its_form_token(admin: Api) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin.user)

    refused = browser.post("/api/v1/executions/", json.dumps({"plan": plan()}), content_type="application/json")

    problem_of(refused, 403, "csrf_failed")
    assert browser.get("/api/v1/executions/").status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/yaml"])
def test_a_session_whose_browser_has_the_cookie_sends_its_token_in_the_header(admin: Api, kind: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.get("/login/")
    browser.force_login(admin.user)
    token = browser.cookies["csrftoken"].value
    body = json.dumps({"plan": plan()})

    refused = browser.post("/api/v1/executions/", body, content_type=kind)
    accepted = browser.post("/api/v1/executions/", body, content_type=kind, headers={"X-CSRFToken": token})

    problem_of(refused, 403, "csrf_failed")
    assert accepted.status_code == 202


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_is_no_body_for_a_session_either(admin: Api, kind: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.get("/login/")
    browser.force_login(admin.user)
    token = browser.cookies["csrftoken"].value

    without = browser.post("/api/v1/executions/", f"csrfmiddlewaretoken={token}", content_type=kind)
    with_it = browser.post("/api/v1/executions/", "a=1", content_type=kind, headers={"X-CSRFToken": token})

    problem_of(without, 403, "csrf_failed")
    problem_of(with_it, 415, "unsupported_media_type")


def test_a_plan_with_a_nul_or_half_a_character_is_no_fault_of_ours(admin: Api) -> None:
    for command in ("echo \0", "echo \ud800"):
        assert admin.post("executions/", {"plan": plan(command)}).status_code == 422
        assert admin.post("executions/", {"plan": plan(title=command)}).status_code in (202, 422)


def test_a_batch_answers_each_plan_for_itself_and_in_order(admin: Api) -> None:
    items = [
        {"plan": plan("one"), "idempotency_key": "b-1"},
        {"plan": {"steps": []}},
        {"plan": plan("one"), "idempotency_key": "b-1"},
        {"plan": plan("two"), "priority": 99},
        "not an object",
        {"plan": plan("three"), "tenant_id": 99},
    ]
    results = admin.post("executions/batch/", {"executions": items}).json()["results"]

    assert [result["status_code"] for result in results] == [202, 422, 200, 422, 422, 202]
    assert results[2]["id"] == results[0]["id"]
    assert results[1]["errors"][0]["code"] == "empty_plan"
    assert results[3]["errors"][0]["path"] == "priority"
    assert Execution.objects.count() == 2


def test_a_batch_of_more_than_a_thousand_is_refused_whole(admin: Api) -> None:
    problem_of(admin.post("executions/batch/", {"executions": [{"plan": {}}] * 1001}), 422, "invalid_body")


def test_a_preview_shows_everything_and_writes_nothing(admin: Api) -> None:
    told = admin.post("executions/preview/", {"plan": plan("systemctl restart nginx")}).json()

    assert told["acceptable"] is True
    assert [step["targets"] for step in told["steps"]] == [["localhost"]]
    assert told["locks"][0] == {"asset": "localhost", "asset_id": told["locks"][0]["asset_id"], "mode": "exclusive"}
    assert told["permissions"][0]["granted"] is True
    assert not Execution.objects.exists()
    assert not Step.objects.exists()


def test_a_preview_of_a_bad_plan_says_why(admin: Api) -> None:
    response = admin.post("executions/preview/", {"plan": {"steps": []}})

    assert response.status_code == 200
    assert response.json()["acceptable"] is False
    assert response.json()["errors"][0]["code"] == "empty_plan"

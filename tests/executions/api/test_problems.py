"""Whatever goes wrong is told in one shape, and bad input is never a fault of ours."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from safety.accounts import issue_token
from safety.models import ApiToken
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of

pytestmark = pytest.mark.django_db


def test_without_a_token_nobody_is_answered() -> None:
    refused = Client().get("/api/v1/executions/")

    problem_of(refused, 401, "not_authenticated")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_that_was_revoked_opens_nothing(admin: Api) -> None:
    ApiToken.objects.update(revoked_at="2026-01-01T00:00:00Z")

    problem_of(admin.get("executions/"), 401, "invalid_token")


def test_a_bad_token_is_not_made_good_by_a_session(admin: Api) -> None:
    browser = Client()
    browser.force_login(admin.user)

    refused = browser.get("/api/v1/executions/", headers={"Authorization": "Bearer nonsense"})

    problem_of(refused, 401, "invalid_token")


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer \xe9\xff", "Bearer " + "x" * 10_000, "Bearer a b c"])
def test_a_token_of_any_form_is_only_a_wrong_token(header: str) -> None:
    problem_of(Client().get("/api/v1/executions/", HTTP_AUTHORIZATION=header), 401, "invalid_token")


def test_an_inactive_user_is_out_at_once(admin: Api) -> None:
    admin.user.is_active = False
    admin.user.save()

    problem_of(admin.get("executions/"), 401, "invalid_token")


@pytest.mark.parametrize(
    "path", ["nope/", "executions/0/", "executions/99999999999999999999/", "executions/x/", "a/b", "a%0Ab"]
)
def test_what_is_not_there_is_a_problem_and_no_page(admin: Api, path: str) -> None:
    problem_of(admin.get(path), 404, "not_found")


def test_a_missing_slash_at_the_end_is_read_over(admin: Api) -> None:
    assert admin.post("executions", {"plan": plan()}).status_code == 202
    assert admin.get("executions").status_code == 200
    assert admin.get("queue").status_code == 200


def test_a_method_that_a_call_does_not_have(admin: Api) -> None:
    refused = admin.delete("executions/")

    problem_of(refused, 405, "method_not_allowed")
    assert set(refused.headers["Allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize("kind", ["text/csv", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_body_in_a_format_that_is_not_understood(admin: Api, kind: str) -> None:
    refused = admin.post("executions/", "a=b", content_type=kind)

    problem_of(refused, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        b"{", b'{"plan": ', b"[]", b'"text"', b"12", b"null", b'{"plan": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe{}",
        b"[" * 100_000, b'{"plan": ' + b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object(admin: Api, body: bytes) -> None:
    problem_of(admin.post("executions/", body), 400, "malformed_body")


@pytest.mark.parametrize(
    "body",
    ["a: [", "- a\n- b", "a: 1\na: 2", "just words", "!!python/object/apply:os.system [ls]", "&a [*a]", "\t- x"],
)
def test_a_body_that_is_no_yaml_object(admin: Api, body: str) -> None:
    problem_of(admin.post("executions/", body, content_type="application/yaml"), 400, "malformed_body")


def test_yaml_that_blows_up_is_refused_quickly(admin: Api) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    refused = admin.post("executions/", "\n".join(levels), content_type="application/yaml")

    problem_of(refused, 400, "malformed_body")


def test_a_body_that_is_too_large_is_not_read(admin: Api, settings: pytest.FixtureRequest) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000  # type: ignore[attr-defined]

    problem_of(admin.post("executions/", {"plan": plan("x" * 2000)}), 413, "payload_too_large")


@pytest.mark.parametrize(
    "query",
    [
        "status=nope", "limit=0", "limit=501", "limit=x", "cursor=x", "cursor=b2xkZXI6eA", "created_after=yesterday",
        "created_before=2026-13-01", "created_after=9999-12-31T23:59:59-23:59", "q=%00", "tag=%00", "actor=a%00b",
        "nope=1", "asset=%00",
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(admin: Api, query: str) -> None:
    told = problem_of(admin.get(f"executions/?{query}"), 400, "invalid_parameter")

    assert told["errors"][0]["path"] == query.partition("=")[0]
    assert told["errors"][0]["how_to_fix"]


def test_the_type_of_a_problem_leads_to_its_explanation(admin: Api) -> None:
    told = problem_of(admin.get("executions/7/"), 404, "not_found")

    explained = Client().get(told["type"]).json()
    assert explained["code"] == "not_found"
    assert explained["way_out"]


def test_a_fault_of_ours_is_a_problem_without_details(
    admin: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("inner workings")

    monkeypatch.setattr("executions.api.executions.summary", fail)
    admin.post("executions/", {"plan": plan()})
    admin.client.raise_request_exception = False

    refused = admin.get("executions/")

    problem_of(refused, 500, "internal_error")
    assert b"inner workings" not in refused.content
    assert "ZeroDivisionError" in caplog.text


def test_answers_are_not_kept_by_caches(admin: Api) -> None:
    assert admin.get("executions/").headers["Cache-Control"] == "no-store"


def test_the_token_of_another_user_acts_for_that_user(make_api: MakeApi) -> None:
    one, two = make_api("one", "requester", "admin"), make_api("two", "viewer")
    two.token = issue_token(one.user, "lent")

    assert two.post("executions/", {"plan": plan()}).status_code == 202
    assert json.loads(two.get("executions/").content)["results"][0]["actor"] == "one"

"""Secrets of a plan at submit and in the preview: may they be used, are they there, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions.models import Execution
from executions.services import Accepted, Refused, Submission, preview, submit, submit_many
from safety.models import SecretRule, Tenant, User
from safety.secrets import configured_store
from safety.secrets.keeping import store_secret
from tests.executions.services.requests import change, make_asset, make_user, plan

pytestmark = [pytest.mark.django_db]


def naming(*paths: str) -> dict[str, Any]:
    headers = {f"X-{number}": {"type": "secret", "path": path} for number, path in enumerate(paths)}
    return {"steps": [{"id": "ask", "tool": "http", "inputs": {"url": "https://example.com/", "headers": headers}}]}


def keep(path: str, tenant: str = "default") -> None:
    store_secret(Tenant.objects.get_or_create(name=tenant)[0], path, "only-for-this-test", by=None)


def refusal_of(document: dict[str, Any], by: User) -> Refused:
    with pytest.raises(Refused) as refused:
        submit(Submission(document), by=by)
    assert not Execution.objects.exists()
    return refused.value


def states(document: dict[str, Any], by: User) -> dict[str, str]:
    return {secret["path"]: secret["state"] for secret in preview(document, by=by)["secrets"]}


def test_a_secret_that_is_not_there_is_refused_with_its_place(alice: User) -> None:
    keep("there")
    keep("elsewhere", tenant="other")
    refused = refusal_of(naming("there", "missing", "elsewhere"), alice)
    assert (refused.code, refused.status) == ("invalid_plan", 422)
    assert [(error["code"], error["path"]) for error in refused.errors] == [
        ("secret_unavailable", "steps[0].inputs.headers"),
        ("secret_unavailable", "steps[0].inputs.headers"),
    ]
    assert "missing" in refused.errors[1]["message"]
    assert states(naming("there", "missing", "elsewhere"), alice) == {
        "there": "present", "missing": "missing", "elsewhere": "missing",
    }  # fmt: skip
    assert submit(Submission(naming("there")), by=alice).status == "queued"


def test_a_secret_that_a_rule_keeps_back_is_refused_whether_it_is_there_or_not(alice: User) -> None:
    ruth = make_user("ruth", "requester")
    keep("db/orders")
    SecretRule.objects.create(tenant=alice.tenant, prefix="db").groups.add(Group.objects.create(name="dba"))
    for path in ("db/orders", "db/never-was"):
        refused = refusal_of(naming(path), ruth)
        assert (refused.code, refused.status) == ("forbidden", 403)
        assert refused.errors[0]["path"] == "steps[0].inputs.headers"
        assert states(naming(path), ruth) == {path: "forbidden"}
    ruth.groups.add(Group.objects.get(name="dba"))
    assert submit(Submission(naming("db/orders")), by=ruth).status == "queued"


def test_who_may_not_submit_is_not_told_which_secrets_there_are(alice: User) -> None:
    keep("there")
    viewer = make_user("vera", "viewer")
    assert states(naming("there", "missing"), viewer) == {"there": "unknown", "missing": "unknown"}
    assert refusal_of(naming("there", "missing"), viewer).code == "forbidden"


def test_a_store_that_only_workers_reach_is_not_asked(alice: User, settings: Any) -> None:
    settings.SECRETS_BACKEND = "aws"
    settings.AWS_REGION = "eu-west-1"
    configured_store.cache_clear()
    try:
        assert states(naming("whatever"), alice) == {"whatever": "unknown"}
        assert submit(Submission(naming("whatever")), by=alice).status == "queued"
    finally:
        configured_store.cache_clear()


def test_a_batch_asks_once_for_all_its_secrets_and_without_secrets_not_at_all(alice: User) -> None:
    make_asset("web-1", environment="development")
    submit(Submission(plan(change("warm", "web-1"))), by=alice)
    for number in range(20):
        keep(f"many/{number}")
    with CaptureQueriesContext(
        connection,
    ) as without:
        submit_many([Submission(plan(change(f"a{number}", "web-1"))) for number in range(20)], by=alice)
    asked = [query["sql"] for query in without.captured_queries]
    assert not [sql for sql in asked if "safety_secret" in sql]
    with CaptureQueriesContext(connection) as with_secrets:
        answers = submit_many([Submission(naming(f"many/{number}")) for number in range(20)], by=alice)
    assert all(isinstance(answer, Accepted) for answer in answers)
    about = [query["sql"] for query in with_secrets.captured_queries if "safety_secret" in query["sql"]]
    assert len(about) == 2  # the rules, and which are there

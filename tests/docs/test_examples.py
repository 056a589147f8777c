"""Plans, requests and queries that the pages show work as they stand."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from django.db import connection

from executions.api.bodies import submission_of
from executions.services import Refused, Submission, preview, submit
from safety.models import User
from safety.secrets.keeping import store_secret
from tests.docs.pages import NAMES, blocks, text_of
from tests.executions.plans.compiling import compiled

PLAN_PAGES = [name for name in NAMES if blocks(text_of(name), "yaml")]
SQL = [(name, sql) for name in NAMES for sql in blocks(text_of(name), "sql")]
BODY = re.compile(r"-d '\s*(\{.*?\})'", re.DOTALL)


def test_plans_and_queries_are_found() -> None:
    assert "docs/how-to/first-plan.md" in PLAN_PAGES
    assert len(SQL) >= 10


@pytest.mark.parametrize("page", [name for name in PLAN_PAGES if name.startswith("docs/how-to/first")])
def test_every_plan_shown_is_accepted(page: str) -> None:
    for example in blocks(text_of(page), "yaml"):
        assert compiled(example).document["steps"]
        assert isinstance(yaml.safe_load(example), dict)


def test_every_request_shown_is_a_body_that_the_api_takes() -> None:
    plans = 0
    for page in NAMES:
        for body in BODY.findall(text_of(page)):
            read = json.loads(body)
            if "plan" in read:
                plans += 1
                assert compiled(submission_of(read).document).document["steps"]
    assert plans >= 2


@pytest.mark.django_db
@pytest.mark.parametrize(("page", "sql"), SQL, ids=[f"{page}-{number}" for number, (page, _) in enumerate(SQL)])
def test_every_query_shown_runs_and_changes_nothing(page: str, sql: str) -> None:
    assert re.match(r"\s*SELECT\b", sql)
    with connection.cursor() as cursor:
        cursor.execute(sql)
        assert cursor.description


@pytest.mark.django_db
def test_a_plan_with_a_secret_is_taken_once_the_secret_is_there() -> None:
    """docs/how-to/use-secrets.md."""
    admin = User.objects.create_superuser("root-of-docs", password="only-for-this-test-1")
    headers = {"Authorization": {"type": "secret", "path": "web/token"}}
    inputs = {"method": "GET", "url": "https://example.com/", "headers": headers}
    plan = {"title": "Needs a secret", "steps": [{"id": "ask", "tool": "http", "inputs": inputs}]}
    assert [error["code"] for error in preview(plan, by=admin)["errors"]] == ["secret_unavailable"]
    with pytest.raises(Refused) as refused:
        submit(Submission(plan), by=admin)
    assert [error["code"] for error in refused.value.problems()] == ["secret_unavailable"]
    assert preview(plan, by=admin)["secrets"] == [{"path": "web/token", "key": None, "state": "missing"}]
    store_secret(admin.tenant, "web/token", "only-for-this-test", by=admin)
    shown = preview(plan, by=admin)
    assert (shown["acceptable"], shown["secrets"][0]["state"]) == (True, "present")
    assert submit(Submission(plan), by=admin).status == "queued"
    assert "only-for-this-test" not in json.dumps(shown)

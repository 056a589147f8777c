"""What the API shows of the health of assets, and checks that are asked for there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from executions.models import Asset, Execution
from tests.executions.api.conftest import Api, problem_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(make_api: Any) -> Api:
    made: Api = make_api("ada", "admin")
    return made


def names(by: Api, query: str) -> list[str]:
    return sorted(row["name"] for row in by.get(f"assets/?{query}").json()["results"])


def asset(by: Api, name: str, *, days_old: int = 0, seen_days_ago: int | None = None, **fields: Any) -> Asset:
    made = Asset.objects.create(tenant=by.user.tenant, name=name, connection="ssh", **fields)
    now = timezone.now()
    seen = None if seen_days_ago is None else now - timedelta(days=seen_days_ago)
    Asset.objects.filter(pk=made.pk).update(created_at=now - timedelta(days=days_old), last_seen_at=seen)
    return made


def test_an_asset_is_stale_when_nobody_has_heard_of_it_for_long(root: Api) -> None:
    asset(root, "new")
    asset(root, "old", days_old=45)
    asset(root, "old-in-use", days_old=400, seen_days_ago=29)
    asset(root, "silent", days_old=400, seen_days_ago=31)
    asset(root, "out-of-use", days_old=400, is_active=False)
    asset(root, "gone", seen_days_ago=0, source="cmdb", missing_since_at=timezone.now())
    assert names(root, "stale=true") == ["gone", "old", "silent"]
    assert names(root, "stale=false") == ["localhost", "new", "old-in-use", "out-of-use"]
    shown = {row["name"]: row["is_stale"] for row in root.get("assets/").json()["results"]}
    assert {name for name, stale in shown.items() if stale} == {"gone", "old", "silent"}
    assert names(root, "source=cmdb") == ["gone"]
    problem_of(root.get("assets/?stale=perhaps"), 400, "invalid_parameter")


def test_the_settings_say_after_how_many_days(root: Api, settings: Any) -> None:
    asset(root, "old", days_old=5)
    assert names(root, "stale=true") == []
    settings.ASSET_STALE_AFTER = timedelta(days=4)
    assert names(root, "stale=true") == ["old"]


def test_assets_are_found_by_what_their_last_check_found(root: Api) -> None:
    asset(root, "well", health="healthy", response_ms=7)
    asset(root, "lost", health="unreachable", health_code="connection_refused")
    assert names(root, "health=unreachable,refused") == ["lost"]
    assert names(root, "health=none") == ["localhost"]
    problem_of(root.get("assets/?health=ill"), 400, "invalid_parameter")


def test_a_check_is_an_execution_of_who_asks_for_it(root: Api, make_api: Any) -> None:
    lost = asset(root, "lost")
    response = root.post(f"assets/{lost.pk}/check/")
    assert response.status_code == 202
    execution = Execution.objects.get(pk=response.json()["id"])
    assert (execution.actor_id, execution.action_class, execution.approval_level) == (root.user.pk, "read", 0)
    assert response.headers["Location"] == f"/api/v1/executions/{execution.pk}/"
    problem_of(make_api("olga", "operator").post(f"assets/{lost.pk}/check/"), 403, "forbidden")
    problem_of(root.post("assets/999999/check/"), 404, "not_found")


def test_nobody_says_by_hand_how_an_asset_is(root: Api) -> None:
    lost = asset(root, "lost")
    for field in ("health", "last_seen_at", "source"):
        root.patch(f"assets/{lost.pk}/", {field: "healthy"})
    lost.refresh_from_db()
    assert (lost.health, lost.last_seen_at, lost.source) == ("", None, "")

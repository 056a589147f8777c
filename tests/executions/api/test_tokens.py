"""One's own tokens by the API, and what a token may be used for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import URLPattern

from executions.api import urls
from executions.api.base import ApiView
from executions.api.errors import OpenView
from executions.models import Execution
from safety import accounts
from safety.models import ApiToken, User
from safety.scopes import ALL_SCOPES
from tests.executions.api.conftest import Api, MakeApi, plan, problem_of
from tests.executions.live.rows import make_execution

pytestmark = pytest.mark.django_db


def limited(api: Api, *scopes: str) -> Api:
    """The same user with a token of these scopes alone."""
    other = Api(api.user)
    other.token = accounts.make_token(api.user, scopes=scopes).value
    return other


def test_every_call_says_which_scope_it_needs() -> None:
    open_calls, undeclared = [], []
    for pattern in urls.urlpatterns:
        view: Any = getattr(pattern.callback, "view_class", None) if isinstance(pattern, URLPattern) else None
        if view is None or not issubclass(view, ApiView):
            continue
        if issubclass(view, OpenView):
            open_calls.append(view.__name__)
            continue
        for method in ("get", "post", "put", "patch", "delete"):
            handler = getattr(view, method, None)
            if handler is not None and not set(getattr(handler, "scopes", ())) & set(ALL_SCOPES):
                undeclared.append(f"{view.__name__}.{method}")
    assert undeclared == []
    assert open_calls == ["ErrorView"]


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("get", "executions/", {"read"}),
        ("get", "executions/N/events/stream", {"read"}),
        ("get", "queue/", {"read"}),
        ("get", "tokens/", {"read"}),
        ("post", "executions/", {"submit"}),
        ("post", "executions/preview/", {"submit"}),
        ("post", "executions/N/retry/", {"submit"}),
        ("post", "executions/N/cancel/", {"submit", "operate"}),
        ("post", "executions/N/approve/", {"approve"}),
        ("post", "executions/N/resolve/", {"operate"}),
        ("post", "queue/drain/", {"operate"}),
        ("post", "assets/", {"operate"}),
        ("post", "tokens/", {"admin"}),
    ],
)
def test_a_token_does_no_more_than_its_scopes_though_its_user_may(
    admin: Api, method: str, path: str, scopes: set[str]
) -> None:
    path = path.replace("N", str(make_execution(admin.user).pk))
    for scope in ALL_SCOPES:
        response = getattr(limited(admin, scope), method)(path)
        if scope in scopes:
            assert response.status_code not in (401, 403), (scope, response.content)
            continue
        told = problem_of(response, 403, "insufficient_scope")
        assert all(needed in told["detail"] for needed in scopes)
        challenge = response.headers["WWW-Authenticate"]
        assert challenge.startswith('Bearer realm="opsconductor", error="insufficient_scope", scope="')
    assert Execution.objects.count() == 1


def test_a_token_does_no_more_than_its_user_whatever_its_scopes(make_api: MakeApi, admin: Api) -> None:
    viewer = make_api("viewer", "viewer")
    execution = make_execution(admin.user, status="pending_approval")
    problem_of(limited(viewer, "approve").post(f"executions/{execution.pk}/approve/"), 403, "forbidden")
    problem_of(limited(viewer, "operate").post("queue/drain/", {"reason": "x"}), 403, "forbidden")


def test_a_session_has_no_scopes_to_lack(admin: Api) -> None:
    client = Client()
    client.force_login(admin.user, backend="safety.backends.PasswordBackend")
    assert client.get("/api/v1/executions/").status_code == 200
    made = client.post("/api/v1/tokens/", {"label": "mine"}, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["scopes"] == list(ALL_SCOPES)


def test_a_new_token_is_shown_once_and_works(admin: Api) -> None:
    made = admin.post("tokens/", {"label": "pipeline", "scopes": ["submit", "read"], "expires_in_days": 30})
    assert made.status_code == 201
    told = made.json()
    assert (told["label"], told["scopes"], told["usable"]) == ("pipeline", ["read", "submit"], True)
    program = Api(admin.user)
    program.token = told["token"]
    assert program.post("executions/", {"plan": plan()}).status_code == 202
    problem_of(program.post("queue/drain/", {"reason": "x"}), 403, "insufficient_scope")
    listed = admin.get("tokens/")
    assert told["token"] not in listed.content.decode()
    assert "token" not in listed.json()["results"][0]
    assert admin.get(f"tokens/{told['id']}/").json()["last_used_at"] is not None


def test_a_token_makes_none_that_may_more_or_lives_longer_than_itself(admin: Api) -> None:
    maker = limited(admin, "admin", "read")
    problem_of(maker.post("tokens/", {"scopes": ["submit"]}), 403, "insufficient_scope")
    assert maker.post("tokens/", {}).json()["scopes"] == ["read", "admin"]

    brief = Api(admin.user)
    made = accounts.make_token(admin.user, expires_in=timedelta(hours=1))
    brief.token = made.value
    child = brief.post("tokens/", {"expires_in_days": 365}).json()
    assert ApiToken.objects.get(pk=child["id"]).expires_at == made.token.expires_at


def test_revoking_a_token_ends_those_that_it_made(admin: Api) -> None:
    first = Api(admin.user)
    second = Api(admin.user)
    second.token = first.post("tokens/", {}).json()["token"]
    third = Api(admin.user)
    third.token = second.post("tokens/", {}).json()["token"]
    number = ApiToken.objects.get(digest=accounts.token_digest(first.token)).pk
    assert admin.delete(f"tokens/{number}/").status_code == 204
    for dead in (first, second, third):
        problem_of(dead.get("executions/"), 401, "invalid_token")
    assert admin.delete(f"tokens/{number}/").status_code == 204
    assert admin.get("tokens/?usable=false").json()["results"][-1]["id"] == number


def test_tokens_of_others_are_not_there(admin: Api, make_api: MakeApi) -> None:
    other = make_api("other", "admin")
    number = ApiToken.objects.get(user=other.user).pk
    problem_of(admin.get(f"tokens/{number}/"), 404, "not_found")
    problem_of(admin.delete(f"tokens/{number}/"), 404, "not_found")
    assert other.get("executions/").status_code == 200
    assert [row["id"] for row in other.get("tokens/").json()["results"]] == [number]


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": []},
        {"scopes": ["everything"]},
        {"expires_in_days": 0},
        {"expires_in_days": 366},
        {"label": "x" * 121},
        {"label": "a\u0000b"},
        {"user": "root"},
    ],
)
def test_a_token_that_cannot_be_made_is_refused(admin: Api, body: dict[str, Any]) -> None:
    problem_of(admin.post("tokens/", body), 422, "invalid_body")
    assert ApiToken.objects.count() == 1


def test_a_token_that_is_not_good_is_challenged_as_rfc_6750_has_it(admin: Api) -> None:
    client = Client()
    assert client.get("/api/v1/executions/").headers["WWW-Authenticate"] == 'Bearer realm="opsconductor"'
    ApiToken.objects.update(expires_at=Now() - timedelta(seconds=1))
    response = admin.get("executions/")
    problem_of(response, 401, "invalid_token")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="opsconductor", error="invalid_token"'


def test_tokens_from_before_scopes_do_what_they_did(admin: Api) -> None:
    assert ApiToken.objects.get().scopes == list(ALL_SCOPES)
    assert User.objects.get().username == "root"

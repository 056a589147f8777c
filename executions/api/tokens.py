"""One's own tokens. What others hold is for the admin pages."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from django.db.models import QuerySet
from django.http import HttpResponse
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import ApiView, caller, require_scope
from executions.api.problems import ApiProblem
from executions.api.reading import Query, read_body
from executions.api.schema import PAGING, call, parameter
from safety import accounts
from safety.accounts import Bearer
from safety.models import ApiToken, usable_now
from safety.scopes import Scope

MAX_DAYS = 365
DEFAULT_DAYS = 90

ScopeName = Literal["read", "submit", "approve", "operate", "admin"]


class TokenBody(BaseModel):
    """A token to be made. Without `scopes` it may do what you may: all of them, or those of the token that asks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: str = Field(
        "", max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$", description="What it is for; shown in the list."
    )
    scopes: list[ScopeName] | None = Field(None, min_length=1, max_length=20)
    expires_in_days: int = Field(DEFAULT_DAYS, ge=1, le=MAX_DAYS)


class TokenShape(BaseModel):
    """A token, without its value: only a hash of that is kept."""

    id: int
    label: str
    scopes: list[ScopeName]
    usable: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewToken(TokenShape):
    """A token with its value, which is shown this once."""

    token: str


class TokenPage(BaseModel):
    next: str | None
    previous: str | None
    results: list[TokenShape]


def token_shape(row: Any) -> dict[str, Any]:
    return {
        "id": row.pk,
        "label": row.label,
        "scopes": row.scopes,
        "usable": row.is_usable,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
    }


def _own(request: Request) -> QuerySet[Any]:
    return ApiToken.objects.filter(user=caller(request)).annotate(is_usable=usable_now())


class TokensView(ApiView):
    """One's own tokens."""

    @call(
        "tokens_list",
        "List your tokens, newest first; their values are shown nowhere",
        scope=Scope.READ,
        tag="tokens",
        gives=TokenPage,
        refuses=("invalid_parameter",),
        parameters=(parameter("usable", "Only these.", enum=("true", "false")), *PAGING),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, ("usable", *cursors.PARAMETERS))
        rows = _own(request)
        if (usable := query.flag("usable")) is not None:
            rows = rows.filter(is_usable=usable)
        return cursors.page(request, query, rows, token_shape)

    @call(
        "tokens_create",
        "Make a token for yourself; its value is in this answer and never again",
        scope=Scope.ADMIN,
        tag="tokens",
        description="With a token that asks, the new one has no scope that it lacks, ends no later than it does, and is"
        " revoked together with it.",
        takes=TokenBody,
        gives=NewToken,
        status=201,
        example={"label": "release pipeline", "scopes": ["read", "submit"], "expires_in_days": 30},
    )
    def post(self, request: Request) -> HttpResponse:
        body = TokenBody.model_validate(read_body(request))
        maker = request.auth if isinstance(request.auth, Bearer) else None
        scopes = body.scopes if body.scopes is not None else (maker.scopes if maker else list(Scope))
        try:
            made = accounts.make_token(
                caller(request),
                label=body.label,
                scopes=scopes,
                expires_in=timedelta(days=body.expires_in_days),
                maker=maker,
                by=caller(request),
            )
        except accounts.MakerRevoked:  # after it was looked at, and before it had made the other one
            raise AuthenticationFailed("The token was revoked.", code="invalid_token") from None
        except accounts.TooMuchForItsMaker as refused:
            assert maker is not None
            require_scope(maker, refused.scopes)
            raise
        return answer({**token_shape(_own(request).get(pk=made.token.pk)), "token": made.value}, 201)


class TokenView(ApiView):
    """One of them."""

    @call(
        "tokens_read",
        "Read one of your tokens",
        scope=Scope.READ,
        tag="tokens",
        gives=TokenShape,
        refuses=("not_found",),
    )
    def get(self, request: Request, token_id: int) -> HttpResponse:
        Query(request, ())
        return answer(token_shape(_found(request, token_id)))

    @call(
        "tokens_revoke",
        "Revoke one of your tokens, and those that it made; what they follow live ends",
        scope=Scope.ADMIN,
        tag="tokens",
        status=204,
        refuses=("not_found",),
    )
    def delete(self, request: Request, token_id: int) -> HttpResponse:
        accounts.revoke_token(
            _found(request, token_id).pk, by=caller(request)
        )  # again: it is revoked, as was asked for
        return HttpResponse(status=204)


def _found(request: Request, token_id: int) -> Any:
    row = _own(request).filter(pk=token_id).first()
    if row is None:
        raise ApiProblem("not_found", f"You have no token {token_id}.")
    return row

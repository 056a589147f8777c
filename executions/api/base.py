"""What all calls share: who may call, what they are answered with, and how a row is looked up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from executions.api.authentication import CHALLENGE, SessionAuthentication, TokenAuthentication
from executions.api.problems import ApiProblem
from executions.api.reading import JsonBody, YamlBody
from executions.models import Execution, ExecutionQuerySet
from safety.accounts import Bearer
from safety.models import User
from safety.rbac import can_operate, can_operate_installation, roles_of
from safety.scopes import Scope, allows


class TakeTheFirst(BaseContentNegotiation):
    """Answers are JSON whatever Accept says; the few that can be text look at it themselves."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        first = next(iter(renderers))
        return first, first.media_type or "application/json"


class ApiView(APIView):
    """A call under /api/v1/: needs a token or a session, speaks JSON, refuses with problem+json."""

    authentication_classes: Any = (TokenAuthentication, SessionAuthentication)
    permission_classes: Any = (IsAuthenticated,)
    parser_classes = (JsonBody, YamlBody)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = TakeTheFirst

    def check_permissions(self, request: Request) -> None:
        """A token needs a scope that the method's `call` names. One that names none is closed to all but `admin`."""
        handler = getattr(self, (request.method or "").lower(), None)
        if handler is not None and request.method != "OPTIONS" and isinstance(request.auth, Bearer):
            require_scope(request.auth, getattr(handler, "scopes", (Scope.ADMIN,)))
        super().check_permissions(request)


class HasRole(BasePermission):
    """Whoever has a role, whichever."""

    message = "This is for those who have a role."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, User) and bool(roles_of(request.user))


class Operates(BasePermission):
    """Operators and administrators only."""

    message = "This is for the operator and admin roles."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, User) and can_operate(request.user)


class OperatesInstallation(BasePermission):
    """Operators and administrators of the tenant `default` only: queue and workers serve every tenant."""

    message = "This is for the operator and admin roles of the tenant 'default', who run the installation."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return can_operate_installation(request.user)


class OperatorsView(ApiView):
    """A call for those who operate the installation."""

    permission_classes = (IsAuthenticated, OperatesInstallation)


def require_scope(bearer: Bearer, needed: Collection[str]) -> None:
    """Refuse with 403, as RFC 6750 has it, unless the token has one of the scopes."""
    if allows(bearer.scopes, needed):
        return
    named = " or ".join(needed)
    raise ApiProblem(
        "insufficient_scope",
        f"This call needs a token with the scope {named}; yours has {', '.join(sorted(bearer.scopes))}.",
        headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(needed)}"'},
    )


def caller(request: Request) -> User:
    """The user that the token or session belongs to."""
    user = request.user
    assert isinstance(user, User)  # IsAuthenticated let it pass
    return user


def visible(request: Request) -> ExecutionQuerySet:
    """The executions that the caller may see."""
    return Execution.objects.visible_to(caller(request))


def no_execution(execution_id: int) -> ApiProblem:
    """The refusal for an execution that is not there, or belongs to another tenant: the two look the same."""
    return ApiProblem("not_found", f"There is no execution {execution_id}.")


def checked(request: Request, execution_id: int) -> None:
    """Refuse with 404 unless the caller may see the execution."""
    if not visible(request).filter(pk=execution_id).exists():
        raise no_execution(execution_id)

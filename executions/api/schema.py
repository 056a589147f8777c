"""How the calls are described in OpenAPI: pydantic models as components, and one decorator for all of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import BaseModel
from pydantic.json_schema import model_json_schema

from executions.api.codes import CODES
from executions.api.problems import MEDIA_TYPE, describe
from executions.api.shapes import ProblemDetails

F = TypeVar("F", bound=Callable[..., Any])
Parameters = Sequence[OpenApiParameter]

# Every call can meet these.
_ALWAYS = ("not_authenticated", "throttled", "bad_request", "database_unavailable")

SPECTACULAR: dict[str, Any] = {
    "OAS_VERSION": "3.1.1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [],
    "COMPONENT_SPLIT_REQUEST": True,  # the number of a row is given, never taken
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": False, "displayRequestDuration": True},
}


class PydanticModel(PydanticExtension):
    """A body is described as it is checked (fields with a default may be left out), an answer as it is written."""

    target_class = "pydantic.BaseModel"
    match_subclasses = True
    priority = 1

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        mode: Any = "validation" if direction == "request" else "serialization"
        schema = model_json_schema(self.target, ref_template="#/components/schemas/{model}", mode=mode)
        for name, part in schema.pop("$defs", {}).items():
            component = ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, object=name, schema=part)
            auto_schema.registry.register_on_missing(component)
        return schema


class BearerToken(OpenApiAuthenticationExtension):
    target_class = "executions.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "`manage.py create_token USER` makes one."}


def parameter(
    name: str,
    description: str,
    kind: Any = OpenApiTypes.STR,
    *,
    header: bool = False,
    enum: Sequence[str] | None = None,
) -> OpenApiParameter:
    """One parameter of the query, or a header, that may be left out."""
    return OpenApiParameter(name, kind, "header" if header else "query", description=description, enum=enum)


def page_limit(most: int, absent: int = 50, *, rows: str = "Rows of a page") -> OpenApiParameter:
    """The parameter that says how long a page may be, with its bounds for programs."""
    kind = {"type": "integer", "minimum": 1, "maximum": most}
    return parameter("limit", f"{rows}, 1 to {most}; {absent} when absent.", kind)


PAGING = (parameter("cursor", "From `next` or `previous` of a page."), page_limit(500))


def call(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    scope: str | Sequence[str] = (),
    takes: type[BaseModel] | Any = None,
    gives: Any = None,
    status: int = 200,
    also: dict[Any, Any] | None = None,
    refuses: Sequence[str] = (),
    parameters: Parameters = (),
    example: Any = None,
    answer: Any = None,
    description: str = "",
) -> Callable[[F], F]:
    """Describe one call: its body with an example, its answers with an example, and each refusal by its code.

    `scope`: what a token needs, one of them when there are several; ApiView checks it. None: nobody needs to sign in.
    """
    scopes = (scope,) if isinstance(scope, str) else tuple(scope)
    responses: dict[Any, Any] = dict(also or {})
    if gives is not None or status == 204:
        responses = {status: gives, **responses}
    body = (
        ("malformed_body", "unsupported_media_type", "payload_too_large", "invalid_body") if takes is not None else ()
    )
    examples = []
    if example is not None:
        examples.append(OpenApiExample("Request", value=example, request_only=True, media_type="application/json"))
    if answer is not None:
        examples.append(OpenApiExample("Answer", value=answer, response_only=True, status_codes=[str(status)]))
    by_status: dict[int, list[str]] = {}
    limited = ("insufficient_scope",) if scopes else ()
    for code in dict.fromkeys((*_ALWAYS, *body, *limited, *refuses)):
        by_status.setdefault(CODES[code].status, []).append(code)
    for refused, codes in by_status.items():
        responses[refused, MEDIA_TYPE] = _refusal(refused, codes, [code for code in codes if code in refuses])
    kept: Any = extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=_described(description or summary, scopes),
        tags=[tag],
        request=takes,
        responses=responses,
        parameters=list(parameters),
        examples=examples,
    )

    def described(handler: F) -> F:
        made: F = kept(handler)
        made.scopes = scopes  # type: ignore[attr-defined]
        return made

    return described


def _described(text: str, scopes: Sequence[str]) -> str:
    end = "" if text.endswith(".") else "."
    return f"{text}{end} A token needs the scope {' or '.join(f'`{scope}`' for scope in scopes)}." if scopes else text


def _refusal(status: int, codes: Sequence[str], shown: Sequence[str]) -> OpenApiResponse:
    """Describe the refusals of one status, with an example of each that is peculiar to the call."""
    return OpenApiResponse(
        ProblemDetails,
        description="; ".join(f"`{code}`: {CODES[code].title}. {CODES[code].way_out}" for code in codes),
        examples=[
            OpenApiExample(
                code,
                value=describe(code, CODES[code].title, instance="/api/v1/executions/4711/"),
                response_only=True,
                status_codes=[str(status)],
                media_type=MEDIA_TYPE,
            )
            for code in shown
        ],
    )

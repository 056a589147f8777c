"""Finds every endpoint there is, asks it in somebody's name, and says what came of it, in one word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from django.db import connection, transaction
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.views import APIView

from safety.models import AuditRecord
from tests.safety.permission_requests import prepare, request_for
from tests.safety.permission_world import Belongings, World

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")
# Functions of the admin that look at no method: that a POST does no more than a GET is another test's affair.
_ONLY_READ = ("history/", "<path:object_id>/", "jsi18n/", "done/", "autocomplete/", "(?P<url>.*)$", "search/")
# What being asked writes by itself, whatever comes of it: sessions, what the admin logs, records of refusals; and of a
# decision on many entries, what became of each: that it was refused is written down, too.
_BOOKKEEPING = (
    "safety_session", "safety_failedtries", "django_admin_log", "safety_auditrecord", "safety_auditoutbox",
    "safety_auditseal",
    "queueing_deadletterbatchitem", "executions_servicestanding", "executions_servicetraffic",
)  # fmt: skip
_PARTLY = {"queueing_deadletterbatch": "WHERE ended_by <> ''"}  # those that somebody stopped
_TOUCHED = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0), (SELECT coalesce(max(id), 0) FROM safety_auditrecord)
  FROM pg_stat_xact_user_tables
"""
_TABLES = """
SELECT relname FROM pg_stat_user_tables WHERE schemaname = current_schema() AND NOT relname = ANY (%s) ORDER BY relname
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered: a word for the table, whether rows were written, all that was said, and the records of
    the audit that came with it, as (action, allowed).
    """

    outcome: str
    wrote: bool
    text: str
    recorded: tuple[tuple[str, bool], ...] = ()


def endpoints() -> Iterator[tuple[str, Any]]:
    """Yield (route, view) for every endpoint that the resolver knows."""
    yield from _walk(get_resolver(), "")


def _walk(resolver: URLResolver, before: str) -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern).lstrip("^")
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def methods_of(route: str, view: Any) -> tuple[str, ...]:
    """The methods that an endpoint has, as its class says; what is a function may take any, and is asked with two."""
    cls = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if cls is not None and issubclass(cls, APIView):
        return tuple(method for method in METHODS if hasattr(cls, method.lower()))
    return ("GET",) if route.endswith(_ONLY_READ) else ("GET", "POST")


def path_of(world: World, route: str, of: Belongings) -> str:
    """The address of a route, with the objects of a tenant in it."""
    ids = world.ids(route, of)
    path = _PARAMETER.sub(lambda match: str(ids[match[1] or match[2]]), route)
    return "/" + path.rstrip("$").replace("\\", "")


def ask(
    world: World, who: str, method: str, route: str, *, of: Belongings | None = None, form: dict[str, Any] | None = None
) -> Answer:
    """Ask in somebody's name for an object of the tenant `default` (or `of`), look at what was written, and undo it."""
    of = of or world.home
    request = request_for(method, route, of, form)
    client = world.clients[who]
    with transaction.atomic():
        prepared = prepare(route)
        if prepared not in world.states:  # every request is undone: so it is the same before each of them
            world.states[prepared] = snapshot()
        touched, last = _touched()
        response = client.generic(
            method, path_of(world, route, of) + request.query, request.data, content_type=request.content_type
        )
        touched_after, last_after = _touched()
        wrote = touched_after > touched and snapshot() != world.states[prepared]
        recorded: tuple[tuple[str, bool], ...] = ()
        if last_after > last:
            recorded = tuple(AuditRecord.objects.filter(pk__gt=last).order_by("pk").values_list("action", "allowed"))
        transaction.set_rollback(True)
    client.cookies = SimpleCookie(world.cookies[who])  # a sign-out takes them away
    return Answer(_word(method, response, wrote), wrote, _text(response), recorded)


def _touched() -> tuple[int, int]:
    """How many rows this transaction has written so far, those included that were taken back; the last audit record."""
    with connection.cursor() as cursor:
        cursor.execute(_TOUCHED)
        touched, last = cursor.fetchone()
    return int(touched), int(last)


def snapshot() -> str:
    """A hash of all rows, without bookkeeping."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES, [list(_BOOKKEEPING)])
        parts = [
            f"SELECT '{table}' || t::text AS line FROM {table} t {_PARTLY.get(table, '')}"
            for (table,) in cursor.fetchall()
        ]
        cursor.execute(f"SELECT md5(string_agg(line, '' ORDER BY line)) FROM ({' UNION ALL '.join(parts)}) lines")
        return str(cursor.fetchone()[0])


def _word(method: str, response: Any, wrote: bool) -> str:
    """The status; where something can be done, `done` when rows were written and `none` when not; login: go there."""
    status: int = response.status_code
    if response.request["PATH_INFO"] == "/readyz" and status == 503:
        status = 200  # it answered: how ready this is depends on how long the tests take
    if status in (301, 302) and "login/" in response["Location"]:
        return "login"
    if status < 400 and method != "GET":
        return "done" if wrote else "none"
    return "none" if status in (301, 302) else str(status)


def _text(response: Any) -> str:
    headers = "\n".join(f"{name}: {value}" for name, value in response.items())
    if response.streaming:  # nobody reads it here; the test client leaves it to its reader to close it
        return headers
    content: bytes = response.content
    return headers + content.decode(errors="replace")

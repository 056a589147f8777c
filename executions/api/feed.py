"""What an execution says: events and output after a cursor, as JSON, as text, or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from channels.db import database_sync_to_async
from django.db import DatabaseError
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request

from executions.api.answers import answer, to_json
from executions.api.base import ApiView, caller
from executions.api.executions import one
from executions.api.output import Wanted, read_output, wanted_of
from executions.api.problems import ApiProblem
from executions.api.reading import BIGGEST_ID, Query
from executions.api.schema import call, page_limit, parameter
from executions.api.shapes import Feed, Output
from executions.live.feed import DEFAULT_LIMIT, MAX_LIMIT, aread_page, read_page
from executions.live.hub import hub
from executions.live.presence import presence
from executions.live.shared_reads import SharedReads
from executions.live.viewers import Viewer
from executions.models import Execution, removal_notice
from executions.states import FINAL_EXECUTION
from safety.accounts import Bearer
from safety.scopes import Scope

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
PAUSE_SECONDS = 0.05  # between two reads of one stream: a burst of commits is one read
MOST_UNSENT_BYTES = 4 * 1024 * 1024  # waiting in the server for one slow reader; then we read no further for it
READ_LIMIT = 1000  # items in one read of a stream
TEXT_PIECES = 2000  # pieces of output in one read of a download

reads = SharedReads()

_AFTER = parameter("after", "Only what has a greater `seq`.", OpenApiTypes.INT)
_LIMIT = page_limit(MAX_LIMIT, DEFAULT_LIMIT, rows="Items")


class EventsView(ApiView):
    """Everything one execution said, in one gapless series."""

    @call(
        "executions_events",
        "Read events and output after a cursor",
        scope=Scope.READ,
        tag="executions",
        gives=Feed,
        refuses=("not_found", "invalid_parameter"),
        parameters=(_AFTER, _LIMIT),
    )
    def get(self, request: Request, execution_id: int) -> HttpResponse:
        query = Query(request, ("after", "limit"))
        after = query.whole("after", 0, least=0, most=BIGGEST_ID)
        limit = query.whole("limit", DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
        execution = one(request, execution_id)
        page = read_page(execution.pk, after, limit)
        cursor = page.items[-1]["seq"] if page.items else after
        if execution.events_pruned_at is not None:
            cursor = max(after, execution.last_seq)  # nobody has to ask for the rest again
        return answer(
            {
                "results": page.items,
                "more": page.more,
                "next_after": cursor,
                "last_seq": execution.last_seq,
                "complete": execution.status in FINAL_EXECUTION and cursor >= execution.last_seq,
                "next": _next(request, cursor) if page.more else None,
                "notice": execution.removal_notice or None,
            }
        )


class OutputView(ApiView):
    """What the targets of one execution printed."""

    @call(
        "executions_output",
        "Read output after a cursor, or download it as text",
        scope=Scope.READ,
        tag="executions",
        description="JSON by default; with `format=text`, or `Accept: text/plain`, the whole of it as text, streamed. "
        "The text of several targets has a line `==> STEP / TARGET <==` wherever another one begins to speak.",
        gives=Output,
        also={(200, "text/plain"): OpenApiTypes.STR},
        refuses=("not_found", "invalid_parameter", "unknown_step"),
        parameters=(
            parameter("step", "A step's id in the plan, or the number of its row."),
            parameter("target", "A target's name, or the number of its row (`step_target`)."),
            parameter("stream", "Only one of the two.", enum=("stdout", "stderr")),
            parameter("format", "json or text.", enum=("json", "text")),
            _AFTER,
            _LIMIT,
        ),
    )
    def get(self, request: Request, execution_id: int) -> HttpResponseBase:
        query = Query(request, ("step", "target", "stream", "format", "after", "limit"))
        after = query.whole("after", 0, least=0, most=BIGGEST_ID)
        limit = query.whole("limit", DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
        formats = query.choices("format", ("json", "text"))
        streams = query.choices("stream", ("stdout", "stderr"))
        execution = one(request, execution_id)
        wanted = wanted_of(execution.pk, query.text("step"), query.text("target"), streams)
        if "text" in formats or (not formats and _prefers_text(request)):
            return _download(wanted, after, _unsent(request), execution.removal_notice)
        found, more = read_output(wanted, after, limit)
        cursor = found[-1]["seq"] if found else after
        return answer(
            {
                "results": found,
                "more": more,
                "next_after": cursor,
                "complete": execution.status in FINAL_EXECUTION and not more,
                "next": _next(request, cursor) if more else None,
                "notice": execution.removal_notice or None,
            }
        )


class StreamView(ApiView):
    """The same series as server-sent events."""

    @call(
        "executions_stream",
        "Follow an execution as server-sent events",
        scope=Scope.READ,
        tag="executions",
        description="Each item of the series is one event: `id` is its `seq`, `data` the item as in .../events/. "
        "Begins after `Last-Event-ID` or `?after=`. A comment comes every 15 seconds when nothing else does. After the "
        "last item of an ended execution: `event: end` with `{status, last_seq}`, and the stream closes. Items that "
        "retention has removed are stood for by `event: removed` with `{last_seq, notice}`.",
        also={(200, "text/event-stream"): OpenApiTypes.STR},
        refuses=("not_found", "invalid_parameter", "invalid_header"),
        parameters=(_AFTER, parameter("Last-Event-ID", "The last `seq` that was got.", OpenApiTypes.INT, header=True)),
    )
    def get(self, request: Request, execution_id: int) -> HttpResponseBase:
        query = Query(request, ("after",))
        after = query.whole("after", 0, least=0, most=BIGGEST_ID)
        last = request.META.get("HTTP_LAST_EVENT_ID", "").strip()
        if last:
            if not re.fullmatch(r"[0-9]{1,18}", last):
                raise ApiProblem("invalid_header", "Last-Event-ID is not a number that this stream gave.")
            after = int(last)
        execution = one(request, execution_id)
        stream = Stream(execution.pk, after, viewer_of(request), _unsent(request))
        response = StreamingHttpResponse(stream.events(), content_type="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold the events back
        return response


class Stream:
    """One reader of one execution, at its cursor."""

    def __init__(self, execution_id: int, after: int, viewer: Viewer, unsent_bytes: Callable[[], int]) -> None:
        self.execution_id = execution_id
        self.cursor = after
        self.viewer = viewer
        self.unsent_bytes = unsent_bytes
        self.over = False

    async def events(self) -> AsyncIterator[bytes]:
        """Yield server-sent events to the end of the execution, or until it may not be seen any more.

        When the database cannot be read the stream ends without `end`: the reader comes back with its cursor.
        """
        yield b"retry: 1000\n\n"
        try:
            async with (
                presence.watching(self.viewer, self.execution_id),
                aclosing(hub.changes(self.execution_id, refresh_seconds=HEARTBEAT_SECONDS)) as changes,
            ):
                async for generation in changes:
                    silent = True
                    async for text in self._read_on(generation):
                        await taken(self.unsent_bytes)
                        yield text
                        silent = False
                    if self.over:
                        return
                    if silent:
                        yield b": still here\n\n"
                    await asyncio.sleep(PAUSE_SECONDS)
        except DatabaseError as fault:
            logger.warning("Ended a stream because the database could not be read: %s", fault)
        finally:
            reads.forget(self.execution_id, self.viewer)

    async def _read_on(self, generation: int) -> AsyncIterator[bytes]:
        """Yield what there is after the cursor, looking before each read whether it may still be seen."""
        while True:
            sight = await reads.sight(self.execution_id, self.viewer, generation)
            if sight is None:
                self.over = True
                yield b"event: gone\ndata: {}\n\n"
                return
            if sight.pruned_at is not None and self.cursor < sight.last_seq:
                self.cursor = sight.last_seq
                data = {"last_seq": sight.last_seq, "notice": removal_notice(sight.pruned_at)}
                yield b"event: removed\ndata: %s\n\n" % to_json(data)
            elif self.cursor < sight.last_seq:
                page = await aread_page(self.execution_id, self.cursor, READ_LIMIT)
                for item in page.items:
                    self.cursor = item["seq"]
                    yield b"id: %d\ndata: %s\n\n" % (item["seq"], to_json(item))
                if page.more:
                    generation = hub.generation(self.execution_id)
                    continue
            if sight.final and self.cursor >= sight.last_seq:
                self.over = True
                yield await _end(self.execution_id, sight.last_seq)
            return


async def taken(unsent_bytes: Callable[[], int]) -> None:
    """Wait until the reader has taken most of what was sent: one that stopped reading must not fill our memory.

    However long that is: whoever goes away ends the response, and with it the waiting.
    """
    while unsent_bytes() > MOST_UNSENT_BYTES:  # noqa: ASYNC110  (nobody tells when a transport is read)
        await asyncio.sleep(PAUSE_SECONDS)


@database_sync_to_async
def _status(execution_id: int) -> str:
    return Execution.objects.values_list("status", flat=True).get(pk=execution_id)


async def _end(execution_id: int, last_seq: int) -> bytes:
    return b"event: end\ndata: %s\n\n" % to_json({"status": await _status(execution_id), "last_seq": last_seq})


def viewer_of(request: Request) -> Viewer:
    """Who reads, in the form in which it can be asked again later whether they still may."""
    token = request.auth.value if isinstance(request.auth, Bearer) else None
    return Viewer(caller(request).pk, None if token else request._request.session.session_key, token)


def _unsent(request: Request) -> Callable[[], int]:
    scope: dict[str, Any] = getattr(request._request, "scope", {})
    measure: Callable[[], int] = scope.get("unsent_bytes", lambda: 0)
    return measure


def _prefers_text(request: Request) -> bool:
    accepted = request.META.get("HTTP_ACCEPT", "")
    return "text/plain" in accepted and "json" not in accepted


def _next(request: Request, cursor: int) -> str:
    given = {name: value for name, value in request.query_params.items() if name != "after"}
    return f"{request.path}?{urlencode({**given, 'after': cursor})}"


def _download(
    wanted: Wanted, after: int, unsent_bytes: Callable[[], int], notice: str
) -> StreamingHttpResponse | HttpResponse:
    kind = "text/plain; charset=utf-8"
    response = (
        HttpResponse(f"{notice}\n", content_type=kind)
        if notice
        else StreamingHttpResponse(_text(wanted, after, unsent_bytes), content_type=kind)
    )
    response.headers["Content-Disposition"] = f'attachment; filename="execution-{wanted.execution_id}.txt"'
    response.headers["Cache-Control"] = "no-store"
    return response


async def _text(wanted: Wanted, after: int, unsent_bytes: Callable[[], int]) -> AsyncIterator[bytes]:
    read = database_sync_to_async(read_output, thread_sensitive=False)
    speaking: int | None = None
    line_is_open = False
    while True:
        await taken(unsent_bytes)
        found, more = await read(wanted, after, TEXT_PIECES)
        for piece in found:
            after = piece["seq"]
            if wanted.several and piece["step_target"] != speaking:
                speaking = piece["step_target"]
                name = f"{piece['step']} / {piece['target']}" if piece["target"] else piece["step"]
                yield f"{chr(10) if line_is_open else ''}==> {name} <==\n".encode()
            if piece["text"]:
                line_is_open = not piece["text"].endswith("\n")
                yield piece["text"].encode()
        if not more:
            return

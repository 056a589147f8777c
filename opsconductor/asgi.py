"""The web process: HTTP to Django, sockets to executions/live."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opsconductor.settings")
os.environ.setdefault("DATABASE_ROLE", "app")  # may not change the audit
os.environ.setdefault("DATABASE_POOL", "1")  # many threads, short requests: connections stay open between them
django.setup(set_prefix=False)

from asgiref.sync import sync_to_async  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.sessions import CookieMiddleware, SessionMiddleware  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.base import BaseHandler  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402

from executions.live.consumers import execution_socket, list_socket  # noqa: E402
from executions.tools import get_catalog  # noqa: E402
from opsconductor import request_limits  # noqa: E402
from safety import masking_rules  # noqa: E402

request_limits.install()
get_catalog()  # a bad file among a site's tools ends this process now, not the first request later

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class OneHopHandler(ASGIHandler):
    """Django's handler, with all of a request's middleware and its view in one visit to the request's thread.

    Views and middleware here are synchronous; Django's own handler would go to the thread and back for each of them,
    which costs more than the views do. What streams still does so in the event loop.
    """

    def __init__(self) -> None:
        BaseHandler.__init__(self)  # ASGIHandler's own loads the middleware for the event loop
        self.load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self._answer)(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        masking_rules.refresh_or_go_on()  # one query every few seconds, where waiting for the database is allowed
        return self.get_response(request)


async def no_such_socket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4404})


def measured(application: Application) -> Application:
    """Give the scope `unsent_bytes`: how much of what was sent still waits in this process for the viewer to take it.

    ASGI has no word for that: `send` returns at once, and a viewer who stopped reading would fill our memory with a
    log. Daphne's `send` is bound to its protocol, whose transport knows.
    """

    async def with_measure(scope: dict[str, Any], receive: Any, send: Any) -> None:
        transport = getattr(next(iter(getattr(send, "args", ())), None), "transport", None)
        if transport is not None:
            scope["unsent_bytes"] = lambda: (
                len(getattr(transport, "dataBuffer", b"")) + getattr(transport, "_tempDataLen", 0)
            )
        await application(scope, receive, send)

    return with_measure


# django-stubs knows of views only: channels routes ASGI applications with the same `path`.
SOCKETS: dict[str, Any] = {
    "ws/executions/": list_socket,
    "ws/executions/<int:execution_id>/": execution_socket,
    "<path:rest>": no_such_socket,
    "": no_such_socket,
}

application = ProtocolTypeRouter(
    {
        "http": measured(OneHopHandler()),
        "websocket": measured(
            CookieMiddleware(
                SessionMiddleware(URLRouter([path(route, application) for route, application in SOCKETS.items()]))
            )
        ),
    }
)

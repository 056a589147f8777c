"""What a socket refuses, in the audit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.db import DatabaseError, InterfaceError

from safety import audit
from safety.client_address import forwarded_address
from safety.models import User

log = logging.getLogger(__name__)


def _record(scope: Mapping[str, Any], user_id: int | None, code: str, reason: str) -> None:
    peer = (scope.get("client") or ("",))[0]
    forwarded = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin1")
    try:
        with audit.origin(audit.Door.SOCKET, forwarded_address(peer, forwarded)):
            by = User.objects.filter(pk=user_id).first() if user_id is not None else None
            named: dict[str, Any] = {"object_type": "address", "object_name": scope["path"]}
            if by is None:
                audit.record_strangers_refusal("access.use", code=code, reason=reason, **named)
            else:
                audit.record_refusal("access.use", by=by, code=code, reason=reason, **named)
    except (DatabaseError, InterfaceError) as error:  # who it is could not be looked up
        log.error("A refusal (%s: %s) could not be recorded: %s", scope["path"], code, error)


record_socket_refusal = database_sync_to_async(_record, thread_sensitive=False)

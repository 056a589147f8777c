"""What to sign in to a machine with, from the asset service, for machines that name no secret of ours.

Asked for just before the step, recorded before anybody gets it, never kept: as with a secret of a store.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
from django.db import DatabaseError

from executions.clients import AssetService, Declined, NotReached, Patience, ServiceTrouble, asset_service
from executions.clients.asset_shapes import credential_entries
from executions.connectors.base import Target
from executions.engine.asking import ask_django
from safety import audit
from safety.models import User
from safety.secrets import SecretUnavailable, StoredSecret
from safety.secrets.releasing import Answers, Wanted

log = logging.getLogger(__name__)

READERS = 8
# In the place of a path. A colon is in no path of a secret, so the two are never taken for each other.
PREFIX = "asset-service:"
PLACE = ("hostname", "ip_address", "port")
PATIENCE = Patience(read=5.0, total=10.0, retries=10.0)  # whoever asks, asks again for as long as the step may wait


def path_of(external_id: str) -> str:
    return f"{PREFIX}{external_id}"


def is_of_service(path: str) -> bool:
    return path.startswith(PREFIX)


class ServiceCredentials:
    """Asks the asset service in threads of its own, so that a slow one keeps no secret of a store waiting."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(READERS, "asset-credentials")

    async def read(self, wanted: Wanted) -> Answers:
        """Return for each path what the service gave, with no entries where it has nothing, or why it cannot be had."""
        loop = asyncio.get_running_loop()
        paths = sorted(wanted.paths)
        if not paths:
            return {}
        user = await loop.run_in_executor(self._pool, _requester, wanted)
        if isinstance(user, SecretUnavailable):
            return dict.fromkeys(paths, user)
        given = await asyncio.gather(*(loop.run_in_executor(self._pool, _ask, path) for path in paths))
        answers = dict(zip(paths, given, strict=True))
        return await loop.run_in_executor(self._pool, partial(_recorded, wanted, user, answers))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def check_place(answer: StoredSecret, where: Target) -> None:
    """Raise SecretUnavailable unless the service says that the machine is where this target is.

    It may have moved since the plan was taken in; or somebody here wrote another address or another id into the row,
    and would be shown what the worker signs in with. Connectors go to the address or to the host name, as their
    protocol wants it, so each that is set has to be the service's; and so has the port, where both say one.
    """
    entries = answer.entries or {}
    places = {_as_compared(str(entries[name])) for name in ("hostname", "ip_address") if entries.get(name)}
    here = [place for place in (where.ip_address, where.hostname) if place] or [where.name]
    port = str(entries.get("port") or "")
    other_port = bool(port and where.port and port != str(where.port))
    if all(_as_compared(place) in places for place in here) and not other_port:
        return
    said = " and ".join(sorted(places)) or "nowhere"
    if other_port:
        here, said = [*here, f"port {where.port}"], f"{said}, port {port}"
    raise SecretUnavailable(
        answer.path,
        f"{where.name} is at {' and '.join(here)} here, and the asset service says {said}: its credential was not"
        " used.",
        "Submit the plan again, so that it is for the machine as it is now.",
    )


def _as_compared(place: str) -> str:
    """An address has more than one spelling."""
    try:
        return str(ipaddress.ip_address(place.strip()))
    except ValueError:
        return place.strip().lower()


def _requester(wanted: Wanted) -> User | SecretUnavailable:
    """In a thread: nobody's credential goes to a plan of somebody who has left."""
    try:
        user = ask_django(lambda: User.objects.get(pk=wanted.actor_id))
    except (psycopg.Error, DatabaseError) as error:
        return _database_away(error)
    if user.is_active:
        return user
    return SecretUnavailable(
        PREFIX, "The requester may not use credentials of machines any more.", "Have somebody else submit the plan."
    )


def _ask(path: str) -> StoredSecret | SecretUnavailable:
    number = path.removeprefix(PREFIX)
    service = asset_service()
    if service is None:
        return SecretUnavailable(path, f"No asset service is set up to ask for {path}.", "Set ASSET_SERVICE_URL.")
    try:
        return StoredSecret(path, version="", entries=_entries(service, number))
    except ServiceTrouble as trouble:
        lasting = isinstance(trouble, Declined) or (isinstance(trouble, NotReached) and trouble.why == "tls")
        return SecretUnavailable(
            path,
            f"The credential of asset {number} cannot be had: {trouble.message}",
            "See the runbook on services that do not answer; the step can then be retried.",
            transient=not lasting,
        )


def _entries(service: AssetService, number: str) -> dict[str, Any]:
    """Return the credential, with the place that it is for; nothing when the service has none."""
    data = service.credentials(number, patience=PATIENCE)
    given = credential_entries(data or {})
    return {**given, **{name: data.get(name) for name in PLACE}} if data and given else {}


def _recorded(wanted: Wanted, user: User, answers: Answers) -> Answers:
    """Write down who got what. What cannot be written down is not given out."""
    data = {"execution": wanted.execution_id, "step": wanted.step, "purpose": wanted.purpose}
    entries = [_entry(user, path, answer, data) for path, answer in answers.items()]
    try:
        ask_django(lambda: audit.record_many(entries))
    except (psycopg.Error, DatabaseError) as error:
        return dict.fromkeys(answers, _database_away(error))
    return answers


def _entry(user: User, path: str, answer: StoredSecret | SecretUnavailable, data: dict[str, object]) -> audit.Entry:
    name = f"asset-service/{path.removeprefix(PREFIX)}"
    refused: dict[str, Any] = {}
    if isinstance(answer, SecretUnavailable):
        refused = {"allowed": False, "code": answer.code, "reason": answer.message}
    return audit.Entry(
        action="secret.use", by=user, object_type="secret", object_id=name, object_name=name, data=data, **refused
    )


def _database_away(error: Exception) -> SecretUnavailable:
    log.warning("The use of a credential could not be recorded: %s", type(error).__name__)
    return SecretUnavailable(
        PREFIX,
        "The credentials of the step cannot be released: the database does not answer.",
        "Wait until it does; the step can then be retried.",
        transient=True,
    )

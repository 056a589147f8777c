"""Writing records: one INSERT for any number of them, in the caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import DatabaseError, InterfaceError, connection, transaction

from safety.audit.actions import checked
from safety.masking import mask_data, mask_text
from safety.models import User
from safety.origin import Door, Origin, current_origin

log = logging.getLogger(__name__)

# How long a text of a caller's may be: as long as its column.
_LENGTHS = {
    "actor": 200,
    "object_type": 60,
    "object_id": 300,
    "object_name": 300,
    "code": 60,
    "address": 120,
}
LONGEST_REASON = 4000

# The columns in one place: intake.sql writes the same ones for what is submitted.
_INSERT = """
INSERT INTO safety_auditrecord (tenant_id, at, actor, actor_id, action, object_type, object_id, object_name, allowed,
       code, reason, door, address, data)
SELECT tenant_id, statement_timestamp(), actor, actor_id, action, object_type, object_id, object_name, allowed, code,
       reason, door, address, data
  FROM ROWS FROM (jsonb_to_recordset(%s::jsonb) AS (
           tenant_id bigint, actor text, actor_id bigint, action text, object_type text, object_id text,
           object_name text, allowed boolean, code text, reason text, door text, address text, data jsonb))
       WITH ORDINALITY AS r(tenant_id, actor, actor_id, action, object_type, object_id, object_name, allowed, code,
           reason, door, address, data, place)
 ORDER BY place
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record to be. `by` is the user; where no user acts, `actor` ("system", "worker:3") and `tenant_id`.

    `allowed=False` with `code` and `reason` is a refusal. `data` holds what else matters: names, numbers, counts;
    never a secret.
    """

    action: str
    by: User | None = None
    actor: str = ""
    tenant_id: int | None = None
    object_type: str = ""
    object_id: object = ""
    object_name: str = ""
    allowed: bool = True
    code: str = ""
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def record(
    action: str,
    *,
    by: User | None = None,
    actor: str = "",
    tenant_id: int | None = None,
    object_type: str = "",
    object_id: object = "",
    object_name: str = "",
    allowed: bool = True,
    code: str = "",
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write one record in the transaction that is open now: it is kept if the change is kept, and only then.

    A refusal (`allowed=False`) is written after the transaction that was rolled back, or it would go with it.
    Raises UnknownAction for an action that is not on the list.
    """
    record_many(
        [
            Entry(
                action=action, by=by, actor=actor, tenant_id=tenant_id, object_type=object_type, object_id=object_id,
                object_name=object_name, allowed=allowed, code=code, reason=reason, data=data or {},
            )
        ]
    )  # fmt: skip


def record_many(entries: Sequence[Entry]) -> None:
    """The same for several, with one statement."""
    if not entries:
        return
    rows = [_row(entry) for entry in entries]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [orjson.dumps(rows).decode()])
    if not all(entry.allowed for entry in entries):
        current_origin().refusal_is_recorded = True


def record_refusal(action: str, *, code: str, reason: str, **named: Any) -> None:
    """Write a refusal, after what it refused was rolled back. The refusal itself counts: see `record_refusals`."""
    record_refusals([Entry(action=action, allowed=False, code=code, reason=reason, **named)])


def record_refusals(entries: Sequence[Entry]) -> None:
    """Write refusals when no transaction is open that could take them along.

    Whoever is refused gets to hear why, whatever the database says to this: what cannot be written is logged. So is
    what is refused within a transaction that must be rolled back. Raises UnknownAction, which is a bug.
    """
    if connection.needs_rollback:
        _not_recorded(entries, "its transaction is being rolled back")
        return
    try:
        with transaction.atomic():  # within a transaction of the caller's: a savepoint, so that it can go on
            record_many(entries)
    except (DatabaseError, InterfaceError) as error:
        _not_recorded(entries, str(error).partition("\n")[0])  # its other lines show the row


def _not_recorded(entries: Sequence[Entry], why: str) -> None:
    for entry in entries:
        log.error("A refusal (%s: %s) could not be recorded: %s", entry.action, entry.code, why)


def _nobody(here: Origin) -> str:
    """Who it was where no user acts: whoever started the command, or the system itself."""
    return f"command:{here.address.partition('@')[0]}" if here.door == Door.COMMAND else "system"


def _row(entry: Entry) -> dict[str, Any]:
    here = current_origin()
    by = entry.by
    return {
        "action": checked(entry.action),
        "tenant_id": by.tenant_id if by is not None else entry.tenant_id,
        "actor_id": by.pk if by is not None else None,
        "reason": mask_text(storable(entry.reason))[:LONGEST_REASON],
        "allowed": entry.allowed,
        "door": here.door.value,
        "data": mask_data(plain(entry.data)),
        **{
            name: storable(str(value))[: _LENGTHS[name]]
            for name, value in (
                ("actor", by.actor if by is not None else entry.actor or _nobody(here)),
                ("object_type", entry.object_type),
                ("object_id", entry.object_id),
                ("object_name", entry.object_name),
                ("code", entry.code),
                ("address", here.address),
            )
        },
    }


def plain(value: Any) -> Any:
    """Return what is hashed the same everywhere: texts, whole numbers, truth values, nothing, lists and mappings.

    A number with a fraction has more than one spelling; it becomes text, as everything else does.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**53) < value < 2**53:
        return value
    if isinstance(value, Mapping):
        return {storable(str(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return storable(str(value))


def storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")

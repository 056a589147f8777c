"""The chain in Python: the exact text that is hashed, for whoever verifies, with a database or with an export alone.

A seal's hash is the SHA-256, in lower-case hexadecimal, of the UTF-8 bytes of this JSON array:

    [1, chain, number, hash of the seal before, record id, at, actor, actor_id, action, object_type, object_id,
     object_name, allowed, code, reason, door, address, data]

`1` is the version of the form, `at` is in UTC with microseconds (2026-01-31T22:00:00.000000Z), the hash before the
first seal is 64 zeros. It is spelled as PostgreSQL spells jsonb (safety_audit_text in safety/sql/audit.sql): a blank
after each comma and colon, the keys of an object by their length in bytes and then by their bytes, no escape that JSON
does not ask for.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

FORM = 1
FIRST_PREVIOUS = "0" * 64
INSTALLATION = 0  # the chain of what belongs to no tenant

# The members of a record after its id and before its data, in the order in which they are hashed.
PLAIN_FIELDS = (
    "at", "actor", "actor_id", "action", "object_type", "object_id", "object_name", "allowed", "code", "reason",
    "door", "address",
)  # fmt: skip
# The same as a row of the database gives them; `data` as text, for it is spelled there already.
COLUMNS = """
to_char(r.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), r.actor, r.actor_id, r.action, r.object_type,
r.object_id, r.object_name, r.allowed, r.code, r.reason, r.door, r.address, r.data::text
"""


def hash_of(chain: int, number: int, previous: str, record_id: int, plain: tuple[Any, ...], data: str) -> str:
    """Return the hash that a seal must have: `plain` are the values of PLAIN_FIELDS, `data` is spelled already."""
    head = json.dumps([FORM, chain, number, previous, record_id, *plain], ensure_ascii=False)
    return hashlib.sha256(f"{head[:-1]}, {data}]".encode()).hexdigest()


def spelled(value: Any) -> str:
    """Return the value as PostgreSQL spells it as jsonb."""
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
        return "{" + ", ".join(f"{spelled(key)}: {spelled(one)}" for key, one in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spelled, value)) + "]"
    return json.dumps(value, ensure_ascii=False)

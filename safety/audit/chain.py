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
from dataclasses import dataclass
from typing import Any

FORM = 1
FIRST_PREVIOUS = "0" * 64

# The members of a record after its id, in the order in which they are hashed.
FIELDS = (
    "at", "actor", "actor_id", "action", "object_type", "object_id", "object_name", "allowed", "code", "reason",
    "door", "address", "data",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record with its seal. `fields` are the values of FIELDS."""

    chain: int
    number: int
    record_id: int
    fields: tuple[Any, ...]
    hash: str


def hash_of(sealed: Sealed, previous: str) -> str:
    """Return the hash that the seal must have if nothing was changed and `previous` is the one before it."""
    text = spelled([FORM, sealed.chain, sealed.number, previous, sealed.record_id, *sealed.fields])
    return hashlib.sha256(text.encode()).hexdigest()


def spelled(value: Any) -> str:
    """Return the value as PostgreSQL spells it as jsonb."""
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
        return "{" + ", ".join(f"{spelled(key)}: {spelled(one)}" for key, one in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spelled, value)) + "]"
    return json.dumps(value, ensure_ascii=False)

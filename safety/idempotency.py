"""The idempotency guard's keys. The guard itself is SQL (safety/sql/idempotency.sql): the intake calls it in
the transaction in which it inserts the executions.

A key is the client's own, or else the hash of who asks for what. Its row says until when the same request is answered
with the same execution; an execution that ended without success frees it in the transaction in which it ends.
"""

from __future__ import annotations

import hashlib

MAX_KEY_LENGTH = 255


def client_key(user_id: int, key: str) -> str:
    """Return the stored form of a client's Idempotency-Key: two users' equal keys are two keys.

    Raises ValueError with a sentence when the key is empty, too long or not printable ASCII.
    """
    if not key or len(key) > MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise ValueError(f"An Idempotency-Key is 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
    return f"key:{user_id}:{key}"


def content_key(tenant_id: int, user_id: int, plan_hash: str) -> str:
    """Return the key of a request that has none: equal plans of one actor within the window are one execution."""
    return "plan:" + hashlib.sha256(f"{tenant_id}\0{user_id}\0{plan_hash}".encode()).hexdigest()

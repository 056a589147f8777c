"""Guessing of passwords and tokens is slowed down: who was wrong often waits, longer each time; nobody is locked out.

    of an account from an address   5 tries free, then 2 s, 4 s, ... up to 15 min
    of an account from everywhere   20 free, up to 30 s
    from an address                 50 free, up to 5 min
    tokens from an address          30 free, up to 1 min

An account that signed in from an address in the last 30 days is asked for the first of them alone there: so nobody can
keep its owner out by being wrong from elsewhere, or from the same office. Counts are forgotten after an hour of quiet.
An IPv6 address stands for its /64. The rows are in the database and so the same for all web processes; why so, and not
by a library: docs/decisions/0017-who-signs-in.md.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from safety.client_address import network_of

FORGOTTEN_AFTER = timedelta(hours=1)
KNOWN_FOR = timedelta(days=30)
FIRST_WAIT_SECONDS = 2
SWEPT_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Limit:
    """So many tries are free; then the wait doubles with each, up to `longest_seconds`."""

    kind: str
    free: int
    longest_seconds: int


PAIR = Limit("account at address", 5, 900)
ACCOUNT = Limit("account", 20, 30)
ADDRESS = Limit("address", 50, 300)
TOKENS = Limit("tokens of address", 30, 60)


class MustWait(Exception):
    """There were too many wrong tries. Nothing was checked: try again after `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"There were too many wrong tries. Try again in {wait_words(seconds)}.")
        self.seconds = seconds


# A try is counted before it is checked, and taken back when it was right. Of tries at the same moment each finds the
# row as the one before left it (ON CONFLICT waits for the row's lock), so 50 at once are not 50 tries. A row that must
# wait is not touched: hammering does not make the wait longer, or a stranger could keep somebody waiting for ever.
_COUNT = """
INSERT INTO safety_failedtries AS tries (digest, kind, failures, last_at, wait_until)
SELECT digest, kind, 1, clock_timestamp(), clock_timestamp()
  FROM unnest(%(digests)s::text[], %(kinds)s::text[]) AS given (digest, kind)
 ORDER BY digest
    ON CONFLICT (digest) DO UPDATE
   SET failures = CASE WHEN tries.last_at < clock_timestamp() - %(forgotten)s THEN 1 ELSE tries.failures + 1 END,
       last_at = clock_timestamp(),
       wait_until = clock_timestamp() + CASE
           WHEN tries.last_at < clock_timestamp() - %(forgotten)s THEN interval '0'
           ELSE coalesce((
               SELECT make_interval(secs => least(longest, %(first)s * 2.0 ^ least(tries.failures + 1 - free, 30)))
                 FROM unnest(%(kinds)s::text[], %(free)s::int[], %(longest)s::int[]) AS l (kind, free, longest)
                WHERE l.kind = tries.kind AND tries.failures + 1 >= free), interval '0') END
 WHERE tries.wait_until <= clock_timestamp()
RETURNING digest
"""
_WAIT = "SELECT extract(epoch FROM max(wait_until) - clock_timestamp()) FROM safety_failedtries WHERE digest = ANY(%s)"
_KNOWN = "SELECT 1 FROM safety_failedtries WHERE digest = %s AND proved_at > statement_timestamp() - %s::interval"
# Rows are locked in the order in which tries are counted: two sign-ins at once cannot deadlock.
_RIGHT = """
WITH mine AS MATERIALIZED (
    SELECT digest FROM safety_failedtries WHERE digest = ANY(%(digests)s) ORDER BY digest FOR NO KEY UPDATE
)
UPDATE safety_failedtries AS tries
   SET failures = CASE WHEN tries.digest = %(pair)s THEN 0 ELSE greatest(tries.failures - 1, 0) END,
       wait_until = statement_timestamp(),
       proved_at = CASE WHEN tries.digest = %(pair)s THEN statement_timestamp() END
  FROM mine WHERE tries.digest = mine.digest
"""
# Strangers can make rows: whoever counts takes a few old ones away, so they cannot grow for ever.
_SWEEP = """
DELETE FROM safety_failedtries WHERE digest IN (
    SELECT digest FROM safety_failedtries
     WHERE last_at < statement_timestamp() - %s::interval
       AND (proved_at IS NULL OR proved_at < statement_timestamp() - %s::interval)
     ORDER BY last_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class Try:
    """A try that was counted and may be checked now."""

    digests: tuple[str, ...]
    pair: str


def begin_try(account: str, address: str) -> Try:
    """Count a try of a password before it is checked. Raises MustWait when it may not be checked yet."""
    place, name = network_of(address), account.casefold()
    pair = _digest(PAIR, name, place)
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, [pair, str(KNOWN_FOR)])
        known = cursor.fetchone() is not None
    wanted = {pair: PAIR}
    if not known:
        wanted |= {_digest(ACCOUNT, name): ACCOUNT, _digest(ADDRESS, place): ADDRESS}
    _count(wanted)
    return Try(tuple(wanted), pair)


def was_right(made: Try) -> None:
    """The password was right: the try is no failure, and this account is known at this address."""
    with connection.cursor() as cursor:
        cursor.execute(_RIGHT, {"digests": list(made.digests), "pair": made.pair})


def count_bad_token(address: str) -> None:
    """Count a bearer token that was no good. Raises MustWait when there were too many. Good ones are never asked."""
    _count({_digest(TOKENS, network_of(address)): TOKENS})


def wait_words(seconds: int) -> str:
    """Return the time to wait as a person says it."""
    if seconds < 90:
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    return f"{math.ceil(seconds / 60)} minutes"


def _count(wanted: dict[str, Limit]) -> None:
    limits = list(wanted.values())
    given: dict[str, Any] = {
        "digests": list(wanted),
        "kinds": [limit.kind for limit in limits],
        "free": [limit.free for limit in limits],
        "longest": [limit.longest_seconds for limit in limits],
        "forgotten": FORGOTTEN_AFTER,
        "first": FIRST_WAIT_SECONDS,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_COUNT, given)
        if len(cursor.fetchall()) == len(wanted):
            # After the count, whose rows are locked in order: it waits for nobody, so no two can wait for each other.
            cursor.execute(_SWEEP, [str(FORGOTTEN_AFTER), str(KNOWN_FOR), SWEPT_AT_ONCE])
            return
        cursor.execute(_WAIT, [list(wanted)])
        (seconds,) = cursor.fetchone() or (1,)
        raise MustWait(max(1, math.ceil(seconds)))  # takes back what the other rows counted


def _digest(limit: Limit, *parts: str) -> str:
    """A hash, for what was typed as a user name may be a password."""
    return hashlib.sha256("\0".join((limit.kind, *parts)).encode("utf-8", "surrogatepass")).hexdigest()

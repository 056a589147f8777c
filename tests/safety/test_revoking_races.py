"""A token that is revoked while it makes another one: that one is revoked with it, or is never made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from safety import accounts
from safety.models import ApiToken, AuditRecord, User
from tests.installations import wait_until

# Who waits for this session. Not pg_stat_activity: within a transaction that stays as it was first read.
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
End = Callable[[User, int], Any]
ENDS: list[End] = [
    lambda _user, root: accounts.revoke_token(root),
    lambda user, _root: accounts.revoke_tokens_of(user),
]


@pytest.fixture
def alice(transactional_db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def line(alice: User) -> list[accounts.Issued]:
    """Three tokens, each made with the one before."""
    made = [accounts.make_token(alice)]
    for _ in range(2):
        made.append(accounts.make_token(alice, maker=bearer(made[-1])))
    return made


def bearer(issued: accounts.Issued) -> accounts.Bearer:
    found = accounts.bearer_of(issued.value)
    assert found is not None
    return found


def in_another_session(threads: ThreadPoolExecutor, work: Callable[[], Any]) -> Future[Any]:
    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return threads.submit(run)


def waits_or_is_done(future: Future[Any]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        (waiting,) = cursor.fetchone() or (0,)
    return waiting > 0 or future.done()


@pytest.mark.parametrize("end", ENDS, ids=["one token", "all of a user"])
@pytest.mark.parametrize("depth", [0, 2])
def test_what_is_just_being_made_is_revoked_with_its_maker(
    alice: User, line: list[accounts.Issued], end: End, depth: int
) -> None:
    maker = bearer(line[depth])
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            made = accounts.make_token(alice, maker=maker)
            revoking = in_another_session(threads, lambda: end(alice, line[0].token.pk))
            wait_until(lambda: waits_or_is_done(revoking), what="the other session waits or is done")
        revoking.result(timeout=20)
    assert accounts.bearer_of(made.value) is None
    assert not ApiToken.objects.filter(revoked_at=None).exists()
    revoked = AuditRecord.objects.filter(action="token.revoke").values_list("object_id", flat=True)
    assert sorted(map(int, revoked)) == sorted(ApiToken.objects.values_list("pk", flat=True))


@pytest.mark.parametrize("end", ENDS, ids=["one token", "all of a user"])
@pytest.mark.parametrize("depth", [0, 2])
def test_a_token_that_is_just_being_revoked_makes_no_other(
    alice: User, line: list[accounts.Issued], end: End, depth: int
) -> None:
    maker = bearer(line[depth])
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            end(alice, line[0].token.pk)
            making = in_another_session(threads, lambda: accounts.make_token(alice, maker=maker))
            wait_until(lambda: waits_or_is_done(making), what="the other session waits or is done")
        with pytest.raises(accounts.MakerRevoked):
            making.result(timeout=20)
    assert not ApiToken.objects.filter(revoked_at=None).exists()
    assert AuditRecord.objects.filter(action="token.create").count() == len(line)

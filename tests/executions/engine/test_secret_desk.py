"""The desk at which the executions of a worker ask for secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from django.db import connections

from executions.engine.secrets import SecretDesk
from safety.models import Tenant, User
from safety.secrets import StoredSecret
from safety.secrets.keeping import store_secret
from safety.secrets.releasing import Wanted

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def asker() -> User:
    store_secret(Tenant.objects.get(name="default"), "there", "only-for-this-test", by=None)
    return User.objects.create_superuser("asker")


@pytest.fixture
def desk() -> Iterator[SecretDesk]:
    desk = SecretDesk()
    yield desk
    for closed in [desk._pool.submit(connections.close_all) for _ in range(4)]:
        closed.result()
    desk.close()


async def test_a_wish_that_cannot_be_answered_harms_no_other(asker: User, desk: SecretDesk) -> None:
    """Nobody has this number: whatever fails about one execution, the others go on."""
    bad = Wanted(asker.tenant_id, asker.pk + 1, 1, "a", frozenset({"there"}))
    good = Wanted(asker.tenant_id, asker.pk, 2, "a", frozenset({"there"}))
    answers = await asyncio.gather(*(desk.read(one) for one in (bad, good, bad, good)), return_exceptions=True)
    assert [isinstance(answer, KeyError) for answer in answers] == [True, False, True, False]
    for answer in (answers[1], answers[3]):
        assert isinstance(answer, dict)
        stored = answer["there"]
        assert isinstance(stored, StoredSecret)
        assert stored.value(None) == "only-for-this-test"

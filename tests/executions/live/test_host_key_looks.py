"""Who may pin a host key, and what becomes of two that do so at once. Machines are asked in api/test_host_keys.py."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from guardian.shortcuts import assign_perm

from executions.connectors.ssh.showing import HostKey
from executions.host_keys import pin
from executions.live.host_key_looks import Choice, pin_host_key
from executions.models import Asset, Execution
from executions.services import Refused
from safety.models import AuditRecord, User
from tests.executions.live.rows import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(db: None) -> User:
    return make_user("root", is_superuser=True)


@pytest.fixture
def web(root: User) -> Asset:
    return Asset.objects.create(tenant=root.tenant, name="web-1", ip_address="127.0.0.1", port=1, connection="ssh")


def key_of(asset: Asset) -> str:
    asset.refresh_from_db()
    return asset.host_key


def test_of_two_that_pin_at_once_one_finds_that_it_moved_on(web: Asset, root: User) -> None:
    first, second = Asset.objects.get(pk=web.pk), Asset.objects.get(pk=web.pk)
    assert pin(first, HostKey("ssh-ed25519 AAAA", "SHA256:a"), by=root)
    assert not pin(second, HostKey("ssh-ed25519 BBBB", "SHA256:b"), by=root)
    assert key_of(web) == "ssh-ed25519 AAAA"
    third = Asset.objects.get(pk=web.pk)
    Asset.objects.filter(pk=web.pk).update(credential="ssh/other")
    assert not pin(third, HostKey("ssh-ed25519 CCCC", "SHA256:c"), by=root)


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("granted", 403), ("stranger", 404)])
def test_nobody_pins_without_the_right_to_change_assets(web: Asset, who: str, status: int) -> None:
    user = make_user(who, tenant="other" if who == "stranger" else "default", is_superuser=who == "stranger")
    if who == "viewer":
        user.groups.add(Group.objects.get(name="viewer"))
    if who == "granted":
        assign_perm("execute_modify", user, web)
    with pytest.raises(Refused) as refused:
        pin_host_key(Choice(web.pk, "SHA256:a", ()), by=user)
    assert refused.value.status == status
    assert key_of(web) == ""
    record = AuditRecord.objects.get(action="asset.pin_host_key")
    assert (record.actor_id, record.allowed, record.code) == (user.pk, False, refused.value.code)


@pytest.mark.parametrize("said", ["", "SHA256:", "SHA256:a\0", "MD5:aa:bb", "\ud800"])
def test_what_is_no_fingerprint_is_refused_before_anything_is_asked(web: Asset, root: User, said: str) -> None:
    with pytest.raises(Refused) as refused:
        pin_host_key(Choice(web.pk, said, ()), by=root)
    assert refused.value.code == "invalid_input"
    assert not Execution.objects.exists()

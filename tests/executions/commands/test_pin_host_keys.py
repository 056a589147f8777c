"""pin_host_keys as an operator uses it: what a real server shows gets into the inventory by a yes, and no other way."""

from __future__ import annotations

import io
from typing import Any

import asyncssh
import pytest
from django.core.management import CommandError, call_command

from executions.connectors.ssh.showing import HostKey
from executions.host_keys import pin
from executions.models import Asset, AssetGroup
from safety.models import AuditRecord, Tenant
from tests.sshd import Sshd
from tests.sshd import sshd as sshd

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return Tenant.objects.get(name="default")


@pytest.fixture
def web(tenant: Tenant, sshd: Sshd) -> Asset:
    return Asset.objects.create(tenant=tenant, name="web-1", **{**sshd.asset_fields(), "host_key": ""})


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("pin_host_keys", *arguments, stdout=out, stderr=io.StringIO())
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def key_of(asset: Asset) -> str:
    asset.refresh_from_db()
    return asset.host_key


def other_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def test_a_key_is_shown_first_and_pinned_by_a_yes_alone(web: Asset, sshd: Sshd) -> None:
    code, said = run("web-1", "--dry-run")
    assert (code, key_of(web)) == (0, "")
    assert sshd.fingerprint in said

    with pytest.raises(CommandError, match="--yes"):
        run("web-1")
    assert key_of(web) == ""

    code, said = run("--unpinned", "--yes")
    assert (code, key_of(web)) == (0, sshd.host_key), said
    record = AuditRecord.objects.get(action="asset.pin_host_key")
    assert (record.object_name, record.data["fingerprint"]) == ("web-1", sshd.fingerprint)
    assert run("web-1")[0] == 0, "what is known already needs no yes"


def test_another_key_than_the_known_one_is_left_alone_without_replace(web: Asset, sshd: Sshd) -> None:
    known = other_key()
    Asset.objects.filter(pk=web.pk).update(host_key=known)
    code, said = run("web-1", "--yes")
    assert (code, key_of(web)) == (1, known)
    assert "CHANGED" in said

    assert run("web-1", "--yes", "--replace")[0] == 0
    assert key_of(web) == sshd.host_key


def test_a_fingerprint_that_is_known_counts_as_the_key(web: Asset, sshd: Sshd) -> None:
    Asset.objects.filter(pk=web.pk).update(host_key=f"SHA256:other\n{sshd.fingerprint}")
    assert run("web-1")[0] == 0


def test_a_machine_that_does_not_answer_is_told_and_harms_no_other(tenant: Tenant, web: Asset, sshd: Sshd) -> None:
    Asset.objects.create(tenant=tenant, name="gone", ip_address="127.0.0.1", port=1, connection="ssh")
    group = AssetGroup.objects.create(tenant=tenant, name="web")
    group.assets.set(Asset.objects.filter(tenant=tenant, connection="ssh"))
    code, said = run("--group", "web", "--yes")

    assert (code, key_of(web)) == (1, sshd.host_key)
    assert "not shown" in said


def test_what_was_changed_while_it_was_compared_is_left_alone(web: Asset) -> None:
    compared = Asset.objects.get(pk=web.pk)
    Asset.objects.filter(pk=web.pk).update(ip_address="127.0.0.9")

    assert not pin(compared, HostKey(other_key(), "SHA256:x"))
    assert key_of(web) == ""
    assert not AuditRecord.objects.filter(action="asset.pin_host_key").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one of the three"),
        (("web-1", "--unpinned"), "one of the three"),
        (("nobody",), "no asset nobody"),
        (("localhost",), "Not reached by ssh"),
        (("--group", "nobody"), "no group nobody"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run(*arguments)

"""Pinning host keys: somebody has compared what the machines show, and says that it is theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import asyncssh
from django.db import transaction
from django.db.models.functions import Now

from executions.connectors.ssh.showing import HostKey, Shown, show_host_keys
from executions.connectors.ssh.way import PORT
from executions.models import Asset
from safety import audit
from safety.models import User

FINGERPRINT = "SHA256:"


class Standing(StrEnum):
    """What the keys that a machine shows are to what the inventory says."""

    NEW = "new"
    SAME = "same"
    CHANGED = "CHANGED"
    NONE = "not shown"


def fingerprints_of(host_key: str) -> list[str]:
    """Return the fingerprint of each line of an asset's host_key; a line that cannot be read stands for itself."""
    return [_fingerprint(line) for line in map(str.strip, host_key.splitlines()) if line]


def _fingerprint(line: str) -> str:
    if line.startswith(FINGERPRINT):
        return line.split()[0]
    try:
        fingerprint: str = asyncssh.import_public_key(line).get_fingerprint()
    except asyncssh.KeyImportError:
        return line
    return fingerprint


def standing_of(host_key: str, keys: Iterable[HostKey]) -> Standing:
    """Compare the keys that a machine shows with the host_key of its asset. One that is known is enough."""
    shown = {key.fingerprint for key in keys}
    if not shown:
        return Standing.NONE
    known = fingerprints_of(host_key)
    if not known:
        return Standing.NEW
    return Standing.SAME if shown.intersection(known) else Standing.CHANGED


@dataclass(frozen=True, slots=True)
class Finding:
    """One machine, and what it showed. Written only if the asset is as it was when it was asked."""

    asset: Asset
    shown: Shown

    @property
    def standing(self) -> Standing:
        return standing_of(self.asset.host_key, self.shown.keys)


async def look_at(assets: Sequence[Asset], *, progress: Callable[[int, int], None]) -> list[Finding]:
    """Ask the machines for their host keys, many at the same time; return what they showed, in their order."""
    addresses = [(asset.ip_address or asset.hostname or asset.name, asset.port or PORT) for asset in assets]
    shown = [Shown(error="was not asked")] * len(assets)
    done = 0
    async for place, answer in show_host_keys(addresses):
        shown[place] = answer
        done += 1
        progress(done, len(assets))
    return [Finding(asset, answer) for asset, answer in zip(assets, shown, strict=True)]


def pin(asset: Asset, key: HostKey, *, by: User | None = None) -> bool:
    """Write this key into the inventory, with its record. False when what was compared is not what is there now.

    The row has to be as `asset` is: its host key, where it is reached, and what is sent there. One statement compares
    and sets, so of two that pin at the same time, or one that pins while another edits, one finds nothing to write.
    """
    as_it_was = Asset.objects.filter(
        pk=asset.pk,
        host_key=asset.host_key,
        connection=asset.connection,
        name=asset.name,
        hostname=asset.hostname,
        ip_address=asset.ip_address,
        port=asset.port,
        credential=asset.credential,
    )
    with transaction.atomic():
        if as_it_was.update(host_key=key.line, updated_at=Now()) != 1:
            return False
        audit.record(
            "asset.pin_host_key",
            by=by,
            tenant_id=asset.tenant_id,
            object_type="asset",
            object_id=asset.pk,
            object_name=asset.name,
            data={
                "fingerprint": key.fingerprint,
                "replaced": bool(asset.host_key),
                "instead_of": fingerprints_of(asset.host_key)[:10],
            },
        )
    return True

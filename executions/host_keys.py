"""Pinning host keys: somebody has compared what the machines show, and says that it is theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import asyncssh
from django.db import transaction

from executions.connectors.ssh.showing import Shown, show_host_keys
from executions.connectors.ssh.way import PORT
from executions.models import Asset
from safety import audit
from safety.models import User


class Standing(StrEnum):
    """What the key that a machine shows is to what the inventory says."""

    NEW = "new"
    SAME = "same"
    CHANGED = "CHANGED"
    NONE = "not shown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One machine, and what it showed. Written only if the asset is as it was when it was asked."""

    asset: Asset
    shown: Shown

    @property
    def standing(self) -> Standing:
        if not self.shown.key:
            return Standing.NONE
        known = [line.strip() for line in self.asset.host_key.splitlines() if line.strip()]
        if not known:
            return Standing.NEW
        return Standing.SAME if any(map(self._is_it, known)) else Standing.CHANGED

    def _is_it(self, known: str) -> bool:
        if known.startswith("SHA256:"):
            return known.split()[0] == self.shown.fingerprint
        try:
            return asyncssh.import_public_key(known) == asyncssh.import_public_key(self.shown.key)
        except asyncssh.KeyImportError:
            return False


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


def pin(findings: Sequence[Finding], *, by: User | None = None) -> list[Finding]:
    """Write these keys into the inventory and return those that were written.

    One whose key or address was changed meanwhile is left alone: what was compared is not what is there now.
    """
    pinned: list[Finding] = []
    for finding in findings:
        asset = finding.asset
        with transaction.atomic():
            as_it_was = Asset.objects.filter(
                pk=asset.pk,
                host_key=asset.host_key,
                hostname=asset.hostname,
                ip_address=asset.ip_address,
                port=asset.port,
            )
            if as_it_was.update(host_key=finding.shown.key) != 1:
                continue
            audit.record(
                "asset.pin_host_key",
                by=by,
                tenant_id=asset.tenant_id,
                object_type="asset",
                object_id=asset.pk,
                object_name=asset.name,
                data={"fingerprint": finding.shown.fingerprint, "replaced": bool(asset.host_key)},
            )
        pinned.append(finding)
    return pinned

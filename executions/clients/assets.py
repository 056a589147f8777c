"""The client of the asset service: the inventory of an installation that has one already.

It knows no filter by host name or address, and ignores parameters that it does not know. So nothing that it lists is
taken for a match: every row is compared here, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from executions.clients.asset_shapes import AssetPage, ServiceAsset
from executions.clients.client import IN_A_WORKER, Patience, Reply, ServiceClient
from executions.clients.troubles import BadAnswer, Declined
from executions.inventory import is_short_host_name, parse_address
from opsconductor.service_settings import ServiceSettings

PAGE_ROWS = 1000
MOST_ROWS = 200_000
READINGS = 3  # of a list that changes while it is read
LARGEST_CREDENTIAL_BYTES = 1024 * 1024
NOT_THERE = frozenset({404, 410, 422})  # 422: what was asked for can be no id of that service


class AssetService:
    """Asks the asset service. Every call raises ServiceTrouble when it cannot be answered."""

    def __init__(self, service: ServiceSettings, *, patience: Patience = IN_A_WORKER) -> None:
        self.client = ServiceClient(service, probe_path="/health")
        self._patience = patience

    def get(self, asset_id: str, *, patience: Patience | None = None) -> ServiceAsset | None:
        """Return the asset with this id, None when there is none."""
        reply = self._get(f"/{quote(asset_id, safe='')}", None, patience)
        if reply is None:
            return None
        try:
            asset = ServiceAsset.model_validate(_data(reply))
        except ValidationError:
            raise _not_an_asset() from None
        if asset.id != asset_id:
            raise BadAnswer("asset", f"The asset service was asked for {asset_id!r} and answered with {asset.id!r}.")
        return asset

    def search(self, text: str = "", *, patience: Patience | None = None) -> Sequence[ServiceAsset]:
        """Return all rows that the service finds for `text` in name, host name or description; all without a text.

        Rows come newest first, a page at a time: a list that changes meanwhile is read again, for a row could have
        slipped from one page to another.
        """
        for _ in range(READINGS):
            rows, is_whole = self._read_all({"search": text} if text else {}, patience)
            if is_whole:
                return rows
        raise BadAnswer("asset", f"The list of the asset service changed {READINGS} times while it was read.")

    def all_assets(self, *, patience: Patience | None = None) -> Sequence[ServiceAsset]:
        """Return every asset that the service has, active or not."""
        return self.search(patience=patience)

    def candidates(self, reference: str, *, patience: Patience | None = None) -> list[ServiceAsset]:
        """Return the assets that `reference` could name: by id, address, host name, name or short host name, exactly.

        Which of these decides, and whether several are too many, is for the inventory to say.
        """
        found: dict[str, ServiceAsset] = {}
        if _may_be_id(reference) and (asset := self.get(reference, patience=patience)) is not None:
            found[asset.id] = asset
        # The service does not search in addresses, so for one of them every row has to be looked at.
        wanted = parse_address(reference)
        for row in self.search("" if wanted else reference, patience=patience):
            if names(row, reference):
                found[row.id] = row
        return list(found.values())

    def credentials(self, asset_id: str, *, patience: Patience | None = None) -> dict[str, Any] | None:
        """Return the answer about how to sign in to an asset, secrets and all; None when the service has nothing."""
        path = f"/{quote(asset_id, safe='')}/credentials"
        reply = self._get(path, None, patience, largest=LARGEST_CREDENTIAL_BYTES)
        if reply is None:
            return None
        data = _data(reply)
        given = data.get("asset_id")
        if given is not None and str(given) != asset_id:
            raise BadAnswer("asset", f"The asset service was asked for {asset_id!r} and answered with another asset.")
        return data

    def health(self, *, patience: Patience | None = None) -> dict[str, Any]:
        """Return what the service says of its own health."""
        return self.client.get("/health", patience=patience or self._patience).object()

    def _get(
        self, path: str, params: dict[str, str | int] | None, patience: Patience | None, **limits: int
    ) -> Reply | None:
        try:
            return self.client.get(path, params, patience=patience or self._patience, **limits)
        except Declined as refusal:
            if refusal.status in NOT_THERE:
                return None
            raise

    def _read_all(self, filters: dict[str, str], patience: Patience | None) -> tuple[list[ServiceAsset], bool]:
        """Read the list once; return its rows, each once, and whether it stood still meanwhile.

        The end is a page that is not full, unless `total` says that there is more: neither is believed alone.
        """
        rows: dict[str, ServiceAsset] = {}
        totals: set[int | None] = set()
        read = 0
        while True:
            page = self._page({**filters, "skip": read, "limit": PAGE_ROWS}, patience)
            before = len(rows)
            rows.update((asset.id, asset) for asset in page.assets)
            totals.add(page.total)
            read += len(page.assets)
            is_full = len(page.assets) >= (page.limit or PAGE_ROWS)
            if not page.assets or (not is_full and read >= (page.total or 0)):
                break
            if len(rows) == before:
                return [], False  # the same rows again
            if read > MOST_ROWS:
                raise BadAnswer("asset", f"The asset service lists more than {MOST_ROWS:,} assets.")
        stood_still = len(rows) == read and (totals == {None} or totals == {read})
        return list(rows.values()), stood_still

    def _page(self, params: dict[str, str | int], patience: Patience | None) -> AssetPage:
        reply = self.client.get("/", params, patience=patience or self._patience)
        try:
            return AssetPage.model_validate(_data(reply))
        except ValidationError:
            raise _not_an_asset() from None


def names(asset: ServiceAsset, reference: str) -> bool:
    """Whether an asset is what `reference` names, by address, host name, name or short host name."""
    host_name = reference.lower()
    address = parse_address(reference)
    return (
        (address is not None and asset.ip_address == address)
        or asset.hostname.lower() == host_name != ""
        or asset.name == reference != ""
        or (is_short_host_name(host_name) and asset.short_host_name == host_name)
    )


def _may_be_id(reference: str) -> bool:
    """Ids are numbers or UUIDs; a name is not asked for as one."""
    plain = reference.replace("-", "").lower()
    return plain.isascii() and (reference.isdigit() or (len(plain) == 32 and not plain.strip("0123456789abcdef")))


def _data(reply: Reply) -> dict[str, Any]:
    answer = reply.object()
    data = answer.get("data")
    if answer.get("success") is False or not isinstance(data, dict):
        raise BadAnswer("asset", "The asset service answered without the data that it was asked for.")
    return data


def _not_an_asset() -> BadAnswer:
    return BadAnswer("asset", "The asset service answered with something that is no asset, or no list of them.")

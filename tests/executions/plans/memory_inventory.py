"""An inventory in memory, with the promises of the Protocol and nothing behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from executions.plans import InventoryAsset


def asset(
    asset_id: int,
    name: str,
    hostname: str | None = None,
    ip_address: str | None = None,
    *,
    connection: str = "ssh",
    environment: str = "production",
    criticality: str = "medium",
    tags: tuple[str, ...] = (),
    **row: object,
) -> InventoryAsset:
    return InventoryAsset(
        asset_id, name, hostname, ip_address, connection, environment, criticality, tags, {"os_type": "linux", **row}
    )


LOCALHOST = asset(1, "localhost", "localhost", "127.0.0.1", connection="local", environment="development")
WEB_1 = asset(2, "web-1", "web-1.example.com", "10.0.0.1", tags=("web",))
WEB_2 = asset(3, "web-2", "web-2.example.com", "10.0.0.2", tags=("web",), criticality="high")
DB = asset(4, "db", "db.example.com", None, environment="staging")
TWIN_A = asset(5, "twin", "twin.a.example.com", "10.0.1.1")
TWIN_B = asset(6, "twin", "twin.b.example.com", "10.0.1.2")
NUMBER = asset(7, "42", "fortytwo.example.com", "10.0.2.1")


class MemoryInventory:
    def __init__(
        self, assets: Sequence[InventoryAsset] = (), groups: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        self.assets = list(assets) or [LOCALHOST, WEB_1, WEB_2, DB, TWIN_A, TWIN_B, NUMBER]
        self.groups = {"web": [2, 3], "nobody": []} if groups is None else groups
        self.lookups: list[str] = []

    def lookup(self, ref: str) -> Sequence[InventoryAsset]:
        self.lookups.append(ref)
        keys = (
            lambda one: str(one.asset_id),
            lambda one: one.ip_address,
            lambda one: one.hostname,
            lambda one: one.name,
            lambda one: (one.hostname or "").split(".")[0],
        )
        for key in keys:
            if found := [one for one in self.assets if key(one) == ref]:
                return found
        return []

    def group(self, name: str) -> Sequence[InventoryAsset] | None:
        if name not in self.groups:
            return None
        return [one for one in self.assets if one.asset_id in self.groups[name]]

    def tag(self, tag: str) -> Sequence[InventoryAsset]:
        return [one for one in self.assets if tag in one.tags]

    def query(self, filters: Mapping[str, object], fields: Sequence[str] | None) -> Sequence[Mapping[str, object]]:
        rows = [
            {
                "id": one.asset_id,
                "name": one.name,
                "hostname": one.hostname,
                "ip_address": one.ip_address,
                "environment": one.environment,
                "tag": one.tags[0] if one.tags else None,
            }
            for one in self.assets
        ]
        for name in (*filters, *(fields or ())):
            if name not in rows[0]:
                raise ValueError(f"There is no filter or field {name}.")
        rows = [row for row in rows if all(row[name] == wanted for name, wanted in filters.items())]
        return rows if fields is None else [{name: row[name] for name in fields} for row in rows]

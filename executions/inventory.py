"""The embedded inventory as plans see it: exact lookups in the assets of one tenant.

An inactive asset (`is_active` false) is no target: lookups, groups and tags leave it out, and so does a query that does
not ask for inactive ones. Host names are compared without regard to case, all else exactly.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from django.db.models import Q, QuerySet

from executions.inventory_queries import ROW_FIELDS, asset_condition, check_fields
from executions.models import Asset, AssetGroup, Connection
from executions.plans.inventory import InventoryAsset
from opsconductor.prepared import prepared_cursor
from safety.models import User
from safety.rbac import visible_assets

PREFETCH_ROWS = 5_000  # a tenant with more assets is asked reference by reference
SINGLE_LOOKUPS = 8  # so many references are looked up one by one before it pays to load everything
MAX_ID = 2**63 - 1

# By whom, and with what, a machine is signed in to, and what it shows to be the one that is meant.
SIGN_IN = ("username", "domain", "credential", "host_key")

_COLUMNS = tuple(dict.fromkeys((*ROW_FIELDS, "connection", "external_id", *SIGN_IN)))

# Asked for every reference of a single plan: building it with the ORM costs several times what asking it does.
_CANDIDATES = f"""
SELECT {", ".join(_COLUMNS)} FROM executions_asset
 WHERE tenant_id = %(tenant)s AND is_active
   AND (name = %(name)s OR lower(hostname) = %(host_name)s OR starts_with(lower(hostname), %(beginning)s)
        OR id = %(id)s::bigint OR ip_address = %(address)s::inet)
 ORDER BY id
"""


class TenantInventory:
    """The active assets of one tenant, for compiling plans. Answers are kept: make a new one for each request.

    A plan with few references costs a query each; a batch with many loads the whole inventory once, if it is not
    above PREFETCH_ROWS. Not for use by several threads at once.
    """

    def __init__(self, tenant_id: int, *, seen_by: User | None = None) -> None:
        """seen_by: a query finds what this user may see, and no more. What a plan names is found all the same: whether
        the user may run it there is for others to say, and to say it without a name."""
        self.tenant_id = tenant_id
        self._seen_by = seen_by
        self._visible: Q | None = None
        self._index: Index | None = None
        self._is_too_large = False
        self._single_lookups = 0
        self._by_ref: dict[str, Sequence[InventoryAsset]] = {}
        self._by_group: dict[str, Sequence[InventoryAsset] | None] = {}
        self._by_tag: dict[str, Sequence[InventoryAsset]] = {}
        self._by_query: dict[str, Sequence[Mapping[str, object]]] = {}

    def lookup(self, ref: str) -> Sequence[InventoryAsset]:
        """Return the assets that `ref` names: by id, else IP address, full host name, name, or short host name.

        The first of these keys with any match decides. Two or more results: the reference is ambiguous.
        """
        if "\x00" in ref:  # PostgreSQL stores no such text, and refuses to look for it
            return []
        if ref not in self._by_ref:
            if self._index is None and self._single_lookups >= SINGLE_LOOKUPS:
                self.prefetch()
            self._by_ref[ref] = (self._index or self._candidates(ref)).lookup(ref)
        return self._by_ref[ref]

    def group(self, name: str) -> Sequence[InventoryAsset] | None:
        """Return the members of a group; None when there is no such group."""
        if "\x00" in name:
            return None
        if name not in self._by_group:
            group = AssetGroup.objects.filter(tenant_id=self.tenant_id, name=name).values_list("pk", flat=True).first()
            self._by_group[name] = None if group is None else self._load(Q(groups=group))
        return self._by_group[name]

    def tag(self, tag: str) -> Sequence[InventoryAsset]:
        """Return the assets that carry a tag."""
        if "\x00" in tag:
            return []
        if tag not in self._by_tag:
            self._by_tag[tag] = self._load(Q(tags__contains=[tag]))
        return self._by_tag[tag]

    def query(self, filters: Mapping[str, object], fields: Sequence[str] | None) -> Sequence[Mapping[str, object]]:
        """Return the rows of an asset-query by ascending id; `fields` None means all of ROW_FIELDS.

        Raises ValueError with a sentence for an unknown filter or field, or a filter value that cannot be meant.
        """
        wanted = check_fields(fields)
        condition, limit = asset_condition(filters)
        key = repr((sorted(filters.items()), wanted))
        if key not in self._by_query:
            assets = self._assets().filter(condition, self._in_sight()).order_by("pk")
            rows = (asset_row(values) for values in assets.values(*ROW_FIELDS)[:limit])
            self._by_query[key] = [{name: row[name] for name in wanted} for row in rows]
        return self._by_query[key]

    def _in_sight(self) -> Q:
        if self._visible is None:
            self._visible = Q() if self._seen_by is None else visible_assets(self._seen_by)
        return self._visible

    def prefetch(self) -> None:
        """Load all assets, if they are not too many, so that further lookups cost nothing."""
        if self._index is None and not self._is_too_large:
            ids = self._assets().filter(is_active=True).order_by("pk").values("pk")
            self._is_too_large = ids[PREFETCH_ROWS : PREFETCH_ROWS + 1].exists()
            self._index = None if self._is_too_large else Index(self._load(Q()))

    def _assets(self) -> QuerySet[Asset]:
        """Return the assets that there are, active or not."""
        return Asset.objects.filter(tenant_id=self.tenant_id)

    def _candidates(self, ref: str) -> Index:
        """Return every asset that matches `ref` by any key, in one query."""
        return Index(self._matches(ref))

    def _matches(self, ref: str) -> list[InventoryAsset]:
        self._single_lookups += 1
        host_name = ref.lower()
        keys: dict[str, str | int | None] = {
            "tenant": self.tenant_id,
            "name": ref,
            "host_name": host_name,
            "beginning": f"{host_name}." if is_short_host_name(host_name) else None,
            "id": parse_id(ref),
            "address": parse_address(ref),
        }
        with prepared_cursor() as cursor:
            cursor.execute(_CANDIDATES, keys)
            rows = cursor.fetchall()
        return [_inventory_asset(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def _load(self, condition: Q) -> list[InventoryAsset]:
        return self._shown(self._assets().filter(condition, is_active=True))

    @staticmethod
    def _shown(assets: QuerySet[Asset]) -> list[InventoryAsset]:
        return [_inventory_asset(values) for values in assets.order_by("pk").values(*_COLUMNS)]


class Index:
    """Assets by each of the keys that a reference can be."""

    def __init__(self, assets: Iterable[InventoryAsset]) -> None:
        self.assets = list(assets)
        self._ids: dict[int, list[InventoryAsset]] = {}
        self._addresses: dict[str, list[InventoryAsset]] = defaultdict(list)
        self.host_names: dict[str, list[InventoryAsset]] = defaultdict(list)
        self.names: dict[str, list[InventoryAsset]] = defaultdict(list)
        self.short_host_names: dict[str, list[InventoryAsset]] = defaultdict(list)
        for asset in self.assets:
            self._ids[asset.asset_id] = [asset]
            self.names[asset.name].append(asset)
            if asset.ip_address:
                self._addresses[asset.ip_address].append(asset)
            if asset.hostname:
                host_name = asset.hostname.lower()
                self.host_names[host_name].append(asset)
                if parse_address(host_name) is None:
                    self.short_host_names[host_name.split(".", 1)[0]].append(asset)

    def by_id(self, ref: str) -> Sequence[InventoryAsset]:
        asset_id = parse_id(ref)
        return self._ids.get(asset_id, ()) if asset_id is not None else ()

    def by_address(self, ref: str) -> Sequence[InventoryAsset]:
        address = parse_address(ref)
        return self._addresses.get(address, ()) if address is not None else ()

    def lookup(self, ref: str) -> Sequence[InventoryAsset]:
        host_name = ref.lower()
        return (
            self.by_id(ref)
            or self.by_address(ref)
            or self.host_names.get(host_name)
            or self.names.get(ref)
            or self.short_host_names.get(host_name)
            or []
        )


def parse_id(ref: str) -> int | None:
    """Return `ref` as the id of an asset, None when it cannot be one."""
    if not (ref.isascii() and ref.isdigit()) or len(ref) > len(str(MAX_ID)):
        return None
    number = int(ref)
    return number if number <= MAX_ID else None


def parse_address(ref: str) -> str | None:
    """Return `ref` as an IP address in its canonical spelling, None when it is none."""
    try:
        return str(ipaddress.ip_address(ref))
    except ValueError:
        return None


def is_short_host_name(ref: str) -> bool:
    return bool(ref) and "." not in ref


def asset_row(values: Mapping[str, object]) -> dict[str, object]:
    """Return the columns of an asset as JSON values: nothing given is null, times are ISO 8601."""
    return {name: _json_value(values[name]) for name in ROW_FIELDS}


def _json_value(value: object) -> object:
    if value == "":
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _inventory_asset(values: Mapping[str, object]) -> InventoryAsset:
    row = asset_row(values)
    tags = row["tags"]
    assert isinstance(tags, list)
    return InventoryAsset(
        asset_id=int(str(row["id"])),
        name=str(row["name"]),
        hostname=_text(row["hostname"]),
        ip_address=_text(row["ip_address"]),
        connection=str(values["connection"]),
        environment=str(values["environment"]),
        criticality=str(values["criticality"]),
        tags=tuple(tags),
        row=row,
        external_id=str(values["external_id"]),
        port=None if row["port"] is None else int(str(row["port"])),
        sign_in=sign_in_of(values),
    )


def sign_in_of(asset: Mapping[str, object]) -> tuple[str, ...]:
    """Return user name, domain, path of the credential, and a digest of the host keys, empty without any; nothing of a
    machine that nobody signs in to."""
    if asset["connection"] in ("", Connection.LOCAL):
        return ()
    username, domain, credential, host_key = (str(asset[name] or "") for name in SIGN_IN)
    keys = sorted({line.strip() for line in host_key.splitlines() if line.strip()})
    return username, domain, credential, hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16] if keys else ""


def _text(value: object) -> str | None:
    return None if value is None else str(value)

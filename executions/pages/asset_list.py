"""The list of assets: which ones, from the parameters of the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Q

from executions.connections import connection_names
from executions.models import Asset, AssetQuerySet, Health
from executions.pages.looks import HEALTH, UNCHECKED, Look
from queueing.models import AssetLock
from safety import rbac
from safety.models import User

SHOWN = 500
FILTERS = ("q", "environment", "group", "tag", "connection", "health", "stale")
NONE = "none"  # the word of the address for what was never checked


@dataclass(frozen=True, slots=True)
class HealthChip:
    look: Look
    count: int
    chosen: bool
    query: str


@dataclass(frozen=True, slots=True)
class AssetRow:
    asset: Asset
    locks: list[AssetLock]

    @property
    def look(self) -> Look:
        return HEALTH.get(self.asset.health, UNCHECKED)


@dataclass
class AssetListing:
    """One page of the list. Everything is read when it is asked for."""

    user: User
    parameters: Mapping[str, str]
    filters: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.filters = {name: self.parameters.get(name, "").replace("\0", "").strip() for name in FILTERS}

    @property
    def active(self) -> bool:
        return any(self.filters.values())

    @property
    def connections(self) -> list[str]:
        return connection_names()

    @cached_property
    def _page(self) -> list[Asset]:
        rows = self._visible.saying_stale().filter(self._condition()).prefetch_related("groups")
        return list(rows.order_by("name")[: SHOWN + 1])

    @property
    def _visible(self) -> AssetQuerySet:
        return Asset.objects.filter(rbac.visible_assets(self.user))

    @property
    def is_cut(self) -> bool:
        return len(self._page) > SHOWN

    @cached_property
    def rows(self) -> list[AssetRow]:
        shown = self._page[:SHOWN]
        locks: dict[int, list[AssetLock]] = {}
        held = AssetLock.objects.filter(asset_id__in=[asset.pk for asset in shown], state="held")
        for lock in held.order_by("held_at"):
            locks.setdefault(lock.asset_id, []).append(lock)
        return [AssetRow(asset, locks.get(asset.pk, [])) for asset in shown]

    @cached_property
    def chips(self) -> list[HealthChip]:
        """What the last checks found, and what is stale: of all assets that the user may see. One query."""
        counted: dict[str, Any] = {
            word or NONE: Count("pk", filter=Q(health=word, is_active=True)) for word in ("", *Health.values)
        }
        found = self._visible.saying_stale().aggregate(**counted, stale=Count("pk", filter=Q(is_stale=True)))
        chips = [
            self._chip("health", word, HEALTH.get(word, UNCHECKED), found[word]) for word in (*Health.values, NONE)
        ]
        stale = Look("Stale", "hourglass", "has not been heard of for long", "pending_approval")
        return [*chips, self._chip("stale", "true", stale, found["stale"])]

    def _chip(self, name: str, word: str, look: Look, count: int) -> HealthChip:
        chosen = self.filters[name] == word
        query = {**self.filters, name: "" if chosen else word}
        return HealthChip(look, count, chosen, urlencode({key: value for key, value in query.items() if value}))

    def _condition(self) -> Q:
        f = self.filters
        condition = Q()
        if words := f["q"]:
            address = Q(ip_address__startswith=words) if words[:1].isdigit() else Q()
            condition &= Q(name__icontains=words) | Q(hostname__icontains=words) | address
        if f["environment"]:
            condition &= Q(environment__iexact=f["environment"])
        if f["group"]:
            members = Asset.groups.through.objects.filter(assetgroup__name=f["group"])
            condition &= Q(pk__in=members.values("asset_id"))
        if f["tag"]:
            condition &= Q(tags__contains=[f["tag"]])
        if f["connection"]:
            condition &= Q(connection=f["connection"])
        if f["health"]:
            condition &= Q(health="" if f["health"] == NONE else f["health"], is_active=True)
        if f["stale"]:
            condition &= Q(is_stale=f["stale"] == "true")
        return condition

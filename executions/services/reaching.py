"""How the machines of a plan would be reached, and what stands in the way, for people who look before they submit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Q

from executions.clients import is_asset_service_of
from executions.models import Asset, Connection
from executions.plans import CompiledPlan
from executions.services.plan_secrets import PlanSecrets

MOST_NAMED = 5


def machines_of(plan: CompiledPlan, secrets: PlanSecrets) -> list[dict[str, Any]]:
    """Return each machine with where, as whom, with which credential and by which host key it would be reached.

    Three queries for the machines, and one to the store of secrets for all their credentials.
    """
    assets = Asset.objects.in_bulk(plan.targets)
    stale = set(Asset.objects.stale().filter(pk__in=assets).values_list("pk", flat=True))
    elsewhere = _places_of_others(assets)
    credentials = secrets.credentials({asset.credential for asset in assets.values() if asset.credential})
    of_service = any(map(is_asset_service_of, {asset.tenant_id for asset in assets.values() if asset.external_id}))
    return [
        {
            "asset": use.name,
            "asset_id": use.asset_id,
            "connection": asset.connection,
            "address": _address(asset),
            "user": asset.username,
            "environment": use.environment,
            "criticality": asset.criticality,
            "lock": "exclusive" if use.exclusive else "shared",
            "credential": credentials.get(asset.credential) or _of_service(asset, of_service),
            "host_key": _host_key(asset),
            "health": asset.health,
            "checked_at": asset.checked_at,
            "stale": use.asset_id in stale,
            "status": asset.status,
            "same_place": _place(asset) in elsewhere,
        }
        for use in plan.targets.values()
        if (asset := assets.get(use.asset_id)) is not None
    ]


def warnings_of(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return in sentences why a step could not begin on some of the machines, as far as that can be seen from here."""
    unstored: dict[str, list[str]] = defaultdict(list)
    unnamed: list[str] = []
    unknown: list[str] = []
    stale: list[str] = []
    twins: list[str] = []
    said: list[str] = []
    for machine in machines:
        if machine["status"] not in ("", "active"):
            said.append(f"The inventory says of {machine['asset']} that its status is {machine['status']}.")
        if machine["same_place"]:
            twins.append(machine["asset"])
        if machine["stale"]:
            stale.append(machine["asset"])
        credential = machine["credential"]
        if credential is not None and credential["state"] == "missing":
            unstored[credential["path"]].append(machine["asset"])
        elif credential is None and machine["connection"] in (Connection.SSH, Connection.POWERSHELL):
            unnamed.append(machine["asset"])
        if machine["host_key"] == "unknown":
            unknown.append(machine["asset"])
    said += [
        f"The credential {path} of {_named(names)} is not there. Store it with manage.py set_secret {path}."
        for path, names in unstored.items()
    ]
    if unnamed:
        said.append(f"No credential is named for {_named(unnamed)}. Name the path of a secret in the inventory.")
    if unknown:
        said.append(
            f"The inventory knows no host key of {_named(unknown)}. Compare and pin it: on its page,"
            " or with manage.py pin_host_keys."
        )
    if stale:
        said.append(
            f"Nobody has heard of {_named(stale)} for {settings.ASSET_STALE_AFTER.days} days, or its source does not"
            " have it any more. See whether it is still there: manage.py check_assets."
        )
    if twins:
        said.append(
            f"Another asset is at the same address and port as {_named(twins)}: a lock on one does not lock the other."
            " Keep one of them in the inventory."
        )
    return said


def _place(asset: Asset) -> tuple[str, int | None] | None:
    """Where a machine is, as far as two rows can be compared; None where one asset is as good as another."""
    if asset.connection not in (Connection.SSH, Connection.POWERSHELL):
        return None
    usual = 22 if asset.connection == Connection.SSH else 5986
    host = str(asset.ip_address or asset.hostname or "").lower()
    return (host, asset.port or usual) if host else None


def _places_of_others(assets: Mapping[int, Asset]) -> set[tuple[str, int | None] | None]:
    """Return the places at which some other asset in use is, too: outside the plan, or in it a second time."""
    places = [place for asset in assets.values() if (place := _place(asset)) is not None]
    if not places:
        return set()
    tenants = {asset.tenant_id for asset in assets.values()}
    hosts = [asset.hostname for asset in assets.values() if asset.hostname and not asset.ip_address]
    addresses = [asset.ip_address for asset in assets.values() if asset.ip_address]
    near = Asset.objects.filter(Q(ip_address__in=addresses) | Q(hostname__in=hosts), is_active=True, tenant__in=tenants)
    others = {_place(asset) for asset in near.exclude(pk__in=assets)}
    return (others & set(places)) | {place for place in places if places.count(place) > 1}


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return f"{shown} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else shown


def _address(asset: Asset) -> str:
    if asset.connection == Connection.LOCAL:
        return "the worker's own machine"
    host = asset.ip_address or asset.hostname or asset.name
    return f"{host}:{asset.port}" if asset.port else host


def _of_service(asset: Asset, is_asked: bool) -> dict[str, Any] | None:
    """The credential that a worker asks the asset service for; whether it has one is not asked from here."""
    if not (is_asked and asset.external_id):
        return None
    return {"path": f"asset-service/{asset.external_id}", "state": "unknown"}


def _host_key(asset: Asset) -> str:
    """Return known or unknown; empty where there is no such thing, or the automation service has to know."""
    if asset.connection != Connection.SSH or settings.AUTOMATION_SERVICE is not None:
        return ""
    return "known" if asset.host_key else "unknown"

"""Whether the machines of a stored plan still are what they were when it was taken in, and was shown to approvers.

An approval is for a plan on these machines. A plan names them one by one, or through groups, tags and queries; it was
resolved once, at submit. Since then a machine may have come into a group, been taken out of use, been given another
address, credential or host key, or moved to another environment: then it is not what was approved. What is stored under
a credential's path may change: a new password is the same account.

A machine that the plan names itself is the one that it was, as long as that one is unchanged: that another one has come
to have the same short host name does not matter any more.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executions.inventory import SIGN_IN, TenantInventory, sign_in_of
from executions.models import Asset
from safety.models import User

# What approvers are shown of a machine. A plan that was stored by an earlier release knows less of it.
SHOWN = ("name", "hostname", "ip_address", "connection", "environment", "criticality", "port", "sign_in")
_NOT_ALWAYS_KNOWN = frozenset({"port", "sign_in"})
_PLAIN = tuple(name for name in SHOWN if name != "sign_in")
MOST_NAMED = 5  # machines in one sentence

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlanOfTenant:
    """A stored plan, and whose it is. actor_id: its requester, whose asset-queries find what they may see."""

    tenant_id: int
    document: Mapping[str, Any]
    actor_id: int


def targets_hash(document: Mapping[str, Any]) -> str:
    """Return SHA-256, in hex, over what approvers are shown of the plan's machines and how they were found."""
    machines = {str(number): _shown(facts) for number, facts in _machines(document).items()}
    steps = [[target["asset_id"] for target in step["targets"]] for step in document["steps"]]
    form = json.dumps([machines, steps, document.get("selectors", [])], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(form.encode()).hexdigest()


def changes_of(plans: Mapping[int, PlanOfTenant]) -> dict[int, list[str]]:
    """Return, by the plan's key, sentences that say what has changed; plans without a change are left out.

    One query for all machines, one for all groups, one for all tags, and for asset-queries one for all requesters and
    a few for each.
    """
    machines = {key: _machines(plan.document) for key, plan in plans.items()}
    now = _assets({number for facts in machines.values() for number in facts})
    members = _members(plans.values())
    found: dict[int, list[str]] = {}
    for key, plan in plans.items():
        said = [
            sentence
            for number, facts in machines[key].items()
            if (sentence := _change(facts, now.get(number), plan.tenant_id))
        ]
        for selector in plan.document.get("selectors", []):
            said += _moved(selector, members[_key(plan, selector)])
        if said:
            found[key] = said
    return found


def out_of_use(asset_ids: Collection[int]) -> dict[int, str]:
    """Return those of the assets that nothing may touch any more, with what became of them. One query."""
    if not asset_ids:
        return {}
    in_use = dict(Asset.objects.filter(pk__in=asset_ids).values_list("pk", "is_active"))
    return {
        number: "was taken out of use" if number in in_use else "was removed from the inventory"
        for number in asset_ids
        if not in_use.get(number, False)
    }


def _machines(document: Mapping[str, Any]) -> dict[int, Facts]:
    return {target["asset_id"]: target for step in document["steps"] for target in step["targets"]}


def _shown(facts: Facts) -> list[Any]:
    """Without what the plan does not know, so that the hash of a plan of an earlier release stays what it was."""
    return [facts.get(name) for name in SHOWN if name not in _NOT_ALWAYS_KNOWN or name in facts]


def _assets(numbers: Collection[int]) -> dict[int, Facts]:
    wanted = ("pk", "tenant_id", "is_active", *_PLAIN, *SIGN_IN)
    rows = Asset.objects.filter(pk__in=numbers).values(*wanted) if numbers else ()
    return {row["pk"]: {**row, "sign_in": sign_in_of(row)} for row in rows}


def _change(facts: Facts, now: Facts | None, tenant_id: int) -> str:
    name = facts["name"]
    if now is None or now["tenant_id"] != tenant_id:
        return f"{name} was removed from the inventory."
    if not now["is_active"]:
        return f"{name} was taken out of use."
    other = [
        _other(field, facts[field], now[field])
        for field in _PLAIN
        if field in facts and (facts[field] or None) != (now[field] or None)
    ]
    if now["sign_in"] and facts.get("sign_in"):
        other += other_sign_in(facts["sign_in"], now["sign_in"])
    return f"{name} was changed: {'; '.join(other)}." if other else ""


def _other(field: str, before: object, now: object) -> str:
    return f"{field.replace('_', ' ')} was {before or 'empty'}, is {now or 'empty'}"


def other_sign_in(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Who signs in there is as whom the plan acts; other host keys are another machine, or the same one set up anew.

    That a key is pinned where none was is no change: without one, nothing would have run there."""
    *were, key_was = before
    *are, key_is = now
    said = [_other(field, was, is_) for field, was, is_ in zip(SIGN_IN, were, are, strict=False) if was != is_]
    return [*said, "its host key is another"] if key_was and key_was != key_is else said


def _key(plan: PlanOfTenant, selector: Mapping[str, Any]) -> tuple[int, str, str]:
    """What a selector stands for: in a tenant, or of a query for its requester."""
    if selector["kind"] == "query":
        return plan.actor_id, "query", json.dumps(selector["filters"], sort_keys=True)
    return plan.tenant_id, selector["kind"], selector["name"]


def _members(plans: Iterable[PlanOfTenant]) -> dict[tuple[int, str, str], dict[int, str]]:
    """Return what every selector of the plans stands for now: the names of the assets by their ids."""
    members: dict[tuple[int, str, str], dict[int, str]] = defaultdict(dict)
    names: dict[str, set[str]] = {"group": set(), "tag": set()}
    queries: dict[tuple[int, str, str], Mapping[str, Any]] = {}
    for plan in plans:
        for selector in plan.document.get("selectors", []):
            if selector["kind"] == "query":
                queries[_key(plan, selector)] = selector["filters"]
            else:
                names[selector["kind"]].add(selector["name"])
    in_use = Asset.objects.filter(is_active=True)
    if names["group"]:
        rows = in_use.filter(groups__name__in=names["group"])
        for tenant_id, group, number, name in rows.values_list("tenant_id", "groups__name", "pk", "name"):
            members[tenant_id, "group", group][number] = name
    if names["tag"]:
        tagged = in_use.filter(tags__overlap=sorted(names["tag"]))
        for tenant_id, tags, number, name in tagged.values_list("tenant_id", "tags", "pk", "name"):
            for tag in names["tag"].intersection(tags):
                members[tenant_id, "tag", tag][number] = name
    actors = User.objects.in_bulk({actor_id for actor_id, _, _ in queries}) if queries else {}
    for key, filters in queries.items():
        by = actors[key[0]]
        found = TenantInventory(by.tenant_id, seen_by=by).query(filters, ["id", "name"])
        members[key] = {int(str(row["id"])): str(row["name"]) for row in found}
    return members


def _moved(selector: Mapping[str, Any], now: Mapping[int, str]) -> list[str]:
    before = set(selector["asset_ids"])
    what = {
        "group": f"group {selector['name']}",
        "tag": f"tag {selector['name']}",
        "query": "asset-query",
    }[selector["kind"]]
    said = []
    if new := [name for number, name in now.items() if number not in before]:
        said.append(f"The {what} has {_listed(new)} now, which the plan would not touch.")
    if gone := before - now.keys():
        said.append(f"The {what} has lost {len(gone)} of the {len(before)} machines that the plan touches.")
    return said


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:MOST_NAMED])
    return f"{shown} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else shown

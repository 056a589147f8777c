"""Which workers a plan is for: its pool and its region, from its labels and from where its targets are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from executions.plans.inventory import InventoryAsset
from executions.plans.problems import Code, Problems, shown
from queueing.labels import DEFAULT_POOL, RULE, is_label

REGION_TAG = "region:"  # an asset that carries the tag region:eu-2 is reached by the workers of eu-2 only


@dataclass(frozen=True, slots=True)
class Routing:
    """The labels that a worker has to serve; an empty region means any."""

    pool: str
    region: str


def routing_of(labels: Mapping[str, str], assets: Iterable[InventoryAsset], problems: Problems) -> Routing:
    """Return the pool that the plan's labels name and the region that they name, or that all its targets share.

    Targets in several regions are a problem, unless the plan says which region's workers reach all of them.
    """
    for name in ("pool", "region"):
        if name in labels and not is_label(labels[name]):
            problems.add(
                Code.INVALID_INPUT,
                f"labels.{name}",
                f"{shown(labels[name])!r} is not the name of a {name}.",
                f"Write {RULE}.",
            )
    region = labels.get("region", "")
    if not region:
        regions = sorted(
            {tag[len(REGION_TAG) :] for asset in assets for tag in asset.tags if tag.startswith(REGION_TAG)}
        )
        if wrong := [one for one in regions if not is_label(one)]:
            problems.add(
                Code.INVALID_INPUT,
                "labels.region",
                f"A target has the tag {shown(REGION_TAG + wrong[0])!r}, which names no region.",
                f"Correct the asset's tag ({RULE}), or write labels: {{region: NAME}}.",
            )
        elif len(regions) > 1:
            problems.add(
                Code.INVALID_INPUT,
                "labels.region",
                f"The targets are in {len(regions)} regions: {', '.join(map(shown, regions[:5]))}.",
                "Write a plan for each region, or labels: {region: NAME} if the workers of one reach all of them.",
            )
        region = regions[0] if len(regions) == 1 else ""
    return Routing(labels.get("pool", DEFAULT_POOL), region)

"""Whether somebody may have a credential sent to where an asset is.

An asset's credential is used on the asset's address. Whoever edits assets could otherwise name a credential that is not
theirs, or point an asset that has one at a machine of their own, and read there what a worker signs in with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from executions.models import Asset
from safety.models import User
from safety.secrets.rules import forbidden_paths

# What decides where a credential is sent, and what vouches for the machine that gets it. By its external_id an asset
# is given the address that the asset service says.
WHERE = ("credential", "name", "hostname", "ip_address", "port", "connection", "host_key", "external_id")

Edit = tuple[Asset | None, Mapping[str, Any]]  # the asset as it is, None for a new one; the fields that are given


def forbidden_credentials(by: User, edits: Iterable[Edit]) -> list[str]:
    """Return the path that each edit would have sent somewhere anew and that `by` may not use; empty where it may.

    At most two queries, however many edits there are.
    """
    sent = [_sent_anew(asset, given) for asset, given in edits]
    forbidden = forbidden_paths(by, {path for path in sent if path})
    return [path if path in forbidden else "" for path in sent]


def not_allowed(path: str) -> str:
    """The sentence of a refusal."""
    return (
        f"You may not use the secret {path}, which would be sent to this asset's address. Ask an administrator to add a"
        " group of yours to the rule for it, or leave address and credential as they are."
    )


def _sent_anew(asset: Asset | None, given: Mapping[str, Any]) -> str:
    path: str = given.get("credential", asset.credential if asset else "")
    if asset is not None and not any(_differs(asset, name, given[name]) for name in WHERE if name in given):
        return ""
    return path


def _differs(asset: Asset, name: str, value: object) -> bool:
    return (value or None) != (getattr(asset, name) or None)  # a form has "" where the row has nothing

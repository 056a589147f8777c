"""Pinning a host key at a door: a worker asks the machine what it shows, a person compares, a worker asks once more.

The web process may stand in another network than the machines, and cannot pass their jump hosts: so workers ask.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from executions.asset_credentials import forbidden_credentials, not_allowed
from executions.connectors.ssh.showing import HostKey
from executions.host_keys import Standing, fingerprints_of, pin, standing_of
from executions.live.reachability import has_ended
from executions.models import Asset, Connection, StepTarget
from executions.services import Refused, ask_for_host_keys
from executions.services.checks import HOST_KEY_TAG
from executions.services.refusals import forbidden, record_refused
from safety import rbac
from safety.models import User

FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{1,86}={0,2}")
PATIENCE_SECONDS = 25.0  # a little more than the question itself may take
ACTION = "asset.pin_host_key"


@dataclass(frozen=True, slots=True)
class Offer:
    """What one machine showed, beside what the inventory knew when this was read.

    is_known: that it answered, or that it did not. Until then there is neither a key nor an error.
    """

    asset: Asset
    keys: tuple[HostKey, ...] = ()
    is_known: bool = False
    error_code: str = ""
    error: str = ""

    @property
    def standing(self) -> Standing:
        return standing_of(self.asset.host_key, self.keys)

    @property
    def known(self) -> list[str]:
        return fingerprints_of(self.asset.host_key)


@dataclass(frozen=True, slots=True)
class Choice:
    """The key that somebody compared, and the fingerprints of those that the inventory knew then."""

    asset_id: int
    fingerprint: str
    replaces: tuple[str, ...]


def look(assets: Sequence[Asset], *, by: User) -> list[int]:
    """Have workers ask machines which host keys they show; wait for it a while. Return the executions that do.

    Raises Refused when one of them may not be asked.
    """
    executions = []
    for answer in ask_for_host_keys(assets, by=by):
        if isinstance(answer, Refused):
            raise answer
        executions.append(answer.execution_id)
    until = time.monotonic() + PATIENCE_SECONDS
    for number in executions:
        if (left := until - time.monotonic()) > 0:
            has_ended(number, left)
    return executions


def offers(assets: Sequence[Asset], executions: Sequence[int]) -> list[Offer]:
    """Return what each machine showed in these executions, in the order of `assets`. One query."""
    rows = StepTarget.objects.filter(
        execution_id__in=executions, asset__in=[asset.pk for asset in assets], step__tool=HOST_KEY_TAG
    )
    found = {row.asset_id: row for row in rows.exclude(finished_at=None)}
    return [_offer(asset, found.get(asset.pk)) for asset in assets]


def _offer(asset: Asset, row: StepTarget | None) -> Offer:
    if row is None:
        return Offer(asset)
    shown = (row.data or {}).get("host_keys") or []
    keys = tuple(key for key in map(HostKey.of_fact, shown) if key is not None)
    return Offer(asset, keys, True, row.error_code, row.error)


def pin_host_keys(choices: Sequence[Choice], *, by: User) -> list[Asset | Refused]:
    """Pin exactly the keys that were compared; return the asset, or why not, for each. Every one has its record.

    The machines are asked once more, and only what they still show is written; and only over what the inventory still
    says. Between that answer and the write another key may be shown, which is then refused like any changed one.
    """
    rows = Asset.objects.filter(rbac.visible_assets(by), pk__in={choice.asset_id for choice in choices})
    assets = rows.in_bulk()
    refusals = {choice.asset_id: _refusal(assets.get(choice.asset_id), choice, by) for choice in choices}
    asked = [assets[number] for number, refusal in refusals.items() if refusal is None]
    now: dict[int, Offer] = {}
    try:
        now = {offer.asset.pk: offer for offer in offers(asked, look(asked, by=by) if asked else [])}
    except Refused as refused:
        refusals = {number: refusal or refused for number, refusal in refusals.items()}
    outcomes = [refusals[choice.asset_id] or _pin(now[choice.asset_id], choice, by) for choice in choices]
    for choice, outcome in zip(choices, outcomes, strict=True):
        if isinstance(outcome, Refused):
            name = assets[choice.asset_id].name if choice.asset_id in assets else ""
            outcome.is_recorded = False  # one refusal may stand for several assets
            record_refused(
                outcome, ACTION, by=by, object_type="asset", object_id=choice.asset_id, object_name=name
            )  # fmt: skip
    return outcomes


def pin_host_key(choice: Choice, *, by: User) -> Asset:
    """Pin one; see `pin_host_keys`. Raises Refused."""
    outcome = pin_host_keys([choice], by=by)[0]
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def _refusal(asset: Asset | None, choice: Choice, by: User) -> Refused | None:
    """What can be said before the machine is asked."""
    if asset is None:
        return Refused("not_found", f"There is no asset {choice.asset_id}.", "Look it up in the inventory.", status=404)
    if not rbac.can_operate(by):
        return forbidden(
            "Changing the inventory is for the operator and admin roles.", "Have one of them compare and pin the key."
        )
    if not FINGERPRINT.fullmatch(choice.fingerprint):
        return Refused(
            "invalid_input", "That is not the fingerprint of a key.", "Give it as the machine shows it: SHA256:...",
            status=422,
        )  # fmt: skip
    if asset.connection != Connection.SSH:
        return Refused(
            "no_host_key", f"{asset.name} is reached by {asset.connection}, which knows no host keys.",
            "Only assets with the connection ssh have one.", status=409,
        )  # fmt: skip
    if set(fingerprints_of(asset.host_key)) != set(choice.replaces):
        return _moved_on(asset)
    if path := forbidden_credentials(by, [(asset, {"host_key": choice.fingerprint})])[0]:
        return forbidden(not_allowed(path), "Have somebody compare and pin it who may use that secret.")
    return None


def _pin(offer: Offer, choice: Choice, by: User) -> Asset | Refused:
    asset = offer.asset
    if not offer.keys:
        why = offer.error or "No worker has asked it yet."
        return Refused(
            "host_key_not_shown", f"{asset.name} showed no host key when it was asked once more: {why}",
            "See that it answers and that workers run, then look again. Nothing was pinned.", status=409,
        )  # fmt: skip
    key = next((key for key in offer.keys if key.fingerprint == choice.fingerprint), None)
    if key is None:
        shown = ", ".join(key.fingerprint for key in offer.keys)
        return Refused(
            "another_host_key",
            f"{asset.name} shows another key by now: {shown}, not {choice.fingerprint}. Nothing was pinned.",
            "Find out why it changed; look again and compare with what its console says.", status=409,
        )  # fmt: skip
    if not pin(asset, key, by=by):
        return _moved_on(asset)
    asset.host_key = key.line
    return asset


def _moved_on(asset: Asset) -> Refused:
    return Refused(
        "host_key_moved_on",
        f"Somebody else changed {asset.name}, or pinned a key of it, meanwhile. Nothing was pinned.",
        "Look again: compare with what the inventory says now.", status=409,
    )  # fmt: skip


__all__ = ["Choice", "Offer", "Standing", "look", "offers", "pin_host_key", "pin_host_keys"]

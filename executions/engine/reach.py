"""How a worker reaches the machines of an execution: looked up when it takes the execution, not when it was submitted.

The plan fixes which machines are touched and where they are, and an approval is bound to them, and to who signs in
there with what (target_changes.py). Where nobody had to approve, user name, host key and credential are the inventory's
to say at the time, so that a corrected one needs no new submit; and the port, too, for a plan of an earlier release,
which has none. What is stored under a credential's path is read just before the step in any case.

But a credential is for the machine that the inventory has then: where the plan has it at another place, it is sent to
neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from executions.clients import is_asset_service_of
from executions.connectors.base import Target
from executions.engine.service_credentials import path_of
from executions.engine.state import ExecutionState
from executions.inventory import sign_in_of
from executions.models import Asset, Connection
from executions.target_changes import other_sign_in

# Reached without knowing more of it than the plan does.
PLAIN = frozenset({"", Connection.LOCAL})

# Where a machine is, as the plan has it.
_PLACE = ("hostname", "ip_address", "port", "connection")
_FIELDS = (*_PLACE, "external_id", "username", "domain", "os_type", "service_type", "host_key", "credential")


def learn_reach(states: Sequence[ExecutionState]) -> None:
    """Tell each execution how its machines are reached. One query, and none for machines that need no knowing."""
    wanted = {number for state in states for number in _far(state)}
    rows = _rows(wanted)
    for state in states:
        state.reach = {number: rows[number] for number in _far(state) if number in rows}


def target_of(state: ExecutionState, planned: Mapping[str, Any] | None) -> Target:
    """Return a target as a connector is given it, without its credential."""
    if planned is None:
        return Target(tenant_id=state.tenant_id)
    known = state.reach.get(planned["asset_id"], {})
    return Target(
        tenant_id=state.tenant_id,
        asset_id=planned["asset_id"],
        name=planned["name"],
        hostname=planned["hostname"],
        ip_address=planned["ip_address"],
        connection=planned["connection"],
        external_id=known.get("external_id", ""),
        port=planned["port"] if "port" in planned else known.get("port"),
        username=known.get("username", ""),
        domain=known.get("domain", ""),
        os_type=known.get("os_type", ""),
        service_type=known.get("service_type", ""),
        host_keys=tuple(line.strip() for line in known.get("host_key", "").splitlines() if line.strip()),
    )


def credential_path(state: ExecutionState, planned: Mapping[str, Any] | None) -> str:
    """Return the path of the secret by which a target is reached; empty when its asset names none.

    Of an asset that the asset service knows it says, by a prefix that no path has, that the service is to be asked.
    """
    if planned is None:
        return ""
    path: str = state.reach.get(planned["asset_id"], {}).get("credential", "")
    return path


def moved(state: ExecutionState, planned: Mapping[str, Any] | None) -> str:
    """Return in words where the inventory has a machine otherwise than the plan; empty where both say the same.

    Of what was approved also who signs in there: the permit was given a moment before this was looked up.
    """
    known = state.reach.get(planned["asset_id"]) if planned else None
    if planned is None or known is None:
        return ""
    said = [
        f"{field.replace('_', ' ')} was {planned[field] or 'empty'}, is {known[field] or 'empty'}"
        for field in _PLACE
        if field in planned and (planned[field] or None) != (known[field] or None)
    ]
    if state.approval_level > 0 and planned.get("sign_in") and known["sign_in"]:
        said += other_sign_in(planned["sign_in"], known["sign_in"])
    return ", ".join(said)


def _far(state: ExecutionState) -> set[int]:
    return {
        target.planned["asset_id"]
        for step in state.steps
        for target in step.targets
        if target.planned and target.planned["connection"] not in PLAIN
    }


def _rows(wanted: Collection[int]) -> dict[int, dict[str, Any]]:
    if not wanted:
        return {}
    rows = list(Asset.objects.filter(pk__in=wanted).values("pk", "tenant_id", *_FIELDS))
    from_service = {number: is_asset_service_of(number) for number in {_asks_service(row) for row in rows} if number}
    for row in rows:
        row["sign_in"] = sign_in_of(row)  # before the service is asked for a credential in place of none
        if from_service.get(_asks_service(row)):
            row["credential"] = path_of(row["external_id"])
    return {row.pop("pk"): row for row in rows}


def _asks_service(row: Mapping[str, Any]) -> int:
    """Return the tenant of an asset that names no secret of ours, but has an id in an asset service; else 0."""
    return row["tenant_id"] if row["external_id"] and not row["credential"] else 0

"""The canonical form of a plan: what it does, and nothing that differs between two copies of the same plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from executions.plans.bound_files import digests_of
from executions.plans.compiled import StoredRollback, StoredStep
from executions.plans.templates import Template, rewrite

VERSION = 1

# Made once: json.dumps would make one for every plan.
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical_form(
    environment: str | None, steps: Sequence[StoredStep], *, check: bool = False, with_files: bool = True
) -> bytes:
    """UTF-8 JSON with sorted keys: tools, inputs, targets by asset id, order by position, and how failures are met.

    Ids of steps, titles, descriptions, labels, estimates and everything in words are left out; where a template names
    a step, its position stands instead of its id. Without `with_files`, what stands in the installation's own files is
    left out, too: what is left is what was asked for. Nothing that is given is changed.
    """
    positions = {step["id"]: step["position"] for step in steps}
    form: dict[str, object] = {
        "canonical": VERSION,
        "environment": environment,
        "steps": [_step(step, positions, with_files) for step in steps],
    }
    if check:  # only then: plans without it keep the hashes that they had
        form["check"] = True
    return _ENCODER.encode(form).encode()


def hash_of(canonical: bytes) -> str:
    """SHA-256 of a canonical form, in hex."""
    return hashlib.sha256(canonical).hexdigest()


def _step(step: StoredStep, positions: Mapping[str, int], with_files: bool) -> dict[str, object]:
    rollback = step["rollback"]
    targets = [target["asset_id"] for target in step["targets"]]
    # Only where it is said: plans without it keep the hashes that they had.
    as_whom = {"run_as": step["run_as"]} if "run_as" in step else {}
    return {
        **as_whom,
        **(digests_of(step) if with_files else {}),
        "tool": step["tool"],
        "inputs": _without_ids(step["inputs"], positions),
        "depends_on": sorted(positions[one] for one in step["depends_on"]),
        # Which machines come first is a matter of waves alone.
        "targets": targets if "waves" in step else sorted(targets),
        "resolved": {_renamed(name, positions): value for name, value in step["resolved"].items()},
        "on_failure": step["on_failure"],
        "retry": step["retry"],
        "timeout_seconds": step["timeout_seconds"],
        "idempotent": step["idempotent"],
        "requires_approval": step["requires_approval"],
        "success": step["success"],
        "fan_out": step["fan_out"],
        "rollback": rollback and _rollback(rollback, positions, with_files),
    }


def _rollback(rollback: StoredRollback, positions: Mapping[str, int], with_files: bool) -> dict[str, object]:
    return {
        **(digests_of(rollback) if with_files else {}),
        "tool": rollback["tool"],
        "inputs": _without_ids(rollback["inputs"], positions),
        "retry": rollback["retry"],
        "timeout_seconds": rollback["timeout_seconds"],
        "idempotent": rollback["idempotent"],
        "success": rollback["success"],
    }


def _without_ids(inputs: dict[str, object], positions: Mapping[str, int]) -> object:
    return rewrite(inputs, lambda template: _by_position(template, positions))


def _by_position(template: Template, positions: Mapping[str, int]) -> str:
    if template.step_id is None:
        return template.expression
    return Template(template.kind, f"#{positions[template.step_id]}", template.path).expression


def _renamed(expression: str, positions: Mapping[str, int]) -> str:
    renamed = rewrite("{{ " + expression + " }}", lambda template: _by_position(template, positions))
    return str(renamed)

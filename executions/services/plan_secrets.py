"""The secrets that plans name, looked at before anything is taken in: may they be used, and are they there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from executions.plans import CompiledPlan
from executions.plans.compiled import StoredReference
from executions.plans.secret_references import references_in
from executions.plans.secret_values import SecretReference
from executions.services.refusals import Refused, forbidden
from safety.models import User
from safety.secrets import configured_store
from safety.secrets.rules import forbidden_paths


class PlanSecrets:
    """What is known of the secrets that some plans of one user name; two or three queries, and none without secrets."""

    def __init__(self, by: User) -> None:
        self._by = by
        self._known: set[str] = set()
        self._forbidden: set[str] = set()
        self._missing: set[str] | None = set()

    def learn(self, plans: Sequence[CompiledPlan]) -> None:
        """Look up what these plans name, all of them at once."""
        self._look_up({reference.path for plan in plans for reference in plan.secret_refs})

    def states(self, named: Sequence[StoredReference]) -> list[dict[str, Any]]:
        """Return each of the references with its state."""
        self._look_up({reference["path"] for reference in named})
        return [{**reference, "state": self.state_of(reference["path"])} for reference in named]

    def credentials(self, paths: set[str]) -> dict[str, dict[str, str]]:
        """Return for the paths of machines' credentials `{path, state}`: present, missing, or unknown.

        No rule is asked: who may run plans on a machine does so with its credential.
        """
        missing = configured_store().missing(self._by.tenant, paths) if paths else set()
        states = {path: "unknown" if missing is None else "missing" if path in missing else "present" for path in paths}
        return {path: {"path": path, "state": state} for path, state in states.items()}

    def _look_up(self, paths: set[str]) -> None:
        unknown = paths - self._known
        if not unknown:
            return
        self._known |= unknown
        self._forbidden |= forbidden_paths(self._by, unknown)
        missing = configured_store().missing(self._by.tenant, unknown - self._forbidden)
        self._missing = None if missing is None or self._missing is None else self._missing | missing

    def state_of(self, path: str) -> str:
        """Return present, missing, forbidden, or unknown when only the worker can tell."""
        if path in self._forbidden:
            return "forbidden"
        if self._missing is None:
            return "unknown"
        return "missing" if path in self._missing else "present"

    def check(self, plan: CompiledPlan) -> None:
        """Refuse a plan with a secret that its requester may not use, or that is surely not there. Raises Refused."""
        if not plan.secret_refs:
            return
        self.learn([plan])
        named = list(_named_in(plan))
        errors = [_not_allowed(at, ref) for at, ref in named if self.state_of(ref.path) == "forbidden"]
        if errors:
            raise forbidden(
                f"You may not use {len(errors)} of the secrets that the plan names.",
                "Ask an administrator to change the rules for them, or leave them out of the plan.",
                errors,
            )
        errors = [_not_there(at, ref) for at, ref in named if self.state_of(ref.path) == "missing"]
        if errors:
            raise Refused(
                "invalid_plan",
                f"The plan has {len(errors)} problems." if len(errors) > 1 else "The plan has a problem.",
                "Correct each of the errors listed, then submit the plan again.",
                status=422,
                errors=errors,
            )


def _named_in(plan: CompiledPlan) -> Iterator[tuple[str, SecretReference]]:
    for place, step in enumerate(plan.document["steps"]):
        parts: list[tuple[str, Any]] = [(f"steps[{place}].inputs", step["inputs"])]
        if step["rollback"] is not None:
            parts.append((f"steps[{place}].rollback.inputs", step["rollback"]["inputs"]))
        for at, inputs in parts:
            for name, value in inputs.items():
                for reference in sorted(references_in(value), key=lambda ref: (ref.path, ref.key or "")):
                    yield f"{at}.{name}", reference


def _not_allowed(at: str, reference: SecretReference) -> dict[str, Any]:
    return {
        "code": "forbidden",
        "path": at,
        "message": f"You may not use the secret {reference.path}.",
        "how_to_fix": "Ask an administrator to add a group of yours to the rule for it.",
    }


def _not_there(at: str, reference: SecretReference) -> dict[str, Any]:
    return {
        "code": "secret_unavailable",
        "path": at,
        "message": f"There is no secret {reference.path}.",
        "how_to_fix": "Have it stored (manage.py set_secret), or correct the path.",
    }

"""Giving values to a worker: for an execution that it holds, as the rules allow, and recorded before it is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from safety import audit
from safety.models import Tenant, User
from safety.secrets.rules import forbidden_paths
from safety.secrets.stores import StoredSecret, configured_store
from safety.secrets.unavailable import SecretUnavailable

CREDENTIAL = "credential"

Answers = dict[str, StoredSecret | SecretUnavailable]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The secrets that one step of one execution needs, in the name of the user who submitted it.

    `purpose`: "step"; "rollback" for what undoes it; "credential" for what the machines of the step are reached with;
    or "masking" when a step that ran under another worker used them and only its traces are to be hidden.
    """

    tenant_id: int
    actor_id: int
    execution_id: int
    step: str
    paths: frozenset[str]
    purpose: str = "step"


def release(wanted: Sequence[Wanted]) -> list[Answers]:
    """Fetch what some steps need, and record each access, granted or not, before anybody gets a value.

    Many at once share their queries and one INSERT. Should the record fail, so does the release: nothing is given out
    that nobody wrote down.
    """
    tenants = Tenant.objects.in_bulk({one.tenant_id for one in wanted})
    users = User.objects.in_bulk({one.actor_id for one in wanted})
    forbidden = _forbidden(wanted, users)
    read = _read(wanted, tenants, forbidden)
    answers = [
        {path: _answer(path, kept_back, read[one.tenant_id]) for path in sorted(one.paths)}
        for one, kept_back in zip(wanted, forbidden, strict=True)
    ]
    audit.record_many(
        [
            _entry(one, users[one.actor_id], path, answer)
            for one, given in zip(wanted, answers, strict=True)
            for path, answer in given.items()
        ]
    )
    return answers


def _forbidden(wanted: Iterable[Wanted], users: dict[int, User]) -> list[set[str]]:
    """Return for each the paths that its user may not have, should a rule have come since the plan was submitted.

    Whose plan may run on a machine is what rights on the machine say, and not who may name its credential in a plan:
    no rule is asked for that. Who is not active any more gets nothing at all.
    """
    named: dict[int, set[str]] = defaultdict(set)
    for one in wanted:
        if one.purpose != CREDENTIAL:
            named[one.actor_id] |= one.paths
    ruled = {user_id: forbidden_paths(users[user_id], paths) for user_id, paths in named.items()}

    def kept_back(one: Wanted) -> set[str]:
        if not users[one.actor_id].is_active:
            return set(one.paths)
        return set() if one.purpose == CREDENTIAL else ruled[one.actor_id] & one.paths

    return [kept_back(one) for one in wanted]


def _read(wanted: Sequence[Wanted], tenants: dict[int, Tenant], forbidden: Sequence[set[str]]) -> dict[int, Answers]:
    """Ask the store once for each tenant, and only for what somebody may have."""
    paths: dict[int, set[str]] = defaultdict(set)
    for one, kept_back in zip(wanted, forbidden, strict=True):
        paths[one.tenant_id] |= one.paths - kept_back
    store = configured_store()
    return {
        tenant_id: store.read(tenants[tenant_id], sorted(named)) if named else {} for tenant_id, named in paths.items()
    }


def _answer(path: str, kept_back: set[str], read: Answers) -> StoredSecret | SecretUnavailable:
    if path in kept_back:
        return SecretUnavailable(
            path, f"The requester may not use the secret {path}.", "Have an administrator change the rule for it."
        )
    return read[path]


def _entry(one: Wanted, user: User, path: str, answer: StoredSecret | SecretUnavailable) -> audit.Entry:
    """The record of one access. By whom it was used is the requester; which worker did it, the origin says."""
    data: dict[str, object] = {"execution": one.execution_id, "step": one.step, "purpose": one.purpose}
    if isinstance(answer, StoredSecret):
        return audit.Entry(
            action="secret.use", by=user, object_type="secret", object_id=path, object_name=path,
            data={**data, "version": answer.version},
        )  # fmt: skip
    return audit.Entry(
        action="secret.use", by=user, object_type="secret", object_id=path, object_name=path, data=data,
        allowed=False, code=answer.code, reason=answer.message,
    )  # fmt: skip

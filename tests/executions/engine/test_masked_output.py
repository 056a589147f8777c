"""Secrets that steps print: masked in every table, and known to later steps of the same worker all the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from executions.engine.attempt import Refusal, context_for
from executions.engine.state import StepState, TargetState
from executions.models import Event, OutputChunk, StepTarget
from safety.models import Tenant
from safety.secrets.keeping import store_secret
from tests.executions.engine.conftest import Workers, ended

Begin = Callable[..., int]
VALUE = "sw0rdfish-/of the+test"
SECRET = {"type": "secret", "path": "db/orders"}
DIGEST = hashlib.sha256(b"password=hunter2 " + VALUE.encode()).hexdigest()

# What a plan says in clear is refused; what a command makes of it is not known before it has run.
PRINTS = """
printf 'raw %s\\n' "$PW"; printf %s "$PW" | base64
python3 -c 'import os, json, urllib.parse as u; v = os.environ["PW"]
print(u.quote(v, safe="")); print(json.dumps([v]))'
printf 'cut %.9s' "$PW"; sleep 0.4; printf '%s\\n' "${PW#?????????}"
echo "to stderr $PW" >&2; echo 'Authori''zation: Bea''rer abcdef123456'
echo done
"""


def step(key: str, command: str, **fields: Any) -> dict[str, Any]:
    inputs = {"command": command, "environment": {"PW": SECRET}}
    return {"id": key, "tool": "shell", "inputs": inputs, "targets": ["localhost"], **fields}


@pytest.mark.django_db(transaction=True)
def test_no_table_has_what_steps_printed_and_later_steps_get_it(workers: Workers, begin: Begin) -> None:
    store_secret(Tenant.objects.get(name="default"), "db/orders", VALUE, by=None)
    workers.start()
    execution = ended(
        begin(
            step("prints", PRINTS),
            step("taken", "echo 'pass''word=hunter2'\" $PW\"", success={"stdout_matches": "hunter2 sw0rdfish"}),
            {"id": "digest", "tool": "command", "inputs": {"argv": ["sha256sum"], "stdin": "{{ steps.taken.stdout }}"},
             "targets": ["localhost"]},
            step("fails", 'echo "it was $PW"; exit 3', on_failure="continue"),
        )
    )  # fmt: skip
    assert execution.status == "succeeded"

    chunks = OutputChunk.objects.filter(execution=execution).order_by("seq")
    texts = "".join(chunks.values_list("text", flat=True))
    assert DIGEST in texts
    assert 'raw [masked]\n[masked]\n[masked]\n["[masked]"]\n' in texts
    assert "cut [masked]\n" in texts
    assert "Authorization: Bearer [masked]\ndone\n" in texts
    assert StepTarget.objects.get(step__key="taken").stdout == "password=[masked] [masked]\n"
    written = everything_written()
    for form in (VALUE, "sw0rdfish", "c3cwcmRmaXNo", "hunter2\\n", "abcdef123456"):
        assert form not in written
    errors = Event.objects.filter(execution=execution, data__step="fails", kind="step.failed")
    assert "3" in json.dumps(errors.get().data)


def everything_written() -> str:
    """All tables but the one that holds the encrypted secrets and the plans, as text."""
    texts = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'executions_executionplan'"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            texts += [row[0] for row in cursor.fetchall()]
    return "\n".join(texts)


def states(stdout: str, *, recalled: bool) -> tuple[StepState, StepState]:
    target = {"asset_id": 1, "name": "web01", "row": {}, "connection": "local"}
    first = StepState(
        1, "first", {"inputs": {}}, "succeeded", [TargetState(1, target, "succeeded", 1, 0, stdout, recalled=recalled)]
    )
    second = StepState(
        2,
        "second",
        {"inputs": {"stdin": "{{ steps.first.stdout }}"}},
        "pending",
        [TargetState(2, target, "pending", 0, None, "")],
    )
    return first, second


def test_a_step_does_not_take_a_placeholder_for_what_was_printed() -> None:
    first, second = states("token=[masked]\n", recalled=True)
    with pytest.raises(Refusal, match="was masked when it was stored") as refused:
        context_for(second, second.targets[0], {"first": first})
    assert refused.value.code == "masked_output"
    assert refused.value.hopeless
    second.planned["inputs"] = {"stdin": "nothing of it"}
    assert context_for(second, second.targets[0], {"first": first}).steps["first"]["exit_code"] == 0


@pytest.mark.parametrize(("stdout", "recalled"), [("token=[masked]\n", False), ("plain\n", True)])
def test_what_is_whole_is_taken(stdout: str, recalled: bool) -> None:
    first, second = states(stdout, recalled=recalled)
    assert context_for(second, second.targets[0], {"first": first}).steps["first"]["stdout"] == stdout

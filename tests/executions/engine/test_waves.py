"""Waves with a gate between them: which targets begin when, what a gate judges, what the death of a worker changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executions.engine.control import Control
from executions.engine.outcome import step_verdict
from executions.engine.state import StepState, TargetState
from executions.engine.verdict import Verdict
from executions.engine.waves import left_out, waves_of
from executions.models import Event, Step, StepTarget
from executions.plans.waves import wave_sizes
from executions.services import cancel, resolve
from executions.states import StepStatus
from safety.models import User
from tests.executions.engine.conftest import (
    Workers,
    assert_nothing_left_behind,
    ended,
    kinds,
    make_hosts,
    shell,
    step_statuses,
)
from tests.installations import wait_until

S = StepStatus
Begin = Callable[..., int]
OK, BAD, AWAY, UNKNOWN, LEFT, OPEN = "succeeded", "failed", "unreachable", "unknown", "skipped", "pending"


# -- the rules alone --


def waved(
    targets: list[str], waves: list[int | str], *, gate: int | str = 0, max_failures: int | str = 0, key: str = "s"
) -> StepState:
    rows = []
    for number, status in enumerate(targets):
        known = BAD if status == AWAY else status
        row = TargetState(number, {"asset_id": number, "name": f"h{number}"}, known, int(status != OPEN), None, "")
        row.error_code = {AWAY: "unreachable", BAD: "exit_code"}.get(status, "")
        rows.append(row)
    fan_out = {"max_failures": max_failures, "max_concurrent": 20, "gate": {"max_failures": gate, "pause_seconds": 0}}
    planned: dict[str, Any] = {"on_failure": "stop", "fan_out": fan_out, "depends_on": []}
    planned["waves"] = wave_sizes(waves, len(targets))
    return StepState(1, key, planned, S.RUNNING, rows)


@pytest.mark.parametrize(
    ("wave", "gate", "passes", "shut"),
    [
        ([OK] * 5, 0, True, False),
        ([OK, OK, OK, OK, BAD], 0, False, True),
        ([OK, OK, OK, OK, BAD], 1, True, False),
        ([OK, OK, OK, BAD, AWAY], 1, False, True),  # what cannot be reached is a failure
        ([OK, OK, OK, BAD, AWAY], "40%", True, False),
        ([OK, OK, OK, BAD, AWAY], "39%", False, True),  # 39 % of five is one
        ([BAD, BAD, OPEN, OPEN, OPEN], 1, False, True),  # shut before the wave is over: the rest cannot open it again
        ([BAD, OPEN, OPEN, OPEN, OPEN], 1, False, False),
        ([OK, OK, OK, OK, OPEN], 0, False, False),  # not judged before it is over
        ([OK, OK, OK, OK, UNKNOWN], "100%", False, False),  # nobody judges what nobody knows
        ([BAD] * 5, "100%", False, True),  # no success at all is never a pass
        ([LEFT] * 5, 0, False, True),  # nor is a wave without any data
    ],
)
def test_a_gate_passes_only_what_is_known_and_within_its_limit(
    wave: list[str], gate: int | str, passes: bool, shut: bool
) -> None:
    first, second = waves_of(waved([*wave, *[OPEN] * 5], [5, "rest"], gate=gate, max_failures="100%"))
    assert (first.lets_pass(), first.is_shut()) == (passes, shut)
    assert (second.allowed, second.is_shut()) == (None, False), "nothing comes after the last wave: it has no gate"


def test_the_sentence_of_a_gate_says_who_failed_who_was_away_and_who_was_left_alone() -> None:
    step = waved([BAD, BAD, AWAY, OK, OK, *[LEFT] * 95], [5, "rest"], gate=1, max_failures="100%")
    told = step_verdict(step, {0: Verdict(S.FAILED, "exit_code", "It ended with exit code 7.")}, Control())
    assert (told.status, told.error_code) == ("failed", "gate_failed")
    assert told.error == (
        "The gate after wave 1 (5 of 100 targets) failed: 2 failed, 1 unreachable; 95 targets were left alone."
        " h0: It ended with exit code 7."
    )


@pytest.mark.parametrize(
    ("targets", "status", "error"),
    [
        ([AWAY, *[OK] * 9], "failed", "1 of 10 targets was unreachable; h0"),
        ([AWAY, AWAY, BAD, *[OK] * 7], "failed", "1 of 10 targets failed and 2 were unreachable; h0"),
        ([BAD, BAD, *[OK] * 8], "failed", "2 of 10 targets failed; h0"),
    ],
)
def test_unreachable_is_told_apart_from_failed(targets: list[str], status: str, error: str) -> None:
    told = step_verdict(waved(targets, ["100%"]), {}, Control())
    assert (told.status, told.error) == (status, error)


@pytest.mark.parametrize(
    ("allowed", "status"), [(1, "failed"), (2, "succeeded"), ("19%", "failed"), ("20%", "succeeded")]
)
def test_max_failures_is_exact_at_its_edge_and_counts_who_is_away(allowed: int | str, status: str) -> None:
    told = step_verdict(waved([AWAY, BAD, *[OK] * 8], ["100%"], max_failures=allowed), {}, Control())
    assert told.status == status
    if status == "succeeded":
        assert told.error == "1 of 10 targets failed and 1 was unreachable, which the plan allows."


def test_a_cancel_between_two_waves_is_a_cancel_and_no_failed_gate() -> None:
    control = Control()
    control.stop("user")
    assert step_verdict(waved([OK, OK, LEFT, LEFT], [2, "rest"]), {}, control).status == "cancelled"


def test_a_step_leaves_out_the_machines_where_the_step_before_did_not_succeed() -> None:
    backup = waved([OK, BAD, AWAY, OK], ["100%"], max_failures="50%", key="backup")
    change = waved([OPEN] * 4, ["100%"], key="change")
    change.planned["depends_on"] = ["backup"]
    assert left_out(change, {"backup": backup}) == {1: "backup", 2: "backup"}
    backup.planned["on_failure"] = "continue"
    assert left_out(change, {"backup": backup}) == {}, "the plan says that it does not need the backup"


# -- with workers --


@pytest.fixture
def hosts(transactional_db: None, requester: User) -> list[str]:
    return make_hosts("h", 20)


def counted(execution_id: int, key: str = "all") -> Counter[str]:
    rows = StepTarget.objects.filter(execution_id=execution_id, step__key=key)
    return Counter(rows.values_list("status", flat=True))


def waves_told(execution_id: int) -> list[tuple[str, int, bool | None]]:
    events = Event.objects.filter(execution_id=execution_id, kind__startswith="step.wave").order_by("seq")
    told = [(one.kind.removeprefix("step.wave_"), one.data or {}) for one in events]
    return [(what, data["wave"], data.get("passed")) for what, data in told]


@pytest.mark.django_db(transaction=True)
def test_a_wave_begins_when_the_one_before_is_over_and_its_gate_lets_it(
    workers: Workers, begin: Begin, hosts: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    fan_out = {"max_concurrent": 20, "waves": [2, "25%", "rest"], "gate": {"pause_seconds": 0.2}}
    good = begin(shell("all", f"echo {{{{ name }}}} >> {log}", targets=hosts, fan_out=fan_out))
    fail = {hosts[0]: "exit 3", hosts[2]: "exit 4"}
    lines = " ".join(f"{name}) {what};;" for name, what in fail.items())
    fan_out = {"waves": [2, "25%", "rest"], "max_failures": "50%", "gate": {"max_failures": 1}}
    command = f"case {{{{ name }}}} in {lines} {hosts[3]}) exit 5;; esac"
    bad = begin(shell("all", command, targets=hosts, fan_out=fan_out), shell("after", "true"))
    workers.start(WORKER_PROCESSES="1")

    assert ended(good).status == "succeeded"
    order = log.read_text().split()
    assert sorted(order) == hosts
    assert set(order[:2]) == set(hosts[:2])
    assert set(order[2:7]) == set(hosts[2:7])
    assert waves_told(good) == [
        ("started", 1, None), ("finished", 1, True), ("started", 2, None), ("finished", 2, True),
        ("started", 3, None), ("finished", 3, None),
    ]  # fmt: skip
    told = [kind for kind in kinds(good) if kind in ("step.wave_started", "step.wave_finished", "target.running")]
    assert told[:4] == ["step.wave_started", "target.running", "target.running", "step.wave_finished"]

    execution = ended(bad)
    assert execution.status == "failed"
    assert counted(bad) == {"succeeded": 4, "failed": 3, "skipped": 13}
    assert step_statuses(bad) == {"all": "failed", "after": "skipped"}
    step = Step.objects.get(execution_id=bad, key="all")
    assert step.error_code == "gate_failed"
    assert step.error.startswith(
        "The gate after wave 2 (5 of 20 targets) failed: 2 failed; 13 targets were left alone. h02: It ended with exit"
    )
    assert execution.status_reason == f"Step 'all' failed: {step.error}"
    assert waves_told(bad)[-1] == ("finished", 2, False)
    assert_nothing_left_behind()


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_opens_no_gate_and_the_next_goes_on_in_the_same_wave(
    workers: Workers, begin: Begin, hosts: list[str], requester: User, tmp_path: Path
) -> None:
    """Killed in the middle of a second wave: of the first nothing runs again, and the third waits for the second.

    What was in flight runs again where that does no harm; where it may, a person decides before the gate is judged.
    """
    runs, hold = tmp_path / "runs", tmp_path / "hold"
    runs.mkdir()
    hold.touch()
    again, once = hosts[:10], hosts[10:]
    wait = f"while test -e {hold}; do sleep .05; done"
    command = f"echo x >> {runs}/{{{{ name }}}}; case {{{{ name }}}} in {again[4]}|{once[4]}) {wait};; esac"
    fan_out = {"waves": [2, 3, "rest"], "max_failures": "50%", "gate": {"max_failures": 2}}
    repeatable = begin(shell("all", command, targets=again, fan_out=fan_out, idempotent=True))
    careful = begin(shell("all", command, targets=once, fan_out=fan_out))
    workers.start(WORKER_PROCESSES="1")
    for number in (repeatable, careful):
        wait_until(lambda n=number: counted(n)["succeeded"] == 4, what="all but one of two waves")  # type: ignore[misc]
    workers.kill_one()

    def lines(name: str) -> int:
        return (runs / name).read_text().count("x")

    wait_until(lambda: lines(again[4]) == 2, seconds=20, what="the second try of the one in flight")
    assert ended(careful).status == "needs_attention"
    assert counted(careful) == {"succeeded": 4, "unknown": 1, "pending": 5}
    assert sorted(path.name for path in runs.iterdir()) == sorted(again[:5] + once[:5]), "no third wave has begun"
    hold.unlink()
    assert ended(repeatable).status == "succeeded"
    resolve(careful, by=requester, step="all", outcome="succeeded", reason="looked")
    wait_until(lambda: counted(careful) == {"succeeded": 10}, what="the rest")
    assert ended(careful).status == "succeeded"
    assert [name for name in hosts if lines(name) != 1] == [again[4]]
    for number in (repeatable, careful):
        assert [wave for what, wave, _ in waves_told(number) if what == "started"] == [1, 2, 3], "each began once"
    assert_nothing_left_behind()


@pytest.mark.django_db(transaction=True)
def test_the_pause_before_a_wave_ends_on_a_cancel_and_is_handed_back_at_a_shutdown(
    workers: Workers, begin: Begin, hosts: list[str], requester: User
) -> None:
    fan_out = {"waves": [1, "rest"], "gate": {"pause_seconds": 600}}
    cancelled = begin(shell("all", "true", targets=hosts[:10], fan_out=fan_out))
    handed_back = begin(shell("all", "true", targets=hosts[10:], fan_out=fan_out))
    workers.start(WORKER_PROCESSES="1")
    for execution_id in (cancelled, handed_back):
        wait_until(lambda number=execution_id: len(waves_told(number)) == 2, what="the pause")  # type: ignore[misc]
    cancel(cancelled, by=requester, reason="enough")
    assert ended(cancelled, seconds=5).status == "cancelled"
    assert counted(cancelled) == {"succeeded": 1, "skipped": 9}
    assert workers.stop(seconds=10) == 0
    assert step_statuses(handed_back) == {"all": "pending"}
    assert counted(handed_back) == {"succeeded": 1, "pending": 9}
    workers.start(WORKER_PROCESSES="1")
    wait_until(lambda: len(waves_told(handed_back)) == 3, what="the same gate, judged again")
    assert counted(handed_back) == {"succeeded": 1, "pending": 9}, "the pause begins anew: nothing goes past it"
    cancel(handed_back, by=requester, reason="enough")
    assert ended(handed_back).status == "cancelled"
    assert_nothing_left_behind()


@pytest.mark.django_db(transaction=True)
def test_where_a_step_failed_the_steps_after_it_do_nothing(
    workers: Workers, begin: Begin, hosts: list[str], tmp_path: Path
) -> None:
    """The plan goes on without the machines that could not be backed up; it does not change them all the same."""
    log = tmp_path / "log"
    fail = f"case {{{{ name }}}} in {hosts[0]}|{hosts[1]}) exit 1;; esac"
    execution_id = begin(
        shell("backup", fail, targets=hosts, fan_out={"max_failures": 2}),
        shell("change", f"echo {{{{ name }}}} >> {log}", targets=hosts),
        shell("check", "true", targets=hosts[:3]),
        shell("only-there", f"echo never >> {log}", targets=hosts[:2], on_failure="continue"),
    )
    workers.start(WORKER_PROCESSES="1")
    execution = ended(execution_id)
    assert execution.status == "partial"
    assert sorted(log.read_text().split()) == hosts[2:]
    assert counted(execution_id, "change") == {"succeeded": 18, "skipped": 2}
    assert counted(execution_id, "check") == {"succeeded": 1, "skipped": 2}
    assert step_statuses(execution_id) == {
        "backup": "succeeded", "change": "succeeded", "check": "succeeded", "only-there": "failed",
    }  # fmt: skip
    change = Step.objects.get(execution_id=execution_id, key="change")
    assert change.error == "2 targets were left out, because a step before this one did not succeed there."
    told = StepTarget.objects.get(execution_id=execution_id, step__key="change", name=hosts[0])
    assert (told.error_code, told.error) == ("earlier_step_failed", "Left out: step 'backup' did not succeed here.")
    assert Step.objects.get(execution_id=execution_id, key="only-there").error_code == "earlier_step_failed"
    assert_nothing_left_behind()

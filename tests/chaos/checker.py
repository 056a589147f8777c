"""Verifies the promises of docs/architecture.md on the history of a run, whatever happened in it.

Each check yields what is wrong, and nothing when all is well. What a plan was meant to do is not judged (a command that
was killed is a failure, rightly); what is judged is that the rows say what really happened, once, in order, by those
who had the right to do it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from executions.states import EXECUTION_MOVES, FINAL_EXECUTION, STEP_MOVES
from tests.chaos.evidence import Run
from tests.chaos.history import Event, History, Story, Target

CLAIMS = frozenset({"execution.running", "execution.claimed"})
DONE = frozenset({*FINAL_EXECUTION, "needs_attention"})
KINDS_TO = {kind: new for (_, new), kind in EXECUTION_MOVES.items()}
# What a step may be whose command never began.
UNTOUCHED = frozenset({"pending", "skipped"})
# What may become of a step on a machine: not begun, since the machine or what lets one in there was not to be had in
# time; or begun, and not seen to its end (then it is idempotent).
NOT_BEGUN = frozenset({"unreachable", "secret_unavailable"})
OF_THE_NETWORK = NOT_BEGUN | {"connection_lost"}
KILLED = 128 + 9  # a shell's word for it, over SSH
TICK_SECONDS = 0.02  # the times of the evidence are cut to hundredths


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, with what shows it."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


def check(history: History) -> list[Violation]:
    """Return every violation that the history shows."""
    return [Violation(promise, what) for promise, verify in PROMISES.items() for what in verify(history)]


def named(story: Story) -> str:
    return f"execution {story.id} ({story.wanted.kind}, number {story.wanted.number}, {story.status})"


# -- 1 ----------------------------------------------------------------------------------------------------------------


def accepted_means_kept(history: History) -> Iterator[str]:
    for one in history.wanted:
        if one.number not in history.accepted:
            yield f"number {one.number} was never accepted"
        elif history.story(one.number) is None:
            yield f"execution {history.accepted[one.number]} (number {one.number}) was accepted and is gone"
    for execution_id in history.unwanted:
        yield f"execution {execution_id} is there although nobody was told so: its request was taken in twice"
    for story in history.stories.values():
        if story.status not in DONE:
            yield f"{named(story)} has not ended"
        expected = 1 if story.status == "needs_attention" else 0
        if len(story.open_dead_letters) != expected:
            yield f"{named(story)} has {len(story.open_dead_letters)} open DLQ entries, not {expected}"
        if "engine_error" in story.open_dead_letters:
            yield f"{named(story)} is in the DLQ for an error of the engine: {story.error_code}"


# -- 2 ----------------------------------------------------------------------------------------------------------------


def never_twice(history: History) -> Iterator[str]:
    for story in history.stories.values():
        succeeded_under = end_fences(story, "succeeded")
        for target in story.targets:
            runs = runs_of(story, target)
            where = f"{named(story)}, step {target.step.key} on {target.asset} ({target.status})"
            if not story.wanted.steps[target.step.key]:
                if len(runs) > 1:
                    yield f"{where}: is not idempotent and ran {len(runs)} times, under leases {fences(runs)}"
                if runs and target.status in UNTOUCHED:
                    yield f"{where}: it ran"
            elif target.status == "unknown":
                yield f"{where}: is idempotent, so nobody needs to be asked"
            if target.status == "skipped" and runs:
                yield f"{where}: it ran"
            fence = succeeded_under.get(target.id)
            if fence is not None and (later := [run for run in runs if run.fence > fence]):
                yield f"{where}: succeeded under lease {fence} and ran again under {fences(later)}"
            under = [run for run in runs if run.fence == fence]
            if len(under) > 1:
                yield f"{where}: ran {len(under)} times under lease {fence}"


def end_fences(story: Story, end: str) -> dict[int, int]:
    """Return under which lease each target of a step succeeded, or failed, as the events tell it."""
    fence = 0
    found: dict[int, int] = {}
    for event in story.events:
        if event.kind in CLAIMS:
            fence = event.data.get("fence", 0)
        elif event.kind in (f"step.{end}", f"target.{end}") and "step_target" in event.data:
            found[event.data["step_target"]] = fence
    return found


def runs_of(story: Story, target: Target) -> list[Run]:
    return [run for run in story.runs if run.step == target.step.key and run.asset == target.asset]


def fences(runs: list[Run]) -> str:
    return ", ".join(str(run.fence) for run in runs)


# -- 3 ----------------------------------------------------------------------------------------------------------------


def never_two_at_once(history: History) -> Iterator[str]:
    yield from history.evidence.problems
    by_asset: dict[str, list[Run]] = defaultdict(list)
    for run in history.evidence.runs:
        by_asset[run.asset].append(run)
    shared = {one.number: one.kind == "read" for one in history.wanted}
    for asset, runs in by_asset.items():
        yield from _overlaps(asset, runs, shared)
        highest = 0
        for run in runs:  # in the order in which they began
            if run.fence < highest:
                yield f"{asset}: number {run.number} began under lease {run.fence} after lease {highest} had been there"
            if not shared[run.number]:
                highest = max(highest, run.fence)
    holders: dict[int, dict[int, bool]] = defaultdict(dict)
    for asset_id, execution_id, exclusive, granted in history.lock_moves:
        holding = holders[asset_id]
        if not granted:
            holding.pop(execution_id, None)
            continue
        if holding and (exclusive or any(holding.values())):
            yield f"asset {asset_id}: its lock was granted to execution {execution_id} while {list(holding)} held it"
        holding[execution_id] = exclusive


def _overlaps(asset: str, runs: list[Run], shared: dict[int, bool]) -> Iterator[str]:
    """A run is at work from its first line in the file to its last: nobody else's line may stand between them."""
    going_on: list[Run] = []
    for run in runs:
        going_on = [other for other in going_on if other.last > run.first]
        for other in going_on:
            if other.number != run.number and not (shared[other.number] and shared[run.number]):
                yield (
                    f"{asset}: number {run.number} (lease {run.fence}) began at line {run.first + 1}, while number"
                    f" {other.number} (lease {other.fence}) was at work from line {other.first + 1} to {other.last + 1}"
                )
        going_on.append(run)


def readers_together(history: History) -> int:
    """Return how many reads began while another execution's read of the same asset went on."""
    shared = {one.number: one.kind == "read" for one in history.wanted}
    count = 0
    going_on: dict[str, list[Run]] = defaultdict(list)
    for run in history.evidence.runs:
        still = [other for other in going_on[run.asset] if other.last > run.first]
        count += shared[run.number] and any(shared[other.number] and other.number != run.number for other in still)
        going_on[run.asset] = [*still, run]
    return count


# -- 4 ----------------------------------------------------------------------------------------------------------------


def losers_write_nothing(history: History) -> Iterator[str]:
    for execution_id, old, new in history.leases:
        if old is not None and new is not None:
            yield f"execution {execution_id}: lease {new} was given while lease {old} was out"
    for story in history.stories.values():
        yield from _without_gap(story)
        actors = {event.seq: event.actor for event in story.events}
        newest = 0
        for written in story.written:
            actor = actors.get(written.seq, "worker")  # output is only ever written by workers
            if not actor.startswith("worker"):
                continue
            if written.token is None:
                yield f"{named(story)}: {actor} wrote number {written.seq} while nobody had the lease"
                continue
            if actor != "worker" and actor != written.worker:
                yield f"{named(story)}: {actor} wrote number {written.seq} under a lease of {written.worker}"
            if written.token < newest:
                yield f"{named(story)}: number {written.seq} was written under lease {written.token}, after {newest}"
            newest = max(newest, written.token)
        yield from _claims_in_order(story)


def _without_gap(story: Story) -> Iterator[str]:
    seen = sorted([event.seq for event in story.events] + story.chunks)
    if seen != list(range(1, story.last_seq + 1)):
        missing = sorted(set(range(1, story.last_seq + 1)) - set(seen))
        yield f"{named(story)}: its series of {story.last_seq} has gaps or repetitions (missing: {missing[:10]})"


def _claims_in_order(story: Story) -> Iterator[str]:
    fence = 0
    for event in story.events:
        if event.kind in CLAIMS:
            if event.data["fence"] <= fence:
                yield f"{named(story)}: claimed under lease {event.data['fence']} after {fence}"
            fence = event.data["fence"]


# -- 5 ----------------------------------------------------------------------------------------------------------------


def evidence_or_nothing(history: History) -> Iterator[str]:
    for story in history.stories.values():
        succeeded_under, failed_under = end_fences(story, "succeeded"), end_fences(story, "failed")
        for target in story.targets:
            where = f"{named(story)}, step {target.step.key} on {target.asset}"
            codes = {run.fence: run.code for run in runs_of(story, target)}
            if target.status == "succeeded" and story.wanted.writes:
                fence = succeeded_under.get(target.id)
                if target.exit_code != 0 or codes.get(fence or 0) != 0:
                    yield f"{where}: succeeded under lease {fence} with exit code {target.exit_code}, evidence: {codes}"
            elif target.status == "failed" and target.error_code == "exit_code":
                was_killed = target.is_machine and target.exit_code == KILLED and None in codes.values()
                if target.exit_code not in codes.values() and not was_killed:
                    yield f"{where}: failed with exit code {target.exit_code}, evidence: {codes}"
            elif target.status == "failed" and target.is_machine and target.error_code in OF_THE_NETWORK:
                fence = failed_under.get(target.id, 0)
                if target.error_code in NOT_BEGUN and fence in codes:
                    yield f"{where}: is said not to have begun under lease {fence}, and ran"
            elif target.status == "failed" and target.error_code != "killed_by_signal":
                yield f"{where}: failed for a reason that nobody gave it: {target.error_code}"
        if story.status == "succeeded" and any(target.status != "succeeded" for target in story.targets):
            yield f"{named(story)}: {[target.status for target in story.targets]}"


# -- 7 ----------------------------------------------------------------------------------------------------------------


def stop_means_stop(history: History) -> Iterator[str]:
    """When a cancel, a timeout or any other end is written, nothing of the execution runs any more."""
    for story in history.stories.values():
        if not story.runs or story.status not in DONE:
            continue
        ended_at = max(event.at for event in story.events if event.kind in KINDS_TO)
        last = max(run.wrote_last for run in story.runs) + history.boot
        if last > ended_at + TICK_SECONDS:
            yield f"{named(story)}: wrote {last - ended_at:.2f} s after its end was written"


# -- 8 ----------------------------------------------------------------------------------------------------------------


def every_change_has_a_name(history: History) -> Iterator[str]:
    for story in history.stories.values():
        yield from _moves_of_execution(story)
        yield from _moves_of_steps(story)


def _moves_of_execution(story: Story) -> Iterator[str]:
    status = "queued"  # the load needs no approval
    for event in story.events:
        new = KINDS_TO.get(event.kind)
        if new is None or event.kind == "execution.queued":
            continue
        if event.kind == "execution.running" and status == "cancelling":
            continue  # a cancel that came between loading and starting stays (ledger.sql)
        if EXECUTION_MOVES.get((status, new)) != event.kind:
            yield f"{named(story)}: {event.kind} (number {event.seq}) is no move from {status}"
        status = new
    if status != story.status:
        yield f"{named(story)}: its events end with {status}"


def _moves_of_steps(story: Story) -> Iterator[str]:
    of_step: dict[int, str] = {step.id: "pending" for step in story.steps}
    of_target: dict[int, str] = {target.id: "pending" for target in story.targets}
    single = {step.id: sum(target.step.id == step.id for target in story.targets) == 1 for step in story.steps}
    for event in story.events:
        subject, _, word = event.kind.partition(".")
        if subject == "step" and "step_id" in event.data:
            step_id = event.data["step_id"]
            yield from _move(story, event, of_step, step_id, word)
            if single[step_id] and "step_target" in event.data:
                of_target[event.data["step_target"]] = event.data["to"]
        elif subject == "target":
            yield from _move(story, event, of_target, event.data["step_target"], word)
    for step in story.steps:
        if of_step[step.id] != step.status:
            yield f"{named(story)}: step {step.key} is {step.status}, its events end with {of_step[step.id]}"
    for target in story.targets:
        if of_target[target.id] != target.status:
            yield (
                f"{named(story)}: step {target.step.key} on {target.asset} is {target.status}, its events end with"
                f" {of_target[target.id]}"
            )


def _move(story: Story, event: Event, statuses: dict[int, str], of: int, word: str) -> Iterator[str]:
    old, new = event.data["from"], event.data["to"]
    if STEP_MOVES.get((old, new)) != word:
        yield f"{named(story)}: {event.kind} (number {event.seq}) is no move from {old} to {new}"
    if statuses[of] != old:
        yield f"{named(story)}: {event.kind} (number {event.seq}) says {old}, but it was {statuses[of]}"
    statuses[of] = new


# -- what is left ----------------------------------------------------------------------------------------------------


def nothing_left_behind(history: History) -> Iterator[str]:
    for execution_id, state in history.entries:
        yield f"execution {execution_id} is still in the queue: {state}"
    for execution_id, asset_id, state in history.locks:
        yield f"execution {execution_id} still has a request on asset {asset_id}: {state}"


PROMISES: dict[str, Callable[[History], Iterator[str]]] = {
    "accepted means kept": accepted_means_kept,
    "never twice": never_twice,
    "never two at once": never_two_at_once,
    "losers write nothing": losers_write_nothing,
    "evidence or nothing": evidence_or_nothing,
    "stop means stop": stop_means_stop,
    "every change has a name": every_change_has_a_name,
    "nothing left behind": nothing_left_behind,
}

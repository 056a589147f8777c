"""What `drain` and `resume` are about: the whole queue, some or all workers, or a pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from queueing import control, pool
from queueing.pool import PoolRefused

WORDS = {True: "drain", False: "work again"}


@dataclass(frozen=True, slots=True)
class Which:
    """One choice of the options. name: as it is said; running: how many executions run there."""

    name: str
    change: Callable[[bool, str, str], str]
    running: Callable[[], int]

    def would_change(self, draining: bool, by: str) -> str:
        """Return what `change` would say, refusals included: it is done, and undone before anybody sees it."""
        with transaction.atomic():
            said = self.change(draining, by, "")
            transaction.set_rollback(True)
        return f"{said} Or so it would be: nothing was changed."


def add_which(parser: CommandParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--worker", metavar="ID", type=int, nargs="+", help="only these workers; numbers as in --show")
    which.add_argument("--host", metavar="HOST", help="only the workers of this host")
    which.add_argument("--workers", action="store_true", help="all workers; the queue goes on taking in")
    which.add_argument("--pool", metavar="POOL", help="only what waits in this pool")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")


def which_of(options: dict[str, Any]) -> Which:
    """Return what the options name; without one of them it is the whole queue."""
    if options["pool"]:
        return _of_pool(options["pool"])
    if options["worker"]:
        ids = options["worker"]
        return _of_workers(f"worker {', '.join(map(str, ids))}", {"ids": ids})
    if options["host"]:
        return _of_workers(f"the workers of {options['host']}", {"host": options["host"]})
    if options["workers"]:
        return _of_workers("all workers", {})
    return Which("the queue", _change_queue, pool.running_on)


def _change_queue(draining: bool, by: str, reason: str) -> str:
    if draining:
        control.drain(by=by, reason=reason)
        return "The queue takes nothing in and hands nothing out."
    changed = control.resume(by=by, reason=reason)
    return "The queue is open again." if changed else "The queue was not drained."


def _of_workers(name: str, chosen: dict[str, Any]) -> Which:
    def change(draining: bool, by: str, reason: str) -> str:
        verb = pool.drain_workers if draining else pool.undrain_workers
        try:
            changed = verb(by=by, reason=reason, **chosen)
        except PoolRefused as refused:
            raise CommandError(f"{refused} {refused.how_to_fix}") from None
        if not changed:
            return f"No change: of {name}, {'every one drains already' if draining else 'none drained'}."
        return f"{changed} {_workers(changed)} {WORDS[draining] if changed > 1 else _one(draining)}."

    return Which(name, change, lambda: pool.running_on(**chosen))


def _of_pool(name: str) -> Which:
    def change(draining: bool, by: str, reason: str) -> str:
        known = control.pool_state(name).known
        try:
            changed = (control.pause_pool if draining else control.resume_pool)(name, by=by, reason=reason)
        except PoolRefused as refused:
            raise CommandError(f"{refused} {refused.how_to_fix}") from None
        unknown = "" if known else f" No worker names the pool {name} and nothing waits in it: is it the right name?"
        if not changed:
            return f"No change: the pool {name} {'is paused already' if draining else 'was not paused'}.{unknown}"
        if draining:
            return f"The pool {name} is paused: nothing of it is handed out.{unknown}"
        return f"The pool {name} is open again.{unknown}"

    return Which(f"the pool {name}", change, lambda: control.pool_state(name).running)


def _workers(count: int) -> str:
    return "worker" if count == 1 else "workers"


def _one(draining: bool) -> str:
    return "drains" if draining else "works again"

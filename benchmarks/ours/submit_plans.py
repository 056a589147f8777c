"""Program: submit plans of one no-op step, each with an idempotency key; report how many a second were taken in.

In batches as the batch endpoint does it, or one at a time with a pause after each, for a system that is idle.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import django

from benchmarks.peers.report import report

BATCH = 1000


def plan(number: int) -> dict[str, Any]:
    """A plan of one no-op, different for each number."""
    return {"title": f"no-op {number}", "steps": [{"id": "only", "tool": "noop", "inputs": {}}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, required=True)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="one at a time, about this long apart")
    args = parser.parse_args()
    django.setup()
    from executions.services import Accepted, Submission, submit_many
    from safety.accounts import FIRST_ADMIN, ensure_first_admin
    from safety.models import User

    ensure_first_admin()
    by = User.objects.select_related("tenant").get(username=FIRST_ADMIN)
    seconds = 0.0
    size = 1 if args.pause_ms else BATCH
    for first in range(0, args.plans, size):
        numbers = range(first, min(first + size, args.plans))
        submissions = [Submission(plan(number), idempotency_key=f"benchmark {number}") for number in numbers]
        began = time.perf_counter()
        answers = submit_many(submissions, by=by)
        seconds += time.perf_counter() - began
        for answer in answers:
            if not isinstance(answer, Accepted) or answer.replay or answer.status != "queued":
                raise SystemExit(f"a plan was not queued: {answer}")
        if args.pause_ms:
            # Not in step with anything that looks at the queue at regular times.
            time.sleep(args.pause_ms / 1000 * random.uniform(0.5, 1.5))
    report(plans=args.plans, submit_per_second=args.plans / seconds)


if __name__ == "__main__":
    main()

"""django-q2 as it comes, with its ORM broker: enqueue no-ops one by one, then let a running cluster do a batch.

The cluster is up and has done a few jobs before. The batch becomes visible in one commit; the clock runs from that
commit until the last result is recorded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import django

from benchmarks.peers.report import rate_of, report

JOB = "benchmarks.peers.stock_q2.jobs.noop"
WARM_UP = 4


def wait_for_results(number: int, deadline: float) -> float:
    """Wait until `number` jobs are recorded as successful; return when that was seen."""
    from django_q.models import Success

    while (done := Success.objects.count()) < number:
        if time.monotonic() > deadline:
            raise SystemExit(f"{done} of {number} results when the time was over")
        time.sleep(0.02)
    return time.perf_counter()


def enqueue_rate(jobs: int) -> float:
    """Jobs per second put one by one into a queue that nobody reads."""
    from django_q.models import OrmQ
    from django_q.tasks import async_task

    rate = rate_of(jobs, lambda: [async_task(JOB, cluster="unread") for _ in range(jobs)])
    OrmQ.objects.all().delete()
    return rate


def process_rate(jobs: int, deadline: float) -> float:
    """Jobs per second that a running cluster does, of a batch that appears in one commit."""
    from django.db import transaction
    from django_q.tasks import async_task

    for _ in range(WARM_UP):
        async_task(JOB)
    wait_for_results(WARM_UP, deadline)
    with transaction.atomic():
        for _ in range(jobs):
            async_task(JOB)
    began = time.perf_counter()
    return jobs / (wait_for_results(WARM_UP + jobs, deadline) - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--bulk", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--deadline-seconds", type=float, default=60.0)
    args = parser.parse_args()

    deadline = time.monotonic() + args.deadline_seconds
    os.environ.update(
        DJANGO_SETTINGS_MODULE="benchmarks.peers.stock_q2.settings",
        DATABASE_URL=args.database_url,
        Q2_BULK=str(args.bulk),
        Q2_WORKERS=str(args.workers),
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    single = enqueue_rate(min(args.jobs, 500))
    with subprocess.Popen([sys.executable, "-m", "django", "qcluster"]) as cluster:
        try:
            rate = process_rate(args.jobs, deadline)
        finally:
            cluster.terminate()
            cluster.wait(15)
    report(
        jobs=args.jobs,
        enqueue_per_second=single,
        process_per_second=rate,
        details={"workers": args.workers, "bulk": args.bulk, "broker": "ORM"},
    )


if __name__ == "__main__":
    main()

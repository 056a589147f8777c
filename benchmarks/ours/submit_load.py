"""Program: submit plans of one no-op step over HTTP, on several connections that stay open; how many a second.

All bodies are written before the clock starts. Some requests on each connection go first: they pay for the imports,
the connections to the database and the plans of the statements.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from dataclasses import dataclass, field

import django
import psutil

from benchmarks.machine import percentile
from benchmarks.ours.submit_plans import plan
from benchmarks.peers.report import report

WARM_UP_REQUESTS = 3  # on each connection
TIMEOUT_SECONDS = 60.0


@dataclass(slots=True)
class Caller:
    """One connection and what it sends; `seconds` is what each request of the measurement took."""

    port: int
    token: str
    requests: list[tuple[str, bytes, dict[str, str]]]
    seconds: list[float] = field(default_factory=list)
    failure: str | None = None

    def run(self, barrier: threading.Barrier) -> None:
        """Send everything; a `failure` says what was not taken in."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
            for number, request in enumerate(self.requests):
                if number == WARM_UP_REQUESTS:
                    barrier.wait(TIMEOUT_SECONDS)
                began = time.perf_counter()
                self._send(connection, *request)
                if number >= WARM_UP_REQUESTS:
                    self.seconds.append(time.perf_counter() - began)
        except Exception as fault:  # a thread's own exception would be printed and forgotten
            self.failure = f"{type(fault).__name__}: {fault}"
            barrier.abort()

    def _send(self, connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> None:
        always = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request("POST", path, body, {**always, **headers})
        response = connection.getresponse()
        told = response.read()
        answer = json.loads(told)
        states = [item.get("status") for item in answer["results"]] if "results" in answer else [answer.get("status")]
        if response.status not in (200, 202) or set(states) != {"queued"}:
            raise SystemExit(f"not all was queued, status {response.status}: {told[:500]!r}")


def request(number: int, plans: int) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of one request; no two plans are alike."""
    if plans == 1:
        return "/api/v1/executions/", json.dumps({"plan": plan(number)}).encode(), {"Idempotency-Key": f"no {number}"}
    numbers = range(number * plans, (number + 1) * plans)
    items = [{"plan": plan(one), "idempotency_key": f"no {one}"} for one in numbers]
    return "/api/v1/executions/batch/", json.dumps({"executions": items}).encode(), {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--web-pid", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True, help="of all connections, measured")
    parser.add_argument("--plans", type=int, required=True, help="in each request")
    parser.add_argument("--connections", type=int, required=True)
    args = parser.parse_args()
    django.setup()
    from safety.accounts import FIRST_ADMIN, ensure_first_admin, issue_token
    from safety.models import User

    ensure_first_admin()
    token = issue_token(User.objects.get(username=FIRST_ADMIN), "benchmark")
    each = args.requests // args.connections + WARM_UP_REQUESTS
    callers = [
        Caller(args.port, token, [request(number, args.plans) for number in range(first * each, (first + 1) * each)])
        for first in range(args.connections)
    ]
    barrier = threading.Barrier(args.connections + 1)
    threads = [threading.Thread(target=caller.run, args=(barrier,)) for caller in callers]
    for thread in threads:
        thread.start()
    web = psutil.Process(args.web_pid)
    try:
        barrier.wait(TIMEOUT_SECONDS)
    except threading.BrokenBarrierError:
        raise SystemExit("; ".join(caller.failure for caller in callers if caller.failure)) from None
    began, cpu = time.perf_counter(), web.cpu_times()
    for thread in threads:
        thread.join()
    seconds, spent = time.perf_counter() - began, web.cpu_times()
    if failures := [caller.failure for caller in callers if caller.failure]:
        raise SystemExit("; ".join(failures))
    times = [one for caller in callers for one in caller.seconds]
    measured = len(times) * args.plans
    cpu_seconds = spent.user + spent.system - cpu.user - cpu.system
    report(
        all_requests=each * args.connections,
        requests=len(times),
        plans=measured,
        seconds=seconds,
        plans_per_second=measured / seconds,
        web_cpu_us_per_plan=cpu_seconds / measured * 1e6,
        request_ms_p50=percentile(times, 50) * 1000,
        request_ms_p99=percentile(times, 99) * 1000,
        connections=args.connections,
    )


if __name__ == "__main__":
    main()

"""Program: read pages, API and probes of a filled installation, one after the other, and say how long each took."""

from __future__ import annotations

import argparse
import http.client
import time
from typing import Any

import django

from benchmarks.machine import percentile
from benchmarks.peers.report import report

WARM_UP = 3
TIMEOUT_SECONDS = 120.0


def addresses(ids: dict[str, int]) -> dict[str, str]:
    """What is read, by a name for the table; each with a number of its kind where it wants one."""
    api = "/api/v1"
    return {
        "page: executions": "/executions/",
        "page: executions, next 50 of a status": f"/executions/?status=succeeded&before={ids['finished']}",
        "page: an execution": f"/executions/{ids['finished']}/",
        "page: an execution, 10,000 in line": f"/executions/{ids['waiting']}/",
        "API: executions": f"{api}/executions/",
        "API: an execution, 10,000 in line": f"{api}/executions/{ids['waiting']}/",
        "API: events": f"{api}/executions/{ids['finished']}/events/",
        "API: queue": f"{api}/queue/",
        "API: workers": f"{api}/workers/",
        "API: dead letters": f"{api}/dead-letters/",
        "/readyz": "/readyz",
        "/metrics": "/metrics",
        "admin: home": "/admin/",
        "admin: executions": "/admin/executions/execution/",
        "admin: steps": "/admin/executions/step/",
        "admin: queue entries": "/admin/queueing/queueentry/",
        "admin: queue entries, leased": "/admin/queueing/queueentry/?state__exact=leased",
        "admin: locks": "/admin/queueing/assetlock/",
        "admin: DLQ": "/admin/queueing/deadletter/",
        "admin: DLQ, found by an error": "/admin/queueing/deadletter/?q=host+13",
    }


def read(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> tuple[int, int, float]:
    """Get one; its status, its size in bytes, and the seconds until the last byte."""
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    return response.status, len(body), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    django.setup()
    from django.test import Client

    from benchmarks.ours.growth_fill import FINISHED_FROM, WAITING, WAITING_FROM
    from safety.accounts import FIRST_ADMIN
    from safety.models import User

    browser = Client()
    user = User.objects.get(username=FIRST_ADMIN)
    browser.force_login(user, backend="safety.backends.PasswordBackend")
    headers = {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}
    reads: dict[str, Any] = {}
    connection = http.client.HTTPConnection("127.0.0.1", args.port, timeout=TIMEOUT_SECONDS)
    ids = {"finished": FINISHED_FROM + 1000, "waiting": WAITING_FROM + WAITING - 1}
    for name, path in addresses(ids).items():
        seconds = []
        for number in range(WARM_UP + args.rounds):
            status, size, took = read(connection, path, headers)
            # 503 is an answer of /readyz: no worker is running, and everything was looked at.
            if status != 200 and not (path == "/readyz" and status == 503):
                break
            if number >= WARM_UP:
                seconds.append(took)
        if len(seconds) < args.rounds:
            reads[name] = {"failed": f"{path} gave {status}"}
            continue
        reads[name] = {
            "ms_p50": percentile(seconds, 50) * 1000,
            "ms_p95": percentile(seconds, 95) * 1000,
            "bytes": size,
            "path": path,
        }
    report(reads=reads)


if __name__ == "__main__":
    main()

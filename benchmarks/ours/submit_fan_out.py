"""Program: make machines that are all the same sshd on loopback, and submit one command on all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

import django

from benchmarks.peers.report import report

SECRET = "ssh/bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, required=True)
    parser.add_argument("--concurrent", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--host-key", required=True)
    parser.add_argument("command", nargs="+", help="what runs on each of them")
    args = parser.parse_args()
    django.setup()
    from executions.models import Asset
    from executions.services import Submission, submit
    from safety.accounts import FIRST_ADMIN, ensure_first_admin
    from safety.models import User
    from safety.secrets.keeping import store_secret

    ensure_first_admin()
    by = User.objects.select_related("tenant").get(username=FIRST_ADMIN)
    store_secret(by.tenant, SECRET, args.key.read_text(), by=by)
    Asset.objects.bulk_create(
        Asset(
            tenant=by.tenant,
            name=f"t{number}",
            ip_address="127.0.0.1",
            connection="ssh",
            port=args.port,
            username=args.user,
            host_key=args.host_key,
            credential=SECRET,
            environment="development",
            tags=["bench"],
        )
        for number in range(args.targets)
    )
    step = {
        "id": "command",
        "tool": "command",
        "inputs": {"argv": args.command},
        "targets": ["tag:bench"],
        "idempotent": True,
        "fan_out": {"max_concurrent": args.concurrent},
        "timeout_seconds": 600,
    }
    accepted = submit(Submission({"title": "fan-out", "steps": [step]}), by=by)
    report(execution=accepted.execution_id, status=accepted.status)


if __name__ == "__main__":
    main()

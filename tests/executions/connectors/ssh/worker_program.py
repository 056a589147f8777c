"""A small worker to be killed and frozen: runs a script over SSH and extends its right to, as a lease's heart would.

Usage: worker_program.py, with a JSON object on standard input: port, host_key, username, private_key, script,
right_seconds. Prints what the script prints.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

from executions.connectors import Credential, Invocation, Stop, Stream, Target, Warden
from executions.connectors.registry import Surroundings
from executions.connectors.ssh import SshConnector


class PrintingSink:
    def write(self, stream: Stream, data: bytes) -> None:
        sys.stdout.write(data.decode())
        sys.stdout.flush()


def keep_extending(warden: Warden, right_seconds: float) -> None:
    while True:
        warden.extend(time.monotonic() + right_seconds)
        time.sleep(0.05)


async def main(given: dict[str, Any]) -> None:
    warden = Warden()
    warden.extend(time.monotonic() + given["right_seconds"])
    threading.Thread(target=keep_extending, args=(warden, given["right_seconds"]), daemon=True).start()
    target = Target(
        name="web-1",
        ip_address="127.0.0.1",
        port=given["port"],
        connection="ssh",
        host_keys=(given["host_key"],),
        credential=Credential(username=given["username"], private_key=given["private_key"]),
    )
    invocation = Invocation(argv=("/bin/sh", "-c", given["script"]))
    outcome = await SshConnector(Surroundings(warden)).run(
        invocation, target, sink=PrintingSink(), stop=Stop(), fence=1
    )
    print("outcome", outcome.exit_code, outcome.error_code, outcome.error, flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))

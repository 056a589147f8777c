"""A small worker to be killed and frozen: runs the script of its argument, and extends its right to run it.

Usage: worker_program.py SCRIPT RIGHT_SECONDS. The right is renewed every 50 ms for RIGHT_SECONDS from then; 0 means
that it is never limited. Prints what the command prints, then `outcome` and a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time

from executions.connectors import NO_TARGET, Invocation, Stop, Stream
from executions.connectors.local import LocalConnector
from executions.connectors.warden import Warden


class PrintingSink:
    def write(self, stream: Stream, data: bytes) -> None:
        sys.stdout.write(data.decode())
        sys.stdout.flush()


def keep_extending(warden: Warden, right_seconds: float) -> None:
    while True:
        warden.extend(time.monotonic() + right_seconds)
        time.sleep(0.05)


async def main(script: str, right_seconds: float) -> None:
    warden = Warden()
    if right_seconds:
        warden.extend(time.monotonic() + right_seconds)
        threading.Thread(target=keep_extending, args=(warden, right_seconds), daemon=True).start()
    connector = LocalConnector(warden)
    invocation = Invocation(argv=("/bin/sh", "-c", script))
    warden.start()
    print("warden", warden.pid, flush=True)
    outcome = await connector.run(invocation, NO_TARGET, sink=PrintingSink(), stop=Stop(), fence=1)
    print("outcome", json.dumps([outcome.exit_code, outcome.error_code, outcome.error]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))

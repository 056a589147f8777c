"""ansible: one command over SSH on many targets, all of them the same sshd on loopback.

The clock runs over the whole `ansible` process, its start included, as whoever types the command waits for it. With
`raw` it sends the command line and no more, which is the least that it can do; with `command` it sends a module and
runs it with the target's Python, as it does for nearly all of its modules.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peers.report import report

CONFIGURATION = """\
[defaults]
host_key_checking = True
retry_files_enabled = False
interpreter_python = {python}
[ssh_connection]
pipelining = True
ssh_args = -C -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--known-hosts", type=Path, required=True)
    parser.add_argument("--jobs", type=int, required=True, help="how many targets")
    parser.add_argument("--forks", type=int, default=50)
    parser.add_argument("--module", default="raw")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ansible-") as folder:
        home = Path(folder)
        (home / "ansible.cfg").write_text(CONFIGURATION.format(python=sys.executable, known_hosts=args.known_hosts))
        host = f"ansible_host=127.0.0.1 ansible_port={args.port} ansible_user={args.user}"
        host += f" ansible_ssh_private_key_file={args.key}"
        # A control socket for each: they share the address, and each is to have a connection of its own.
        lines = [f"t{number} {host} ansible_control_path={folder}/c{number}" for number in range(args.jobs)]
        (home / "hosts").write_text("\n".join(lines) + "\n")
        command = [str(Path(sys.executable).parent / "ansible"), "all", "-i", str(home / "hosts"), "-o"]
        command += ["-f", str(args.forks), "-m", args.module, "-a", "uname -a"]
        environment = {
            **os.environ,
            "HOME": folder,
            "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
            "LC_ALL": "C.UTF-8",
        }
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
    succeeded = sum("Linux" in line for line in done.stdout.splitlines())
    if done.returncode or succeeded != args.jobs:
        raise SystemExit(f"{succeeded} of {args.jobs} targets answered:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    report(
        jobs=args.jobs,
        process_per_second=args.jobs / seconds,
        details={"forks": args.forks, "module": args.module, "seconds": seconds},
    )


if __name__ == "__main__":
    main()

"""Commands over SSH as another user, by sudo: its password on no command line, its refusals told apart."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from executions.connectors import Credential, ErrorCode, Invocation, Outcome, Stop, Target
from executions.connectors.ssh import SshConnector
from tests.executions.connectors.recording import RecordingSink, is_alive
from tests.sshd import Sshd

# As sudo does with -S and -p: asks on stderr, reads one line from stdin, asks again, runs the rest.
SUDO = """#!/bin/sh
[ "$1 $2 $3 $5 $6 $8" = "-H -S -p -k -u --" ] || { echo "usage: $*" >&2; exit 1; }
prompt=$4 user=$7
shift 8
[ "$user" != nobody ] || { echo "app is not allowed to run sudo on web-1." >&2; exit 1; }
for try in 1 2 3; do
    printf %s "$prompt" >&2
    IFS= read -r word || exit 1
    if [ "$word" = "it's \\"me\\"" ]; then AS=$user exec "$@"; fi
    echo "Sorry, try again." >&2
done
exit 1
"""


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A host whose sudo wants a password."""
    folder = tmp_path_factory.mktemp("sudo")
    (folder / "bin").mkdir()
    (folder / "bin/sudo").write_text(SUDO)
    (folder / "bin/sudo").chmod(0o755)
    server = Sshd(folder / "sshd", path=f"{folder}/bin:/usr/bin:/bin")
    yield server
    server.close()


async def run(
    connector: SshConnector, target: Target, script: str, *, run_as: str, stdin: bytes | None = None
) -> tuple[Outcome, RecordingSink]:
    sink = RecordingSink()
    invocation = Invocation(argv=("sh", "-c", script), run_as=run_as, stdin=stdin)
    outcome = await connector.run(invocation, target, sink=sink, stop=Stop(), fence=1)
    return outcome, sink


def with_password(server: Sshd, password: str) -> Target:
    return server.target(credential=replace(server.credential, sudo_password=password))


async def test_the_password_is_given_when_it_is_asked_for_and_stands_on_no_command_line(
    connector: SshConnector, asking: Sshd
) -> None:
    script = 'cat; echo "$AS"; cat /proc/[0-9]*/cmdline | tr "\\0" " "; env'
    outcome, sink = await run(connector, with_password(asking, 'it\'s "me"'), script, run_as="app", stdin=b"in\n")

    assert outcome.exit_code == 0, outcome.error
    assert sink.stdout.startswith("in\napp\n")
    assert "sudo" not in sink.stdout.split("\n")[0]
    assert 'it\'s "me"' not in sink.stdout


@pytest.mark.parametrize(
    ("password", "run_as", "says"),
    [("wrong", "app", "refused the password"), ("", "app", "wants a password"), ("x", "nobody", "not allowed to run")],
)
async def test_what_sudo_refuses_is_told(
    connector: SshConnector, asking: Sshd, password: str, run_as: str, says: str
) -> None:
    outcome, sink = await run(connector, with_password(asking, password), "echo ran", run_as=run_as)

    assert outcome.error_code == ErrorCode.RUN_AS_REFUSED
    assert says in (outcome.error or "")
    assert sink.stdout == ""


async def test_a_user_name_is_never_an_option(connector: SshConnector, sshd: Sshd) -> None:
    for name in ("-i", "#0", "a b", "$(id)", "x;id"):
        outcome, _ = await run(connector, sshd.target(), "echo ran", run_as=name)
        assert outcome.error_code == ErrorCode.INVALID_INVOCATION


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("sudo") is None, reason="needs root and sudo")
async def test_the_command_of_another_user_runs_as_that_user_and_is_stopped_all_the_same(
    connector: SshConnector, sshd: Sshd
) -> None:
    outcome, sink = await run(connector, sshd.target(), "id -un; cd; pwd; echo $OPSCONDUCTOR_FENCE", run_as="nobody")
    assert (outcome.exit_code, sink.stdout.split()[0], sink.stdout.split()[-1]) == (0, "nobody", "1"), outcome.error

    sink, stop = RecordingSink(), Stop(grace_seconds=0.2)
    invocation = Invocation(argv=("sh", "-c", "trap '' TERM; echo $$; echo ready; sleep 60"), run_as="nobody")
    running = asyncio.ensure_future(connector.run(invocation, sshd.target(), sink=sink, stop=stop, fence=1))
    await sink.wait_for_text("ready")
    stop.request("user")
    outcome = await running
    assert outcome.stop_confirmed is True, outcome.error
    assert not is_alive(int(sink.stdout.split()[0]))


def test_no_password_is_in_a_repr(sshd: Sshd, tmp_path: Path) -> None:
    target = sshd.target(credential=Credential(username="x", password="geheim-1", sudo_password="geheim-2"))

    assert "geheim" not in repr(target) + repr(target.credential)

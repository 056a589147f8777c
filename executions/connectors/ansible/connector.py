"""Runs a playbook on all the targets of a step as one run of ansible-playbook."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from executions.connectors.ansible import contents, files
from executions.connectors.ansible.connections import end_connections
from executions.connectors.ansible.contents import StoredFiles
from executions.connectors.ansible.folder import NoMemoryFolder, RunFolder, make_folder
from executions.connectors.ansible.machines import Describer, Keys, Machine
from executions.connectors.ansible.playbooks import NoPlaybook, find_playbook
from executions.connectors.ansible.run import PlaybookRun, Said
from executions.connectors.ansible.tidy import PATIENCE_SECONDS, name_of
from executions.connectors.base import ErrorCode, Invocation, Outcome, OutputSink, Stop, Target
from executions.connectors.local import LocalConnector

if TYPE_CHECKING:
    from executions.connectors.registry import Surroundings

DEFAULT_FORKS = 20
RUNS_AT_ONCE = 4  # in a worker; each is about 75 MB, and 20 MB for each target at a time
_NEEDED = ("ansible_runner", "ansible")
_INSTALL = "This worker cannot run playbooks: install requirements-ansible.txt on its host, then restart it."
_PROGRAM = Path(__file__).with_name("program.py")
_TIDY = Path(__file__).with_name("tidy.py")
PLAYBOOKS = "playbooks"  # in the run's folder: the copy that is run
_SUBMIT_ANEW = (
    "Nothing ran. Look at what is there now, and submit the plan again: it is then shown, and approved, with that. If"
    " nobody changed anything, this worker's folder is not that of the web process: make them the same."
)


class AnsibleConnector:
    """Playbooks as commands of this machine, guarded by the worker's warden like every other.

    All that ansible is told stands in a private folder in memory that is gone when the run is. Where it must stop, the
    processes here are ended; a task that was running at the far side loses its terminal and its connection, and
    whether it ended is not known.
    """

    def __init__(
        self,
        commands: LocalConnector,
        *,
        playbooks: Path | None,
        forks: int = DEFAULT_FORKS,
        known_hosts: str = "",
        agents: Iterable[str] = (),
    ) -> None:
        """`playbooks`: the folder of this installation's; `known_hosts`: the file for assets without a host key;
        `agents`: the sockets of SSH agents that credentials may name."""
        self._commands = commands
        self._playbooks = playbooks
        self._forks = forks
        self._known_hosts = known_hosts
        self._agents = frozenset(agents)
        self._places: asyncio.Semaphore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, invocation: Invocation, target: Target, *, sink: OutputSink, stop: Stop, fence: int) -> Outcome:
        """The same for a single target."""
        outcomes: list[Outcome] = []
        await self.run_group(
            invocation,
            [target],
            sinks=[sink],
            stop=stop,
            fence=fence,
            on_outcome=lambda _, outcome: outcomes.append(outcome),
        )
        return outcomes[0]

    async def run_group(
        self,
        invocation: Invocation,
        targets: Sequence[Target],
        *,
        sinks: Sequence[OutputSink],
        stop: Stop,
        fence: int,
        on_outcome: Callable[[int, Outcome], None],
    ) -> None:
        """See GroupConnector. Targets that cannot be reached by what is known of them are told first, and left out."""
        run = PlaybookRun(targets, sinks, on_outcome)
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            run.end_all(Outcome(None, ErrorCode.NOT_SUPPORTED, f"{_INSTALL} Not there: {', '.join(missing)}."))
            return
        try:
            asked = _asked_for(invocation)
            find_playbook(self._folder_of_playbooks(), asked["playbook"])
        except NoPlaybook as problem:
            run.end_all(_no_playbook(problem))
            return
        async with _Place(self._semaphore(), stop) as is_free:
            if not is_free or stop.requested:
                run.end_all(Outcome(None, ErrorCode.NOT_STARTED, "Not started: asked to stop.", stop_confirmed=True))
                return
            try:
                folder = make_folder()  # not awaited: nobody may be cancelled between it and what removes it
            except (NoMemoryFolder, OSError) as error:
                sentence = f"The worker has no place in memory for what a playbook must be told of secrets: {error}"
                run.end_all(Outcome(None, ErrorCode.START_FAILED, sentence))
                return
            try:
                await self._run_in(folder, run, invocation, asked, stop, fence)
                # Thousands of files may be in it: not on the loop, on which others wait.
                await asyncio.to_thread(shutil.rmtree, folder.path / PLAYBOOKS, ignore_errors=True)
            finally:
                # Not awaited: whoever cancels this task must not leave what is in it behind.
                folder.remove()

    async def close(self) -> None:
        """Nothing is kept between runs."""

    async def _run_in(
        self,
        folder: RunFolder,
        run: PlaybookRun,
        invocation: Invocation,
        asked: Mapping[str, Any],
        stop: Stop,
        fence: int,
    ) -> None:
        playbook = await asyncio.to_thread(self._copied, folder, invocation, asked)
        if isinstance(playbook, Outcome):
            run.end_all(playbook)
            return
        keys = Keys(folder.path)
        run.name = name = name_of(folder.token)
        describer = Describer(keys, self._known_hosts, invocation.run_as, fence, name, self._agents)
        machines = run.begin(await asyncio.to_thread(describer.all, run.targets))
        if not machines:
            return
        arguments = await asyncio.to_thread(self._write, folder, machines, keys, playbook, invocation, asked)
        command = Invocation(
            argv=(sys.executable, "-I", str(_PROGRAM)),
            stdin=json.dumps({"folder": str(folder.path), "arguments": arguments, "keys": keys.private}).encode(),
            environment=self._environment(folder),
            max_output_bytes=invocation.max_output_bytes,
        )
        outcome = await self._commands.run(command, Target(connection="local"), sink=run, stop=stop, fence=fence)
        if _may_still_act(outcome, stop):
            run.tidied = await self._tidy(folder, name, stop, fence)
        await asyncio.to_thread(end_connections, folder.path / "cp")
        run.end(outcome)

    async def _tidy(self, folder: RunFolder, name: str, stop: Stop, fence: int) -> set[int]:
        """Remove what the run has put on its targets, and return where there was something: over the connections that
        it left open, for a few seconds at most, and no longer than the worker may act."""
        sink = Said()
        command = Invocation(
            argv=(sys.executable, "-I", str(_TIDY)),
            stdin=json.dumps({"sockets": str(folder.path / "cp"), "run": name}).encode(),
            environment={"TMPDIR": str(folder.path / "tmp")},
        )
        own = Stop(grace_seconds=0)  # the run's may have been asked already: that is when there is most to remove
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS + 1, own.request, "timeout")
        lost = asyncio.ensure_future(stop.wait_for_lease_lost())
        lost.add_done_callback(lambda done: None if done.cancelled() else own.request("lease_lost"))
        try:
            await self._commands.run(command, Target(connection="local"), sink=sink, stop=own, fence=fence)
        finally:
            timer.cancel()
            lost.cancel()
        return {int(word) for word in sink.text.split()}

    def _copied(self, folder: RunFolder, invocation: Invocation, asked: Mapping[str, Any]) -> Path | Outcome:
        """Copy the folder of playbooks into that of the run, and return the playbook there; or why it may not run.

        What is run is the copy, so that nobody can change it between the look and the run.
        """
        name, into = asked["playbook"], folder.path / PLAYBOOKS
        try:
            now = contents.copy(self._folder_of_playbooks(), into)
            playbook = find_playbook(into, name)
        except NoPlaybook as problem:
            return _no_playbook(problem)
        except OSError as error:
            return Outcome(None, ErrorCode.START_FAILED, f"No copy of the folder of playbooks could be made: {error}")
        said = contents.changes(cast(StoredFiles, invocation.files), now, name) if invocation.files else ""
        if not said and asked.get("sha256") and now.files[name] != asked["sha256"]:
            said = f"The playbook {name} is another than the plan means: its SHA-256 differs."
        if said:
            return Outcome(None, ErrorCode.FILES_CHANGED, f"{said} {_SUBMIT_ANEW}")
        return playbook

    def _write(
        self,
        folder: RunFolder,
        machines: Sequence[Machine],
        keys: Keys,
        playbook: Path,
        invocation: Invocation,
        asked: Mapping[str, Any],
    ) -> list[str]:
        """Fill the folder; return the words for ansible-playbook, none of which is a secret."""
        for name in ("cp", "tmp", "home"):
            (folder.path / name).mkdir(mode=0o700)
        for name, text in keys.public.items():
            folder.write(f"keys/{name}", text)
        known = [line for machine in machines for line in machine.known_hosts]
        known_hosts = folder.write("known_hosts", "".join(f"{line}\n" for line in known))
        folder.write("ssh_config", files.ssh_config(machines, known_hosts))
        folder.write("ansible.cfg", files.ansible_cfg(folder.path))
        hosts = folder.write("hosts.yml", files.inventory(machines))
        wrapper = folder.write("playbook.yml", files.wrapper(playbook))
        forks = min(self._forks, len(machines), invocation.at_once or self._forks)
        arguments = ["-i", str(hosts), "--forks", str(forks)]
        if asked.get("extra_vars"):
            arguments += ["-e", f"@{folder.write('vars.yml', files.extra_vars(asked['extra_vars']))}"]
        if asked.get("check") or invocation.check:
            arguments.append("--check")
        if asked.get("diff"):
            arguments.append("--diff")
        for name, option in (("tags", "--tags"), ("skip_tags", "--skip-tags")):
            if asked.get(name):
                arguments.append(f"{option}={','.join(asked[name])}")
        return [*arguments, str(wrapper)]

    def _environment(self, folder: RunFolder) -> dict[str, str]:
        playbooks = folder.path / PLAYBOOKS
        return {
            "ANSIBLE_CONFIG": str(folder.path / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder.path / "home"),
            "ANSIBLE_HOST_KEY_CHECKING": "True",  # ansible-runner would turn it off
            "ANSIBLE_ROLES_PATH": str(playbooks / "roles"),
            "ANSIBLE_COLLECTIONS_PATH": str(playbooks / "collections"),
            "OPSCONDUCTOR_SHARED_MEMORY": folder.shared_memory_prefix,
            "TMPDIR": str(folder.path / "tmp"),
        }

    def _folder_of_playbooks(self) -> Path:
        if self._playbooks is None:
            raise NoPlaybook("is not there: this worker has no folder of playbooks", "Set ANSIBLE_PLAYBOOKS.")
        return self._playbooks

    def _semaphore(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._places is None or self._loop is not loop:
            self._places, self._loop = asyncio.Semaphore(RUNS_AT_ONCE), loop
        return self._places


def make(surroundings: Surroundings) -> AnsibleConnector:
    return AnsibleConnector(
        # Killed, the program that runs a playbook would leave it going on.
        LocalConnector(surroundings.warden, grace_seconds=surroundings.grace_seconds, failed_leave_nothing=True),
        playbooks=surroundings.options.get("ansible_playbooks"),
        forks=surroundings.options.get("ansible_forks", DEFAULT_FORKS),
        known_hosts=str(surroundings.options.get("ssh_known_hosts") or ""),
        agents=surroundings.options.get("ssh_agent_sockets") or (),
    )


class _Place:
    """One of the places for a run, waited for no longer than until somebody asks to stop."""

    def __init__(self, places: asyncio.Semaphore, stop: Stop) -> None:
        self._places = places
        self._stop = stop
        self._held = False

    async def __aenter__(self) -> bool:
        getting = asyncio.ensure_future(self._places.acquire())
        asked = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({getting, asked}, return_when=asyncio.FIRST_COMPLETED)
            self._held = getting.done()
        finally:
            asked.cancel()
            if not getting.done():
                getting.cancel()
            elif not self._held:
                self._places.release()
        return self._held

    async def __aexit__(self, *_: object) -> None:
        if self._held:
            self._places.release()


def _asked_for(invocation: Invocation) -> dict[str, Any]:
    """The step's inputs as the tool checked them. Raises NoPlaybook."""
    try:
        asked = json.loads(invocation.stdin or b"")
        if isinstance(asked, dict) and isinstance(asked.get("playbook"), str):
            return asked
    except ValueError:
        pass
    raise NoPlaybook("is not named", "Name it in the input playbook.")


def _may_still_act(outcome: Outcome, stop: Stop) -> bool:
    """Whether something may be done on the targets after a run: not when it was the warden that ended it."""
    if stop.requested:
        return stop.reason != "lease_lost"
    return outcome.error_code != ErrorCode.STOPPED


def _no_playbook(problem: NoPlaybook) -> Outcome:
    sentence = f"The playbook {problem.message}. {problem.how_to_fix}"
    return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence)

"""The peers: which configurations are measured, and how large. Each takes less than 20 s, in a quick run less than 6 s.

All work on no-ops, on the server of the run, one after the other. "Process" counts from the first start to the last
finish that is recorded, so the start of worker processes is not in it; the scripts in peers/ say how each tells.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.children import ChildFailed
from benchmarks.machine import ROOT
from benchmarks.measurement import PeerRates
from benchmarks.redis_server import NoRedis, redis_server
from benchmarks.run import Peer, Run

TIMEOUT_SECONDS = 120.0


def start(run: Run, name: str, program: str, *options: str | Path) -> PeerRates:
    """Run a program of peers/ with the peers' Python and return what it reports."""
    figures = run.children.result(
        name.replace(",", "").replace(" ", "-"),
        [run.peer_python, "-m", f"benchmarks.peers.{program}", *options],
        timeout_seconds=TIMEOUT_SECONDS,
        env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
    )
    return PeerRates(name=name, **figures)


def on_postgres(run: Run, *, name: str, program: str, jobs: tuple[int, int], options: tuple[str, ...]) -> PeerRates:
    """Measure on a database of its own; `jobs` are those of a full and of a quick run."""
    with run.server.database("peer") as url:
        return start(run, name, program, "--database-url", url, "--jobs", str(run.size(*jobs)), *options)


def on_redis(run: Run, *, name: str, program: str, jobs: tuple[int, int]) -> PeerRates:
    """Measure on a Redis server of its own. Skipped when there is none to start."""
    try:
        with redis_server(run.children) as socket:
            return start(run, name, program, "--socket", socket, "--jobs", str(run.size(*jobs)))
    except NoRedis as reason:
        return PeerRates(name=name, skipped=str(reason))


def on_sshd(run: Run, *, name: str, jobs: tuple[int, int], options: tuple[str, ...]) -> PeerRates:
    """Measure on the run's SSH server; a job is one target. Skipped when there is no server to start."""
    try:
        sshd = run.sshd
    except FileNotFoundError as reason:
        return PeerRates(name=name, skipped=str(reason))
    known_hosts = run.run_dir / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    return start(
        run, name, "run_ansible", "--jobs", str(run.size(*jobs)), "--port", str(sshd.port), "--user", sshd.username,
        "--key", sshd.folder / "client_key", "--known-hosts", known_hosts, *options,
    )  # fmt: skip


def _q2(bulk: int) -> tuple[str, Peer]:
    name = f"django-q2, ORM broker, 2 workers, bulk {bulk}"
    options = ("--workers", "2", "--bulk", str(bulk))
    return name, partial(on_postgres, name=name, program="run_django_q2", jobs=(800, 200), options=options)


def _procrastinate(concurrency: int) -> tuple[str, Peer]:
    name = f"procrastinate, 1 process, concurrency {concurrency}"
    options = ("--concurrency", str(concurrency))
    return name, partial(on_postgres, name=name, program="run_procrastinate", jobs=(4000, 1000), options=options)


def _pgqueuer(driver: str, batch: int) -> tuple[str, Peer]:
    name = f"pgqueuer, 1 process, {driver}, batch {batch}"
    options = ("--driver", driver, "--batch-size", str(batch))
    return name, partial(on_postgres, name=name, program="run_pgqueuer", jobs=(20_000, 5_000), options=options)


def _ansible(module: str) -> tuple[str, Peer]:
    name = f"ansible, forks=50, {module}"
    return name, partial(on_sshd, name=name, jobs=(500, 100), options=("--forks", "50", "--module", module))


CELERY = "celery on Redis, prefork 2"
ANSIBLE = tuple(_ansible(module)[0] for module in ("raw", "command"))

# The short names are those of --only.
PEERS: dict[str, dict[str, Peer]] = {
    "django-q2": dict([_q2(1), _q2(50)]),
    "procrastinate": dict([_procrastinate(10), _procrastinate(50)]),
    "pgqueuer": dict([_pgqueuer("psycopg", 500), _pgqueuer("asyncpg", 100), _pgqueuer("asyncpg", 500)]),
    "ansible": dict([_ansible("raw"), _ansible("command")]),
    "celery": {CELERY: partial(on_redis, name=CELERY, program="run_celery", jobs=(8000, 3000))},
}


def run_peers(run: Run, groups: list[str]) -> None:
    """Run all configurations of these groups; what fails is kept as skipped, with its reason, and said.

    When their packages cannot be installed, all are skipped with that reason: there is no second try.
    """
    if not groups:
        return
    try:
        run.say(f"peers, with {run.peer_python}")
    except ChildFailed as reason:
        run.say(f"peers: not measured: {reason}")
        for name in (name for group in groups for name in PEERS[group]):
            run.peers[name] = PeerRates(name=name, skipped=f"their packages could not be installed: {reason}")
        return
    for group in groups:
        for name, peer in PEERS[group].items():
            run.say(f"peer: {name}")
            try:
                run.peers[name] = peer(run)
            except ChildFailed as reason:
                run.peers[name] = PeerRates(name=name, skipped=str(reason))
            if skipped := run.peers[name].skipped:
                run.say(f"  not measured: {skipped}")

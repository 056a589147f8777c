"""`manage.py serve` as people use it, and as the world treats it: processes killed, ports taken, two at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opsconductor import embedded_postgres
from tests.installations import LiveInstallation, refused, wait_until
from tests.opsconductor.postgres_processes import is_gone, keeper, postmaster, servers_of


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[LiveInstallation]:
    installation = LiveInstallation(tmp_path / "var", WORKER_PROCESSES="1")
    yield installation
    if installation.process is not None:
        installation.stop()
    wait_until(lambda: not servers_of(installation.var_dir), what="the end of the embedded PostgreSQL")


def health(installation: LiveInstallation) -> bool:
    try:
        with urllib.request.urlopen(f"{installation.base_url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def child(installation: LiveInstallation, name: str) -> psutil.Process | None:
    """The child of that name, or None while it is not running."""
    for noted in json.loads((installation.var_dir / "serve.json").read_text()):
        if noted["name"] == name and psutil.pid_exists(noted["pid"]):
            return psutil.Process(noted["pid"])
    return None


def family(installation: LiveInstallation) -> list[psutil.Process]:
    """What `serve` has started, without the embedded PostgreSQL, which whoever comes next may go on using."""
    assert installation.process is not None
    database = {keeper(installation.var_dir), *keeper(installation.var_dir).children(recursive=True)}
    below = psutil.Process(installation.process.pid).children(recursive=True)
    return [process for process in below if process not in database]


def workers_are_there(installation: LiveInstallation) -> bool:
    worker = child(installation, "worker")
    return worker is not None and bool(worker.children())


def test_serve_brings_up_a_whole_installation_and_takes_it_down_in_order(installation: LiveInstallation) -> None:
    installation.start()

    assert health(installation)
    assert len(installation.admin_password) >= 12
    assert f"OpsConductor is ready at {installation.base_url}/" in installation.output
    wait_until(lambda: workers_are_there(installation), what="a worker process")
    everybody = family(installation)

    assert installation.stop(signal.SIGTERM) == 0
    assert [process for process in everybody if not is_gone(process)] == []
    assert not embedded_postgres.is_running(installation.var_dir)
    assert not (installation.var_dir / "postgres" / "postmaster.pid").exists()
    assert installation.output.rstrip().endswith("Stopped.")


def test_the_administrators_password_is_shown_at_the_first_start_alone(installation: LiveInstallation) -> None:
    installation.start()
    password = installation.admin_password
    assert password
    assert installation.output.count(password) == 1
    installation.stop(signal.SIGINT)

    installation.start()
    assert "password" not in installation.output
    for file in installation.var_dir.rglob("*.log"):
        assert password not in file.read_text(errors="replace")


def test_a_killed_child_is_started_again_and_serve_says_so(installation: LiveInstallation) -> None:
    installation.start()
    wait_until(lambda: workers_are_there(installation), what="a worker process")
    for name in ("web server", "worker"):
        kill_and_await_another(installation, name)
    wait_until(lambda: health(installation), what="an answer")


def kill_and_await_another(installation: LiveInstallation, name: str) -> None:
    old = child(installation, name)
    assert old is not None
    below = old.children(recursive=True)
    old.kill()

    installation.wait_for(f"The {name} was killed by SIGKILL: starting it again")
    wait_until(lambda: child(installation, name) not in (None, old), what=f"a new {name}")
    wait_until(lambda: all(is_gone(process) for process in below), what="the end of what the old one had started")


def test_serve_survives_the_loss_of_its_database(installation: LiveInstallation) -> None:
    installation.start()
    keeper(installation.var_dir).kill()

    installation.wait_for("The embedded PostgreSQL is gone: starting it again.")
    wait_until(lambda: embedded_postgres.is_running(installation.var_dir), what="a new server")
    done = installation.run_manage("create_token", "admin")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: health(installation), what="an answer")


def test_a_killed_serve_leaves_nothing_running_and_starts_again(installation: LiveInstallation) -> None:
    installation.start()
    wait_until(lambda: workers_are_there(installation), what="a worker process")
    left = family(installation)
    assert installation.stop(signal.SIGKILL) == -signal.SIGKILL

    installation.start()  # at once, on the same port, while the old ones may still be ending
    assert health(installation)
    wait_until(lambda: all(is_gone(process) for process in left), what="the end of the old processes")


def test_a_killed_make_serve_takes_everything_along_and_starts_again(installation: LiveInstallation) -> None:
    installation.command = ["make", "--old-file=.venv/.runtime-installed", "serve"]
    installation.start()
    left = family(installation)
    assert installation.process is not None
    installation.process.kill()  # make alone, which has no time to pass it on
    installation.process.wait(timeout=60)

    installation.start()
    assert health(installation)
    assert [process for process in left if not is_gone(process)] == []


def test_after_a_killed_serve_everything_ends_without_another_start(installation: LiveInstallation) -> None:
    installation.start()
    wait_until(lambda: workers_are_there(installation), what="a worker process")
    left = [*family(installation), keeper(installation.var_dir), postmaster(installation.var_dir)]

    installation.stop(signal.SIGKILL)

    wait_until(lambda: all(is_gone(process) for process in left), seconds=60, what="the end of all")


def test_everything_killed_at_once_hinders_no_start(installation: LiveInstallation) -> None:
    """As after a power cut: locks, pid files, sockets and the list of children are still there."""
    installation.start()
    assert installation.process is not None
    everybody = [
        psutil.Process(installation.process.pid),
        *family(installation),
        keeper(installation.var_dir),
        postmaster(installation.var_dir),
    ]
    for process in everybody:
        if not is_gone(process):
            process.suspend()
    for process in everybody:
        if not is_gone(process):
            process.kill()
    installation.process.wait()
    assert (installation.var_dir / "serve.json").exists()
    assert (installation.var_dir / "postgres" / "postmaster.pid").exists()

    installation.start()
    assert health(installation)


def test_a_second_serve_of_the_same_installation_is_refused(live_installation: LiveInstallation) -> None:
    assert "is already being served from" in refused(["serve"], live_installation.environment)
    assert health(live_installation)


def test_two_installations_run_side_by_side(
    live_installation: LiveInstallation, installation: LiveInstallation
) -> None:
    installation.start()
    assert health(installation)
    assert health(live_installation)
    installation.stop()
    assert health(live_installation)


def test_a_port_in_use_is_refused_with_one_sentence(installation: LiveInstallation) -> None:
    with socket.create_server(("127.0.0.1", installation.port)):
        said = refused(["serve"], installation.environment)
    assert f"Port {installation.port} of 127.0.0.1 is in use: set PORT to a free one." in said
    wait_until(lambda: not embedded_postgres.is_running(installation.var_dir), what="the end of the database")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "eighty", "PORT must be a whole number, not 'eighty'."),
        ("PORT", "70000", "PORT must be at most 65535, not 70000."),
        ("BIND", "192.0.2.1", "BIND 192.0.2.1 with PORT"),
        ("HTTP_ALLOWED_NETWORKS", "loopback", "HTTP_ALLOWED_NETWORKS must list networks"),
        ("WORKER_PROCESSES", "0", "WORKER_PROCESSES must be at least 1"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_sentence(
    installation: LiveInstallation, name: str, value: str, said: str
) -> None:
    assert said in refused(["serve"], {**installation.environment, name: value})


def test_commands_reach_the_installation_while_it_serves_and_while_it_does_not(
    installation: LiveInstallation,
) -> None:
    alone = installation.run_manage("migrate", "--verbosity", "0")
    assert alone.returncode == 0, alone.stderr
    wait_until(lambda: not embedded_postgres.is_running(installation.var_dir), what="the end of the database")

    installation.start()
    served = installation.run_manage("create_token", "admin")
    assert served.returncode == 0, served.stderr


def test_the_demo_runs_its_plan_for_real_and_ends_with_its_status(tmp_path: Path) -> None:
    demo = LiveInstallation(tmp_path / "var", WORKER_PROCESSES="1")
    with socket.create_server(("127.0.0.1", demo.port)):  # taken: the demo moves on to the next free port
        demo.start(command="demo", arguments=["--once"])
        assert demo.process is not None
        assert demo.process.wait(timeout=120) == 0, demo.output
    demo.stop()

    moved = re.search(rf"Port {demo.port} is in use: using (\d+)\.", demo.output)
    assert moved is not None, demo.output
    assert f"Its page: http://127.0.0.1:{moved[1]}/executions/" in demo.output
    assert demo.admin_password
    assert "No such file or directory" in demo.output  # the step that may fail really ran
    assert '"status":"pass"' in demo.output  # and so did the one that asks this very installation over HTTP


@pytest.mark.skipif(os.geteuid() != 0, reason="as root, to try it as somebody else")
@pytest.mark.skipif(sys.platform != "linux", reason="gives root up with Linux's capabilities")
def test_serve_works_without_root(tmp_path: Path) -> None:
    """As the user nobody, who keeps just the right to read: the project may be in a folder of root's."""
    tmp_path.chmod(0o777)
    for above in tmp_path.parents[:2]:
        above.chmod(0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+dac_read_search"]
    wrapper = [*nobody, "--ambient-caps", "+dac_read_search", "--bounding-set", "-all,+dac_read_search"]
    installation = LiveInstallation(tmp_path / "var", wrapper=wrapper, WORKER_PROCESSES="1", HOME=str(tmp_path))
    installation.start()
    try:
        assert health(installation)
        assert (installation.var_dir / "postgres").stat().st_uid == 65534
        assert {process.uids().effective for process in family(installation)} == {65534}
    finally:
        assert installation.stop() == 0

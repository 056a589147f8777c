"""Nothing that is killed, in any order, hinders the next start, loses what was committed, or goes on running."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from opsconductor import embedded_postgres
from tests.installations import wait_until
from tests.opsconductor.postgres_processes import Holder, execute, is_gone, keeper, postmaster, servers_of, sleeper


@pytest.fixture
def var_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "var"
    url = embedded_postgres.start(folder, durable=False)
    execute(url, "CREATE TABLE kept AS SELECT 7 AS number")
    yield folder
    embedded_postgres.release(folder)
    wait_until(lambda: not servers_of(folder), what="the end of every server of this test")


def answers(url: str) -> bool:
    try:
        return execute(url, "SELECT number FROM kept") == [(7,)]
    except psycopg.OperationalError:
        return False


def test_a_killed_server_is_started_again_by_its_keeper(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)
    for _ in range(3):
        old = postmaster(var_dir)
        old.kill()
        wait_until(lambda old=old: is_gone(old), what="its end")  # type: ignore[misc]
        wait_until(lambda: answers(url), what="an answer under the same address")
        assert postmaster(var_dir) != old


def test_a_server_killed_with_a_busy_backend_comes_back(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)
    with psycopg.connect(url, autocommit=True) as busy:
        backend = busy.info.backend_pid
        thread = threading.Thread(target=_run_until_cut_off, args=(busy,))
        thread.start()
        postmaster(var_dir).kill()
        wait_until(lambda: answers(url), seconds=60, what="an answer")
        wait_until(lambda: not psutil.pid_exists(backend) or is_gone(psutil.Process(backend)), what="its end")
        thread.join(timeout=10)


def _run_until_cut_off(connection: psycopg.Connection) -> None:
    try:
        connection.execute("SELECT sum(n) FROM generate_series(1, 20000000) AS n")
    except psycopg.OperationalError:
        pass


def test_a_killed_keeper_takes_its_server_with_it_and_the_next_start_brings_both_back(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)
    old_keeper, old_server = keeper(var_dir), postmaster(var_dir)
    old_keeper.kill()
    wait_until(lambda: is_gone(old_keeper), what="its end")

    assert embedded_postgres.start(var_dir) == url
    assert answers(url)
    wait_until(lambda: is_gone(old_server), what="the end of the old server")
    assert keeper(var_dir) != old_keeper


def test_a_killed_keeper_leaves_no_server_even_when_nobody_starts_again(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    holder = Holder(folder)
    server = postmaster(folder)
    keeper(folder).kill()

    wait_until(lambda: is_gone(server), what="the end of the server")
    holder.kill()


def test_everything_killed_at_once_is_recovered_from(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)
    victims = [keeper(var_dir), postmaster(var_dir), *postmaster(var_dir).children()]
    for end in (psutil.Process.suspend, psutil.Process.kill):  # first so that none has time to tidy up
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):  # some of the server's come and go
                end(victim)
    assert (var_dir / "postgres" / "postmaster.pid").exists()

    assert embedded_postgres.start(var_dir) == url
    assert answers(url)


def test_a_server_without_a_keeper_is_stopped_before_a_new_one_starts(var_dir: Path) -> None:
    """As where no death signal exists: the server outlived its keeper."""
    url = embedded_postgres.start(var_dir)
    old = postmaster(var_dir)
    old.suspend()  # the death signal waits
    keeper(var_dir).kill()
    threading.Timer(1.0, lambda: old.send_signal(signal.SIGCONT)).start()

    assert embedded_postgres.start(var_dir) == url
    assert is_gone(old)
    assert answers(url)


def test_a_left_over_pid_file_with_the_pid_of_another_program_does_not_hinder(var_dir: Path) -> None:
    """After a power cut the pid in the file may belong to anybody, here to a process of the server's own user."""
    user = postmaster(var_dir).uids().effective
    group = postmaster(var_dir).gids().effective
    pid_file = var_dir / "postgres" / "postmaster.pid"
    left = pid_file.read_text().splitlines()
    embedded_postgres.release(var_dir)
    innocent = sleeper(user, group)
    try:
        wait_until(lambda: psutil.Process(innocent.pid).name() == "sleep", what="the innocent process")
        pid_file.write_text("\n".join([str(innocent.pid), *left[1:]]) + "\n")
        os.chown(pid_file, user, group)

        assert answers(embedded_postgres.start(var_dir))
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.parametrize("content", ["", "not a number\n", "999999999\n"])
def test_a_damaged_pid_file_does_not_hinder(var_dir: Path, content: str) -> None:
    user = (var_dir / "postgres").stat().st_uid
    embedded_postgres.release(var_dir)
    pid_file = var_dir / "postgres" / "postmaster.pid"
    pid_file.write_text(content)
    os.chown(pid_file, user, -1)

    assert answers(embedded_postgres.start(var_dir))


def test_a_left_over_socket_does_not_hinder(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)
    for victim in (keeper(var_dir), postmaster(var_dir)):
        victim.suspend()
    socket = var_dir / "run" / ".s.PGSQL.5432"
    lock = var_dir / "run" / ".s.PGSQL.5432.lock"
    assert socket.exists()
    assert lock.exists()
    for victim in (postmaster(var_dir), keeper(var_dir)):
        victim.kill()

    assert embedded_postgres.start(var_dir) == url
    assert answers(url)


def test_a_start_that_is_killed_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "halfway"
    for delay in (0.1, 0.3, 0.5):
        holder = Holder(folder, wait=False)
        wait_until(lambda: servers_of(folder), what="a keeper")
        time.sleep(delay)
        for process in servers_of(folder):
            process.kill()
        holder.kill()

    url = embedded_postgres.start(folder, durable=False)
    try:
        assert execute(url, "SELECT 1") == [(1,)]
        assert [path.name for path in folder.glob("postgres.new-*")] == []
    finally:
        embedded_postgres.release(folder)

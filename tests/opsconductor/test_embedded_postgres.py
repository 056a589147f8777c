"""The embedded PostgreSQL through its front door: processes that start it, share it, and leave it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from opsconductor import embedded_postgres
from opsconductor.environment import ConfigError
from tests.installations import wait_until
from tests.opsconductor.postgres_processes import Holder, execute, is_gone, keeper, postmaster, servers_of


@pytest.fixture
def var_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "var"
    yield folder
    embedded_postgres.release(folder)
    wait_until(lambda: not servers_of(folder), what="the end of every server of this test")


def socket_folder(url: str) -> Path:
    return Path(unquote(url.rsplit("host=", 1)[1]))


def test_data_is_there_again_after_a_stop_and_a_start(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)
    execute(url, "CREATE TABLE kept AS SELECT 7 AS number")
    assert embedded_postgres.release(var_dir) is True
    assert not embedded_postgres.is_running(var_dir)

    assert embedded_postgres.start(var_dir) == url
    assert execute(url, "SELECT number FROM kept") == [(7,)]


def test_the_server_is_durable_private_and_without_a_port(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir)

    names = ("fsync", "full_page_writes", "synchronous_commit", "max_connections", "shared_buffers", "server_encoding")
    assert [execute(url, f"SHOW {name}")[0][0] for name in names] == ["on", "on", "on", "100", "128MB", "UTF8"]
    assert execute(url, "SELECT lower('ÄÖ'), current_setting('timezone')") == [("äö", "UTC")]
    listening = [c for c in postmaster(var_dir).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []
    assert stat.S_IMODE(socket_folder(url).stat().st_mode) == 0o700
    assert stat.S_IMODE((var_dir / "postgres").stat().st_mode) == 0o700
    assert postmaster(var_dir).uids().effective != 0


def test_settings_of_the_installation_do_not_reach_the_server(var_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary-of-the-environment")
    embedded_postgres.start(var_dir, durable=False)

    for process in (postmaster(var_dir), keeper(var_dir)):
        assert "canary-of-the-environment" not in "".join(process.environ().values())


def test_statements_and_values_stay_out_of_the_servers_log(var_dir: Path) -> None:
    url = embedded_postgres.start(var_dir, durable=False)
    execute(url, "CREATE TABLE account (name text UNIQUE)")
    execute(url, "INSERT INTO account VALUES ('canary-value')")
    for statement in ("INSERT INTO account VALUES ('canary-value')", "SELECT 'canary-value'::int"):
        with pytest.raises(Exception, match="canary-value"):
            execute(url, statement)

    log = var_dir / "log" / "postgres.log"
    wait_until(lambda: "duplicate key" in log.read_text(), what="the error in the log")
    assert "INSERT" not in log.read_text()
    assert "Key (name)" not in log.read_text()


def test_processes_share_one_server_which_ends_after_the_last(var_dir: Path) -> None:
    first = Holder(var_dir)
    second = Holder(var_dir)
    server = postmaster(var_dir)
    assert second.url == first.url

    first.end()
    assert execute(second.url, "SELECT 1") == [(1,)]
    assert postmaster(var_dir) == server

    second.kill()  # its lock ends with it, so this is an end like any other
    wait_until(lambda: is_gone(server), what="the end of the server")
    assert not (var_dir / "postgres" / "postmaster.pid").exists()  # it stopped in order


def test_release_keeps_the_server_while_others_use_it(var_dir: Path) -> None:
    other = Holder(var_dir)
    embedded_postgres.start(var_dir, durable=False)

    assert embedded_postgres.release(var_dir) is False
    assert execute(other.url, "SELECT 1") == [(1,)]

    other.end()
    wait_until(lambda: not embedded_postgres.is_running(var_dir), what="the end of the server")


def test_many_processes_that_start_at_the_same_moment_get_one_server(var_dir: Path) -> None:
    holders = [Holder(var_dir, wait=False) for _ in range(8)]

    urls = {holder.read_url() for holder in holders}

    assert len(urls) == 1
    assert len(servers_of(var_dir)) == 2  # one keeper and its postmaster
    for holder in holders:
        holder.end()


def test_processes_that_come_and_go_never_miss_the_server(var_dir: Path) -> None:
    """A stop and a start meet again and again: whoever comes while the server stops waits and starts a new one."""
    for _ in range(6):
        holder = Holder(var_dir)
        assert execute(holder.url, "SELECT 1") == [(1,)]
        holder.process.kill()


def test_two_installations_side_by_side_do_not_meet(var_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    one, two = (embedded_postgres.start(folder, durable=False) for folder in (var_dir, other))
    execute(one, "CREATE TABLE mine ()")

    assert execute(two, "SELECT to_regclass('mine')") == [(None,)]
    assert embedded_postgres.release(other) is True
    assert execute(one, "SELECT to_regclass('mine') IS NULL") == [(False,)]


def test_a_deep_folder_puts_the_socket_where_its_path_fits(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    url = embedded_postgres.start(deep, durable=False)
    folder = socket_folder(url)
    try:
        assert not folder.is_relative_to(tmp_path)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert execute(url, "SELECT 1") == [(1,)]
        embedded_postgres.release(deep)
        assert embedded_postgres.start(deep, durable=False) == url  # addresses that were handed out stay good
    finally:
        embedded_postgres.release(deep)
        folder.rmdir()


def test_a_socket_folder_that_somebody_else_could_enter_is_not_used(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    first = socket_folder(embedded_postgres.start(deep, durable=False))
    embedded_postgres.release(deep)
    first.chmod(0o777)
    second = socket_folder(embedded_postgres.start(deep, durable=False))
    try:
        assert second != first
        assert stat.S_IMODE(second.stat().st_mode) == 0o700
    finally:
        embedded_postgres.release(deep)
        first.rmdir()
        second.rmdir()


@pytest.mark.parametrize("name", ["with space", 'quote"s,commas', "ünïcode", "percent%41&x=1"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    var_dir = tmp_path / name
    url = embedded_postgres.start(var_dir, durable=False)
    try:
        assert execute(url, "SELECT 1") == [(1,)]
    finally:
        embedded_postgres.release(var_dir)


def test_a_folder_that_cannot_be_made_is_refused_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^VAR_DIR .*/file/var cannot be used: Not a directory"):
        embedded_postgres.start(tmp_path / "file" / "var")


def test_data_of_another_version_is_refused_and_left_alone(var_dir: Path) -> None:
    embedded_postgres.start(var_dir, durable=False)
    embedded_postgres.release(var_dir)
    version = var_dir / "postgres" / "PG_VERSION"
    version.write_text("16\n")

    with pytest.raises(ConfigError, match=r"was made by PostgreSQL 16, and this release brings 18"):
        embedded_postgres.start(var_dir)
    assert version.read_text() == "16\n"
    assert not embedded_postgres.is_running(var_dir)


def test_a_server_that_cannot_start_says_why_in_one_sentence(var_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded_postgres.start(var_dir, durable=False)
    embedded_postgres.release(var_dir)
    (var_dir / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(ConfigError) as refusal:
        embedded_postgres.start(var_dir)
    assert "The embedded PostgreSQL does not start" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_removed_folder_ends_its_server(tmp_path: Path) -> None:
    var_dir = tmp_path / "var"
    holder = Holder(var_dir)
    server = postmaster(var_dir)
    var_dir.rename(tmp_path / "gone")

    wait_until(lambda: is_gone(server), what="the end of the server")
    holder.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whom PostgreSQL refuses")
def test_root_may_keep_the_installation_in_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    url = embedded_postgres.start(closed / "var", durable=False)
    try:
        assert execute(url, "SELECT 1") == [(1,)]
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700  # nothing was opened to make this work
        assert postmaster(closed / "var").uids().effective != 0
    finally:
        embedded_postgres.release(closed / "var")

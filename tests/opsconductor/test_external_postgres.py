"""With DATABASE_URL set: real servers on a loopback port, one fault each, and a fake where no real one is that old."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from opsconductor import embedded_postgres
from opsconductor.database_check import check_server
from opsconductor.embedded_postgres import cluster as cluster_module
from opsconductor.embedded_postgres.cluster import Cluster
from opsconductor.embedded_postgres.installation import Installation
from opsconductor.environment import ConfigError
from tests.installations import LiveInstallation, clean_environment, free_port, refused, wait_until

PASSWORD = "pass word/with@all:signs"
QUOTED = "pass%20word%2Fwith%40all%3Asigns"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that demands a password on a TCP port; yields `HOST:PORT`."""
    installation = Installation(tmp_path_factory.mktemp("external"))
    url = embedded_postgres.start(installation.var_dir, durable=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER ROLE opsconductor PASSWORD 'pass word/with@all:signs'")
    embedded_postgres.release(installation.var_dir)
    with open(installation.data / "pg_hba.conf", "w") as file:
        file.write("host all,replication all 127.0.0.1/32 scram-sha-256\n")
    port = free_port()
    cluster = Cluster(installation, durable=False)
    process = _start_on_port(cluster, port)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=20)


def _start_on_port(cluster: Cluster, port: int) -> subprocess.Popen[bytes]:
    with open(cluster.data / "postgresql.conf", "a") as file:
        file.write(f"port = {port}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cluster_module.SETTINGS, "listen_addresses", "127.0.0.1")
        process = cluster.start()
    assert process.stderr is not None
    threading.Thread(target=process.stderr.read, daemon=True).start()
    wait_until(lambda: cluster.is_ready(process), what="the external server")
    return process


@pytest.fixture
def administrator(server: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(f"postgresql://opsconductor:{QUOTED}@{server}/postgres", autocommit=True) as connection:
        yield connection


def url_of(server: str, database: str = "opsconductor", user: str = "opsconductor", password: str = QUOTED) -> str:
    return f"postgresql://{user}:{password}@{server}/{database}"


def test_a_good_server_is_accepted_and_left_as_it_was(server: str, administrator: psycopg.Connection) -> None:
    check_server(url_of(server))
    with psycopg.connect(url_of(server)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_a_server_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^The server of DATABASE_URL cannot be used: .*refused\.$") as refusal:
        check_server(f"postgresql://user:hunter2-value@127.0.0.1:{free_port()}/database")
    assert "\n" not in str(refusal.value)
    assert "hunter2-value" not in str(refusal.value)


def test_a_wrong_password_is_refused_without_telling_it(server: str) -> None:
    with pytest.raises(ConfigError, match="password authentication failed") as refusal:
        check_server(url_of(server, password="hunter2-value"))
    assert "hunter2-value" not in str(refusal.value)


def test_a_database_that_is_not_there_is_refused(server: str) -> None:
    with pytest.raises(ConfigError, match='database "nowhere" does not exist'):
        check_server(url_of(server, database="nowhere"))


@pytest.mark.parametrize(
    "url", ["postgresql://user:hunter2-value@host:port/x", "hunter2-value", "mysql://a:hunter2-value@b/c"]
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL") as refusal:
        check_server(url)
    assert "hunter2-value" not in str(refusal.value)


def test_another_encoding_than_utf8_is_refused(server: str, administrator: psycopg.Connection) -> None:
    administrator.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConfigError, match="is encoded in LATIN1"):
        check_server(url_of(server, database="latin"))


def test_a_read_only_database_is_refused(server: str, administrator: psycopg.Connection) -> None:
    administrator.execute("CREATE DATABASE frozen")
    administrator.execute("ALTER DATABASE frozen SET default_transaction_read_only = on")
    with pytest.raises(ConfigError, match="is read-only"):
        check_server(url_of(server, database="frozen"))


def test_a_user_without_the_right_to_create_tables_is_refused(server: str, administrator: psycopg.Connection) -> None:
    administrator.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    with pytest.raises(ConfigError, match="The user guest of DATABASE_URL may not create tables"):
        check_server(url_of(server, user="guest", password="guest"))


def test_a_standby_is_refused(server: str, tmp_path: Path) -> None:
    """A real standby: a copy of the server by its own pg_basebackup."""
    installation = Installation(tmp_path)
    source = Cluster(installation, durable=False)
    host, port = server.split(":")
    copy = [str(source.programs / "pg_basebackup"), "-h", host, "-p", port, "-U", "opsconductor", "-D"]
    with_password = {"PGPASSWORD": PASSWORD}
    subprocess.run(
        [*copy, str(installation.data), "-R", "-c", "fast"], env=with_password, check=True, capture_output=True
    )
    _give_to_the_servers_account(source, installation.data)
    here = free_port()
    process = _start_on_port(source, here)
    try:
        with pytest.raises(ConfigError, match="is a standby"):
            check_server(url_of(f"127.0.0.1:{here}"))
    finally:
        process.terminate()
        process.wait(timeout=20)


def _give_to_the_servers_account(cluster: Cluster, folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, cluster.account.uid, cluster.account.gid)


@pytest.fixture
def old_server() -> Iterator[str]:
    """Speaks the beginning of PostgreSQL's protocol as version 12.9 does; yields `HOST:PORT`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_as_version_12, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _answer_as_version_12(listener: socket.socket) -> None:
    try:
        connection, _address = listener.accept()
    except OSError:
        return
    with connection:
        while True:  # requests for encryption come first; a startup message has protocol 3
            length, code = struct.unpack("!II", connection.recv(8))
            connection.recv(length - 8)
            if code >> 16 == 3:
                break
            connection.sendall(b"N")
        told = [b"server_version\x0012.9\x00", b"server_encoding\x00UTF8\x00", b"client_encoding\x00UTF8\x00"]
        connection.sendall(_message(b"R", struct.pack("!I", 0)))
        for parameter in told:
            connection.sendall(_message(b"S", parameter))
        connection.sendall(_message(b"K", struct.pack("!II", 1, 1)) + _message(b"Z", b"I"))
        while connection.recv(4096):
            pass


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def test_a_server_that_is_too_old_is_refused(old_server: str) -> None:
    with pytest.raises(ConfigError, match=r"is PostgreSQL 12: OpsConductor needs 14 or newer\.$"):
        check_server(url_of(old_server))


def test_serve_refuses_a_bad_server_with_one_sentence_and_starts_nothing(old_server: str, tmp_path: Path) -> None:
    environment = clean_environment(DATABASE_URL=url_of(old_server), SECRET_KEY="x" * 60, VAR_DIR=str(tmp_path / "var"))
    assert "is PostgreSQL 12" in refused(["serve"], environment)
    assert not (tmp_path / "var" / "postgres").exists()


def test_an_installation_works_on_an_external_server(server: str, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(url_of(server) + "\n")
    installation = LiveInstallation(tmp_path / "var", DATABASE_URL_FILE=str(secret), SECRET_KEY="x" * 60)
    installation.start()
    try:
        done = installation.run_manage("create_token", "admin")
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "var" / "postgres").exists()
    finally:
        assert installation.stop() == 0

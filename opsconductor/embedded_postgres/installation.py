"""Where the embedded PostgreSQL of one installation keeps its things, and who owns them.

VAR_DIR/postgres/               the data directory
VAR_DIR/run/                    the socket, private (elsewhere when VAR_DIR is too deep: see `postgres.socket`)
VAR_DIR/postgres.socket         names the folder of the socket
VAR_DIR/postgres.users.lock     held shared by every process that uses the server
VAR_DIR/postgres.keeper.lock    held by the keeper alone
VAR_DIR/log/postgres.log        what the server says
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

ROLE = "opsconductor"  # owns everything
APP_ROLE = "opsconductor_app"  # web and workers: may do their work, and not change the audit or any table's form
DATABASE = "opsconductor"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103  # sun_path, less its closing zero
SHORT_FOLDER = Path("/tmp")  # not TMPDIR, which differs between processes of one installation


@dataclass(frozen=True, slots=True)
class Installation:
    var_dir: Path

    @property
    def data(self) -> Path:
        return self.var_dir / "postgres"

    @property
    def log(self) -> Path:
        return self.var_dir / "log" / "postgres.log"

    @property
    def users_lock(self) -> Path:
        return self.var_dir / "postgres.users.lock"

    @property
    def keeper_lock(self) -> Path:
        return self.var_dir / "postgres.keeper.lock"

    @property
    def socket_note(self) -> Path:
        return self.var_dir / "postgres.socket"

    def socket_folder(self) -> Path | None:
        """Return the folder that the keeper noted, or None when no server was ever started here."""
        try:
            return Path(self.socket_note.read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            return None

    def url(self, role: str = ROLE) -> str | None:
        """Return the URL of the database for a role, or None when no server was ever started here."""
        folder = self.socket_folder()
        return None if folder is None else f"postgresql://{role}@/{DATABASE}?host={quote(str(folder), safe='')}"

    def create_folders(self) -> None:
        """Make VAR_DIR and its log folder. What root makes belongs to the owner of VAR_DIR."""
        self.var_dir.mkdir(parents=True, exist_ok=True)
        folder = self.log.parent
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            self.hand_over(folder)

    def hand_over(self, path: Path) -> None:
        """Give a file that root made to the owner of VAR_DIR, who must be able to use it without root later."""
        if os.geteuid() == 0:
            owner = self.var_dir.stat()
            os.chown(path, owner.st_uid, owner.st_gid)

    def open_lock(self, path: Path) -> int:
        """Open (make) a lock file; the descriptor is not inherited by programs that this process starts."""
        existed = path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not existed:
            self.hand_over(path)
        return descriptor

    def choose_socket_folder(self, uid: int) -> Path:
        """Make the socket's folder, owned by `uid` and closed to everybody else, and note its name.

        The noted folder is kept as long as it is still ours, so that a URL handed out before stays good.
        """
        noted = self.socket_folder()
        folder = noted if noted is not None and _is_ours(noted, uid) else self._new_socket_folder(noted, uid)
        temporary = self.socket_note.with_suffix(".new")
        temporary.write_text(f"{folder}\n", encoding="utf-8")
        self.hand_over(temporary)
        temporary.replace(self.socket_note)
        return folder

    def _new_socket_folder(self, noted: Path | None, uid: int) -> Path:
        for candidate in (self.var_dir / "run", noted):
            if candidate is not None and _fits(candidate) and _make_private(candidate, uid):
                return candidate
        folder = Path(tempfile.mkdtemp(prefix="opsconductor-", dir=SHORT_FOLDER))
        os.chown(folder, uid, -1)
        return folder


def _fits(folder: Path) -> bool:
    """Say whether a socket's path there is short enough, and free of what PostgreSQL reads as a list."""
    return len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES and not set(str(folder)) & set(',"\n')


def _is_ours(folder: Path, uid: int) -> bool:
    """Say whether it is a real folder (no link), owned by `uid`, closed to others, with a path that fits."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid == uid and _fits(folder)


def _make_private(folder: Path, uid: int) -> bool:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return _is_ours(folder, uid)
    os.chmod(folder, 0o700)
    os.chown(folder, uid, -1)
    return True


def try_lock(descriptor: int, mode: int) -> bool:
    """Take the lock (fcntl.LOCK_SH or LOCK_EX) if that is possible now."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

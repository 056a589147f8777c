"""As whom the embedded PostgreSQL runs: it refuses root, so root needs somebody else for it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "opsconductor"
FALLBACK_ACCOUNT = "nobody"
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


class StartRefused(Exception):
    """The embedded PostgreSQL cannot start: the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int
    switch: bool  # the keeper runs as root and gives root up for the server
    capability: int | None = None  # kept when the path to the files is closed to the account

    def launch_arguments(self) -> list[str]:
        arguments = ["--user", f"{self.uid}:{self.gid}"] if self.switch else []
        if self.capability is not None:
            arguments += ["--capability", str(self.capability)]
        return arguments


def choose_account(data: Path, programs: Path) -> Account:
    """Return as whom to run the server whose data directory is `data`.

    Not root: this user. Root: the owner of the data directory, of VAR_DIR, or the system account `opsconductor`, which
    is made when it is not there. Raises StartRefused when the data directory belongs to somebody else.
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise StartRefused(
                f"{data} belongs to {_name(owner)}, not to {_name(os.geteuid())}: "
                f"run as {_name(owner)} (or as root), or set VAR_DIR to a folder of your own."
            )
        return Account(os.geteuid(), os.getegid(), switch=False)
    entry = _entry_for_root(owner or data.parent.stat().st_uid)
    capability = None if _reaches(entry, data, programs) else _capability()
    return Account(entry.pw_uid, entry.pw_gid, switch=True, capability=capability)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _entry_for_root(owner: int) -> pwd.struct_passwd:
    if owner != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise StartRefused(f"The files belong to user {owner}, who is not in the list of users.") from None
    for attempt in range(3):
        try:
            return pwd.getpwnam(ACCOUNT)
        except KeyError:
            if not _make_account():
                break
            time.sleep(0.2 * attempt)  # another installation is making it
    return pwd.getpwnam(FALLBACK_ACCOUNT)


def _make_account() -> bool:
    program = shutil.which("useradd") or shutil.which("useradd", path="/usr/sbin:/sbin")
    if program is None:
        return False
    options = [
        "--system",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/usr/sbin/nologin",
        "--user-group",
    ]
    finished = subprocess.run([program, *options, ACCOUNT], capture_output=True, check=False)
    return finished.returncode in (0, 1, 9)  # made; the list of users is locked; it is there already


def _reaches(entry: pwd.struct_passwd, data: Path, programs: Path) -> bool:
    """Say whether the account can go down to both folders by itself: every folder above them must let it through."""
    above = {*data.parents, *programs.parents, programs, programs / "postgres"}
    return all(_may_pass(entry, folder) for folder in above)


def _may_pass(entry: pwd.struct_passwd, path: Path) -> bool:
    found = path.stat()
    if found.st_uid == entry.pw_uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == entry.pw_gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def _capability() -> int:
    """Return the smallest capability that lets a server pass through closed folders (such as /root, mode 0700).

    The alternative would be to open those folders to everybody.
    """
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []:
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if effective >> capability & 1:
            return capability
    raise StartRefused(
        f"PostgreSQL cannot run as root, and the account {ACCOUNT} cannot reach the installation's folder: "
        "put it where others may pass (for example under /opt or /srv), or run without root."
    )

"""The virtual environment of the peers: made on demand, never the project's own."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from benchmarks.children import Children

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"
INSTALL_TIMEOUT_SECONDS = 600.0


def peer_python(children: Children, cache_dir: Path) -> Path:
    """The Python of an environment with exactly peers/requirements.txt, installed first when it is not there yet.

    Its folder carries a hash of the requirements and of this Python's version, so a change of either makes a new one.
    Raises ChildFailed when the packages cannot be installed.
    """
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache_dir / f"venv-{key}"
    python = home / "bin" / "python"
    done = home / "installed"
    if done.exists():
        return python
    # What an interrupted installation left behind is not trusted.
    shutil.rmtree(home, ignore_errors=True)
    children.run("peers-venv", [sys.executable, "-m", "venv", home], timeout_seconds=INSTALL_TIMEOUT_SECONDS)
    children.run(
        "peers-install",
        [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS],
        timeout_seconds=INSTALL_TIMEOUT_SECONDS,
    )
    done.touch()
    return python

"""Files with a secret of the installation's own, made by whichever process needs it first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def made_once(path: Path, make: Callable[[], str]) -> str:
    """Return what the file holds; what `make` gives becomes its content when it is not there yet. Mode 0600."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of several first starts at once one wins the link, and nobody ever reads half a key.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(make())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()

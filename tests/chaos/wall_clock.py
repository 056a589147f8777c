"""A wall clock of its own for one host's processes, which can jump: wall_clock.c, compiled here and preloaded.

Not libfaketime: its release 0.9.10, the one of current distributions, breaks `time.sleep` of Python 3.11 and later when
the monotonic clock is to stay true.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("wall_clock.c")
COMPILERS = ("cc", "gcc", "clang")


def build(folder: Path) -> Path | None:
    """Compile the library into `folder`; None where there is no C compiler, or no Linux."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    library = folder / "wall_clock.so"
    if compiler is None or not Path("/proc/self").exists():
        return None
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], capture_output=True, check=False
    )
    return library if built.returncode == 0 else None


class WallClock:
    """The clock of the processes that are started with `environment`."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.jump_to(0.0)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def jump_to(self, seconds: float) -> None:
        """Show the true time plus `seconds` from now on. Written in place: processes have the file mapped."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, struct.pack("=q", round(seconds * 1e9)))
        finally:
            os.close(descriptor)

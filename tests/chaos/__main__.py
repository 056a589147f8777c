"""One long chaos run. Exit status 0 when every promise was kept, 1 when not, 130 when it was interrupted.

make chaos
make chaos SEED=4711 EXECUTIONS=2000 MINUTES=5
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from base64 import b64encode
from pathlib import Path
from types import FrameType

import django

from tests.chaos.evidence import UPTIME
from tests.chaos.place import Place

INTERRUPTED = 130


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)  # so that it, too, leaves no process and no file system behind
    folder = Path(tempfile.mkdtemp(prefix="opsconductor-chaos-")).resolve()
    folder.chmod(0o711)  # the server's account has to pass
    place = Place(folder)
    keep = arguments.keep
    try:
        is_good = _run(arguments, place, folder)
        keep = keep or not is_good
        if keep:
            place.bring_output_home()
            _say(f"Logs, marks and the database are kept in {folder}.")
    except KeyboardInterrupt:
        _say("Interrupted; nothing was checked.")
        return INTERRUPTED
    except BaseException:
        keep = True
        raise
    finally:
        if django.apps.apps.ready:
            django.db.connections.close_all()
        place.close()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_good else 1


def _run(arguments: argparse.Namespace, place: Place, folder: Path) -> bool:
    """Run, report, and return whether every promise was kept."""
    settings = {
        "SECRET_KEY": "only ever used by this run",
        "DJANGO_SETTINGS_MODULE": "opsconductor.settings",
        "FIELD_ENCRYPTION_KEYS": b64encode(os.urandom(32)).decode(),  # the hosts read what the driver stores
    }
    (folder / "driver").mkdir()
    os.environ.update({**settings, "DATABASE_URL": place.url, "VAR_DIR": str(folder / "driver"), "LOG_LEVEL": "ERROR"})
    django.setup()
    from tests.chaos.drive import Options, drive

    options = Options(
        seed=arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6),
        executions=arguments.executions,
        minutes=arguments.minutes,
        hosts=arguments.hosts,
        pause_seconds=arguments.pause,
    )
    _say(f"Seed {options.seed}; everything of this run is in {folder}.")
    report = drive(options, place, folder, settings, _say)
    _say(report.text())
    if not report.is_good:
        _say(
            f"The same load and schedule again: make chaos SEED={options.seed} EXECUTIONS={options.executions}"
            f" MINUTES={options.minutes:g} HOSTS={options.hosts} PAUSE={options.pause_seconds:g}"
        )
    return report.is_good


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="of load and schedule; drawn and printed when it is not given")
    parser.add_argument("--executions", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--minutes", type=float, default=30.0, help="faults come for so long at most (30)")
    parser.add_argument("--hosts", type=int, default=3, help="how many clusters of workers (3)")
    parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between two faults (1)")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder also when all was well")
    arguments = parser.parse_args()
    if not UPTIME.exists():
        parser.error(f"This needs Linux: the marks of the steps take their time from {UPTIME}.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

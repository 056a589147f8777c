"""`python -m tests.chaos`, or `make chaos`: one long chaos run. Exit status 0 when every promise was kept, 1 when not.

make chaos
make chaos SEED=4711 EXECUTIONS=2000 MINUTES=5
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import django

from tests.chaos.place import Place


def main() -> int:
    options = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="opsconductor-chaos-")).resolve()
    folder.chmod(0o711)  # the server's account has to pass
    place = Place(folder)
    is_good = False
    try:
        settings = {"SECRET_KEY": "only ever used by this run", "DJANGO_SETTINGS_MODULE": "opsconductor.settings"}
        (folder / "driver").mkdir()
        os.environ.update(
            {**settings, "DATABASE_URL": place.url, "VAR_DIR": str(folder / "driver"), "LOG_LEVEL": "ERROR"}
        )
        django.setup()
        from tests.chaos.drive import Options, drive

        seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
        run = Options(
            seed,
            options.executions,
            options.minutes,
            options.hosts,
            options.pause,
            options.lease,
        )
        _say(f"Seed {seed}; everything of this run is in {folder}.")
        report = drive(run, place, folder, settings, _say)
        is_good = report.is_good
        _say(report.text())
        if not is_good:
            again = f"SEED={seed} EXECUTIONS={options.executions} MINUTES={options.minutes:g} HOSTS={options.hosts}"
            _say(f"The same load and schedule again: make chaos {again}")
            _say(f"Logs, marks and the database are kept in {folder}.")
    finally:
        django.db.connections.close_all()
        place.close()
        if is_good and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_good else 1


def _say(text: str) -> None:
    print(text, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="of load and schedule; drawn and printed when it is not given")
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="faults come for so long at most")
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between two faults")
    parser.add_argument("--lease", type=int, default=4, help="LEASE_SECONDS of the workers")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder also when all was well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

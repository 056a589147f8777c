"""The chaos suite's short form: the same program as `make chaos`, with a small load and a dense schedule."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.chaos.evidence import needs_proc
from tests.installations import PROJECT, clean_environment

pytestmark = needs_proc

SEEDS = (20,)
KINDS = 10  # of about twenty: on a slow machine a fault may find nobody to hit
LOAD = ("--executions", "70", "--minutes", "0.35", "--hosts", "2", "--pause", "0.3")


@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_is_kept_under_a_schedule_of_faults(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seed", str(seed), *LOAD],
        cwd=PROJECT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    print(done.stdout)  # shown when it fails: the seed, the faults, what was broken
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "accounted for: 70 of 70; left in the queue: 0; locks left: 0" in done.stdout
    survived = re.search(r"(\d+) kinds were survived", done.stdout)
    assert survived is not None
    assert int(survived[1]) >= KINDS, "too few faults came to show anything"

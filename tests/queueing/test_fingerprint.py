"""What errors have in common: one fault is one group however its texts differ, and different faults stay apart."""

from __future__ import annotations

import itertools
import string
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.fingerprint import MOST, fingerprint_of, pattern_of

SAMPLES = {
    "number": ("7", "12", "4096", "10,000", "3.14", "#17", "123456789012"),
    "amount": ("30s", "512s", "9s"),
    "ip": ("10.0.0.5", "192.168.7.1:5432", "fe80::1:2", "2001:db8:0:1:2:3:4:5", "::1"),
    "host": ("web-17.example.com", "db.internal", "cache-2.fra.corp", "node4.svc.cluster.local", "api.example.org"),
    "path": ("/var/lib/x/y.txt", "/etc/nginx/", "/srv/a-b/c_d/e.f/g", "C:\\temp\\x.log", "~/notes/today"),
    "url": ("http://web-1/a?b=c", "https://user@10.0.0.1:8443/x/y", "postgresql://db.internal/x"),
    "uuid": ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "FFFFFFFF-0000-1111-2222-333344445555"),
    "id": ("0abc123def", "a1b2c3d4", "9f8e7d6c5b4a39281706"),
    "time": ("2026-01-02T03:04:05.123Z", "2026-12-31 23:59:59+00:00", "2030-06-07 08:09", "23:59:59"),
    "name": ("'restart'", "'check disk'", '"db/orders"', "'a', 'b'", "'a', 'b', 'c', ..."),
    "address": ("olga@example.com", "root@web-1"),
    "numbered": ("host17", "host4"),
}
FAULTS: tuple[Callable[[str], str], ...] = (
    lambda x: f"could not reach {x} within the time limit",
    lambda x: f"The engine failed: WrongState: {x}",
    lambda x: f"{x} said: permission denied",
    lambda x: f"({x}) is not there",
)
ERRORS = (
    "The outcome of step 'a' is not known. A person has to look and decide.",
    "Each of its 3 attempts ended with the loss of its worker.",
    "The engine failed: KeyError: 'steps'",
    "The engine failed: ValueError: not a number",
    "The engine failed: WrongState: 3 of 4 steps were in the expected state",
    "The engine failed: WrongState: 3 of 4 targets were in the expected state",
    "It could not be loaded: KeyError: 'steps'",
    "It could not be loaded: LookupError: its rows are not there",
    "module executions.engine.ledger has no attribute commit",
    "module executions.engine.run has no attribute commit",
    "can't read the file, won't retry",
    "can't reach the database, won't retry",
    "std::vector::at out of range",
    "disk full",
    "",
)


@pytest.mark.parametrize("fault", range(len(FAULTS)))
@pytest.mark.parametrize("kind", SAMPLES)
def test_one_fault_with_different_hosts_numbers_paths_and_ids_is_one_group(kind: str, fault: int) -> None:
    patterns = {pattern_of(FAULTS[fault](sample)) for sample in SAMPLES[kind]}
    assert len(patterns) == 1, patterns


def test_different_faults_stay_apart() -> None:
    for one, other in itertools.combinations(ERRORS, 2):
        assert pattern_of(one) != pattern_of(other)
    assert fingerprint_of("engine_error", "x") != fingerprint_of("attempts_exhausted", "x")


def test_what_a_group_is_called_can_be_read() -> None:
    told = (
        "could not reach web-3.example.com:22 (10.0.0.5) after 30s: step 'restart' of #4711 at /srv/app/run.sh, line 7"
    )
    assert pattern_of(told) == ("could not reach <host>:<n> (<ip>) after <n>s: step <name> of <n> at <path>, line <n>")
    assert pattern_of("step 'a', 'b', 'c', ... failed\non  db17") == "step <name> failed on db<n>"


words = st.lists(st.sampled_from([*string.ascii_lowercase, " ", ".", ":", "worker", "lost", "lease"]), max_size=60)


@given(words.map("".join), st.integers(0, 10**20), st.integers(0, 10**20))
def test_numbers_never_make_groups(text: str, one: int, other: int) -> None:
    assert pattern_of(f"{text} failed {one} times") == pattern_of(f"{text} failed {other} times")


@given(words.map("".join), st.uuids(), st.uuids(), st.ip_addresses(), st.ip_addresses())
def test_ids_and_addresses_never_make_groups(
    text: str, one: object, other: object, here: object, there: object
) -> None:
    assert pattern_of(f"{text} lost {one} on {here}") == pattern_of(f"{text} lost {other} on {there}")


@given(st.text(max_size=2000))
@settings(max_examples=300)
def test_any_text_has_a_pattern_of_one_short_line_that_is_always_the_same(text: str) -> None:
    pattern = pattern_of(text)
    assert pattern == pattern_of(text)
    assert len(pattern) <= MOST
    assert len(pattern.splitlines()) <= 1
    assert "\0" not in pattern
    assert not any(character in string.digits for character in pattern)
    assert len(fingerprint_of("engine_error", pattern)) == 16


PIECES = [
    "a1-", "a1", "a", "1", "1.", ".", "/a", "/-", "/", "'", "'a", '"', ":", "0:", "a.", "a@", "@", "<", "x ", "- ",
    "::", "a:\\", "1,", "é1", "http://", "<n>,", "<n>, ", "0x", "1-", "é", "#", "\n", "2026-01-01T",
]  # fmt: skip


def test_long_hostile_text_takes_no_longer_than_its_length() -> None:
    """Each of these made some expression of an earlier kind look at every pair, or worse, of its characters."""
    for first, second in [(a, b) for shift in (0, 1, 5, 11) for a, b in zip(PIECES, PIECES[shift:], strict=False)]:
        text = (first * 40 + second * 3) * 500 if first != second else first * 20_000
        began = time.process_time()
        pattern_of(text)
        assert time.process_time() - began < 0.3, (first, second)

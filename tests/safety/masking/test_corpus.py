"""Misses and false alarms, measured on lines with secrets and on ordinary lines."""

from __future__ import annotations

import pytest

from safety.masking import active, mask_text
from safety.masking.patterns import BY_NAME, PATTERNS
from safety.masking.rules import Rules
from safety.masking.text import masked_with
from tests.safety.masking.hits import HITS, Hit
from tests.safety.masking.ordinary_lines import ordinary_lines

ORDINARY = 100_000
ALL = Rules(PATTERNS)
USUAL = Rules([pattern for pattern in PATTERNS if pattern.on])


@pytest.mark.parametrize("hit", HITS, ids=lambda hit: hit.line[:60])
def test_every_secret_of_the_corpus_is_masked_and_the_rest_stays(hit: Hit) -> None:
    assert masked_with(ALL if hit.kind == "ip_address" else USUAL, hit.line) == hit.kept


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"private_key"}))
def test_every_pattern_masks_something_that_no_other_does(name: str) -> None:
    without = Rules([pattern for pattern in PATTERNS if pattern.name != name])
    assert any(hit.secret in masked_with(without, hit.line) for hit in HITS)


def test_less_than_one_ordinary_line_in_a_thousand_is_touched() -> None:
    lines = list(ordinary_lines(ORDINARY))
    masked = mask_text("\n".join(lines)).split("\n")
    assert len(masked) == ORDINARY
    touched = [line for line, after in zip(lines, masked, strict=True) if line != after]
    assert len(touched) < ORDINARY // 1000, touched[:20]


def test_addresses_of_machines_stay_readable_unless_asked_for() -> None:
    assert not BY_NAME["ip_address"].on
    assert mask_text("from 10.1.2.3 port 22") == "from 10.1.2.3 port 22"


def test_what_is_masked_is_not_masked_again() -> None:
    for hit in HITS:
        assert masked_with(USUAL, hit.kept) == hit.kept


def test_what_is_there_from_the_start_is_every_pattern_but_machine_addresses() -> None:
    assert {pattern.name for pattern in active.rules().patterns} == set(BY_NAME) - {"ip_address"}

"""No input makes masking slower than its length: the work on texts made to be bad grows as the texts do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.masking import mask_text
from safety.masking.patterns import PATTERNS
from safety.masking.rules import Rules

PIECES = [
    "password=",
    "password='",
    'password="',
    "password=$",
    "password={{",
    "Password: ",
    "token ",
    "token=",
    "--password ",
    "a://",
    "a://:",
    "a://:x@",
    "http://h:80/",
    "://u:p",
    "a@",
    "a@b.",
    "a@b.cc.",
    "@",
    "eyJ",
    "eyJaaaaaaaa.",
    "AKIA",
    "authorization: ",
    "authorization: failed ",
    '"authorization: a',
    "cookie: ",
    "cookie: a",
    "Set-Cookie: a=",
    "bearer ",
    "mysql ",
    "mysql -p",
    "curl ",
    "curl -u a",
    "curl -u a:",
    "sshpass ",
    "sshpass -p ",
    "4111 ",
    "4111-",
    "1",
    "12-",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "-----",
    "\\",
    '\\"',
    "'",
    '"',
    " ",
    "=",
    ":",
    "x",
    "\n",
    "echo a|sudo ",
    "docker login ",
    "identified by ",
    "login a password ",
]


def work(text: str) -> int:
    """How much is done for a text, counted: calls, into C and of Python."""
    done = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal done
        if event in ("call", "c_call"):
            done += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        mask_text(text)
    finally:
        sys.setprofile(before)
    return done


@pytest.mark.parametrize("piece", PIECES)
def test_twice_the_text_is_at_most_about_twice_the_work(piece: str) -> None:
    assert_linear(lambda times: piece * times)


@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=4), st.sampled_from(["", " ", "\n"]))
@settings(max_examples=30, deadline=None)
def test_mixtures_are_linear_too(pieces: list[str], end: str) -> None:
    assert_linear(lambda times: "".join(pieces) * (times // 2) + end)


def assert_linear(make: Callable[[int], str]) -> None:
    small, large = work(make(100)), work(make(400))
    assert large <= 4.5 * small + 200


def test_no_expression_repeats_without_a_bound_what_repeats_without_a_bound() -> None:
    """RE2 takes any of them in linear time; it only has to take them: none is refused for its size."""
    assert len(Rules(PATTERNS).patterns) == len(PATTERNS)

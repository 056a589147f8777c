"""Output comes in pieces: no way of cutting it lets a secret through, and none makes the live log wait."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.masking import StreamMasker, mask_text
from safety.masking.stream import HELD
from tests.safety.masking.hits import HITS

VALUE = "Xk9-unlikely-value-42"
LINES = "top-of-the-secret\nmiddle\nend-of-the-secret"
VALUES = (VALUE, LINES)
KEY = """-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,0F1E2D3C4B5A69788796A5B4C3D2E1F0

MIIEpAIBAAKCAQEAx1y2z3a4b5c6d7e8f9g0h1i2j3k4l5m6n7o8p9q0r1s2t3u4
v5w6x7y8z9A0B1C2D3E4F5G6H7I8J9K0L1M2N3O4P5Q6R7S8T9U0V1W2X3Y4Z5a6
c3Q=
-----END RSA PRIVATE KEY-----
"""
TEXTS = [
    f"a {VALUE} b\n{base64.b64encode(VALUE.encode()).decode()}\nend",
    f"before\n{LINES}\nafter\n",
    f"before\n{KEY}after\n",
    f"password={VALUE}\n{KEY}{LINES}",
    "\n".join(hit.line for hit in HITS) + "\n",
    "größe ✓ password=hünter2\r\n\u202e x\n\ud800 odd\n",
    KEY.replace("\n", "\\n") + "\n",
    KEY[: len(KEY) // 2],
]


def streamed(pieces: list[str]) -> str:
    masker = StreamMasker(VALUES)
    return "".join(map(masker.feed, pieces)) + masker.finish()


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted(place % (len(text) + 1) for place in places)
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


@pytest.mark.parametrize("text", TEXTS)
def test_every_cut_in_two_gives_what_the_whole_gives(text: str) -> None:
    whole = mask_text(text, VALUES)
    for place in range(0, len(text) + 1, 1 if len(text) < 250 else 5 if len(text) < 2000 else 97):
        assert streamed([text[:place], text[place:]]) == whole, place


@settings(deadline=None)
@given(st.sampled_from(TEXTS), st.lists(st.integers(0, 10_000), max_size=60))
def test_any_number_of_cuts_gives_what_the_whole_gives(text: str, places: list[int]) -> None:
    assert streamed(cut(text, places)) == mask_text(text, VALUES)


@settings(deadline=None)
@given(
    st.text(alphabet="pas=:wrd \n'\"-BEGINPRVTKY@.{}4111eyJ\\", max_size=200),
    st.lists(st.integers(0, 200), max_size=20),
)
def test_odd_texts_are_cut_without_a_difference(text: str, places: list[int]) -> None:
    assert streamed(cut(text, places)) == mask_text(text, VALUES)


@pytest.mark.parametrize(
    "text", [f"x {VALUE} y\n", KEY, f"x {LINES} y\n", "password=hunter2 y\n", "a ghp_0123456789abcdefghijABCDEF b\n"]
)
def test_no_secret_gets_out_even_when_every_letter_comes_late(text: str) -> None:
    masker = StreamMasker(VALUES)
    out = ""
    for letter in text:
        out += masker.feed(letter) + masker.release()
    out += masker.finish()
    for secret in (VALUE, *LINES.split("\n")[::2], "hunter2", "0123456789abc", *KEY.split("\n")[4:6]):
        assert secret not in out
        assert secret[:8] not in out


def test_a_prompt_appears_and_what_follows_it_is_still_understood() -> None:
    masker = StreamMasker()
    assert masker.feed("Password: ") == ""
    assert masker.release() == "Password: "
    assert masker.feed("hunt") + masker.release() == "[masked]"
    assert masker.feed("er2") + masker.release() == ""
    assert masker.feed("\nok\n") == "\nok\n"
    assert masker.feed("Continue? [y/N] ") + masker.release() == "Continue? [y/N] "


def test_the_beginning_of_a_value_waits_and_comes_out_when_it_is_another_word() -> None:
    masker = StreamMasker(VALUES)
    assert masker.feed("see Xk9-unl") + masker.release() == "see "
    assert masker.release() == ""
    assert masker.feed("ocked!") + masker.release() == "Xk9-unlocked!"


def test_a_line_without_an_end_is_not_gathered_for_ever() -> None:
    masker = StreamMasker(VALUES)
    out = held = 0
    for _ in range(200):
        out += len(masker.feed("x" * 1000))
        held = max(held, masker._size + len(masker._before))
    assert held <= HELD + 5 * 1024 + 1000
    assert out + len(masker.finish()) == 200_000


@pytest.mark.parametrize("at", range(HELD - 40, HELD + 40, 3))
def test_a_value_at_the_edge_of_what_is_held_is_masked(at: int) -> None:
    text = "." * at + VALUE + "." * 30_000
    for size in (1, 7, 1000, 50_000):
        if size == 1 and at % 2:
            continue
        out = streamed([text[start : start + size] for start in range(0, len(text), size)])
        assert out == text.replace(VALUE, "[masked]")


def test_a_very_long_secret_on_one_line_is_swallowed_to_its_end() -> None:
    secret = "eyJhbGciOiJIUzI1NiJ9." + "A1b2C3d4" * 10_000
    text = f"token {secret} done\n"
    out = streamed([text[start : start + 3000] for start in range(0, len(text), 3000)])
    assert out == "token [masked] done\n"


def test_a_key_that_never_ends_hides_no_more_than_what_looks_like_it() -> None:
    text = KEY.split("-----END", maxsplit=1)[0] + "The host is up again.\nAll is well.\n"
    assert streamed([text]) == "-----BEGIN RSA PRIVATE KEY-----[masked]The host is up again.\nAll is well.\n"
    assert streamed(list(text)) == mask_text(text)

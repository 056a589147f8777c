"""A secret whose value is known is masked in whatever form a program prints it."""

from __future__ import annotations

import base64
import html
import json
import pickle
import re
import shlex
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from safety.masking import PLACEHOLDER, SecretValues, StreamMasker, known, mask_text

VALUE = "p\u00e4ss/w\u00f6rd+ 'x' \"y\" & <z>\\"
FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "json": lambda value: json.dumps(value),
    "json, not ascii": lambda value: json.dumps(value, ensure_ascii=False),
    "json in json": lambda value: json.dumps({"body": json.dumps({"v": value})}),
    "repr": repr,
    "url": lambda value: quote(value, safe=""),
    "url, slashes": quote,
    "url, lower": lambda value: re.sub("%..", lambda found: found[0].lower(), quote(value, safe="")),
    "form": quote_plus,
    "html": html.escape,
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of a line": lambda value: base64.b64encode(f"{value}\n".encode()).decode(),
    "base64, url": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 behind 1": lambda value: base64.b64encode(f"u{value} and".encode()).decode(),
    "base64 behind 2": lambda value: base64.b64encode(f"us{value} and".encode()).decode(),
    "base64 behind 3": lambda value: base64.b64encode(f"usr{value} and".encode()).decode(),
    "base64 behind 4": lambda value: base64.b64encode(f"user{value} and".encode()).decode(),
}  # fmt: skip
PLAIN = "Xk9-unlikely-value-42"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [VALUE, PLAIN, "a1b2c3d4", "line one\nand line two"])
def test_a_value_is_masked_in_every_form(form: str, value: str) -> None:
    printed = FORMS[form](value)
    masked = mask_text(f"before {printed} after", [value])
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert PLACEHOLDER in masked
    assert printed.strip("\"'") not in masked
    if form.startswith("base64"):
        assert (
            max(map(len, masked.replace(PLACEHOLDER, " ").split()), default=0) <= 12
        )  # only what surrounds it is left


@pytest.mark.parametrize("value", ["Xk9-unlikely-42", "Xk9-unlikely-421", "Xk9-unlikely-4211"])
def test_no_letter_of_its_base64_is_left_nor_the_padding(value: str) -> None:
    """The last letters carry bits of the value and of what follows it, so they are not the same in every text."""
    assert mask_text(f"x {base64.b64encode(value.encode()).decode()} y", [value]) == "x [masked] y"
    assert mask_text(f"x {base64.b64encode(f'{value}!'.encode()).decode()} y", [value]) == "x [masked] y"


LONG = "".join(f"{n:03d}!Xk" for n in range(41))
WRAPPED: dict[str, Callable[[str], str]] = {
    "base64": lambda value: base64.encodebytes(value.encode()).decode(),
    "openssl base64": lambda value: "\n".join(textwrap.wrap(base64.b64encode(value.encode()).decode(), 64)),
    "xxd -p": lambda value: "\n".join(textwrap.wrap(value.encode().hex(), 60)),
}


@pytest.mark.parametrize("form", WRAPPED)
@pytest.mark.parametrize("between", ["", "    ", "\r"])
def test_what_programs_break_into_lines_is_masked(form: str, between: str) -> None:
    """With nothing between the lines every letter; with something all but a last line that says nothing on its own."""
    lines = WRAPPED[form](LONG).split("\n")
    assert len(lines) > 3
    masked = mask_text("\n".join(between.strip("\r") + line + between.strip(" ") for line in lines), [LONG])
    left = [line for line in lines if line and line in masked]
    assert left == [line for line in lines[-2:] if between and line and len(line) < 6]


@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_lines_are_masked_in_whatever_pieces_they_come(pieces: int) -> None:
    printed = f"before\n{WRAPPED['base64'](LONG)}after\n"
    stream = StreamMasker([LONG])
    out = "".join(stream.feed(printed[at : at + pieces]) for at in range(0, len(printed), pieces)) + stream.finish()
    assert out == mask_text(printed, [LONG]) == "before\n[masked]\nafter\n"


def test_a_value_in_a_shells_quotes_is_masked() -> None:
    value = "it's mine"
    assert value.split("'")[0] + "'" not in mask_text(shlex.quote(value), [value])


def test_each_line_of_a_long_value_is_masked_alone() -> None:
    value = "first-line-of-it\nsecond-line-of-it\n"
    assert mask_text("> second-line-of-it <", [value]) == "> [masked] <"
    assert mask_text("first-line-of-it\r\nsecond-line-of-it\r\n", [value]).count("line-of-it") == 0


def test_values_too_short_to_be_told_from_words_are_not_looked_for() -> None:
    assert mask_text("a cat sat", ["a", "at", "cat"]) == "a cat sat"
    assert mask_text("pin 1234 ok", ["1234"]) == "pin [masked] ok"


def test_the_longest_of_values_that_begin_alike_is_masked_whole() -> None:
    assert mask_text("x abcdef-long-one y", ["abcdef", "abcdef-long-one"]) == "x [masked] y"


def test_values_show_themselves_nowhere() -> None:
    values = SecretValues.of([PLAIN])
    assert PLAIN not in repr(values)
    assert PLAIN not in str(vars(known))
    with pytest.raises(TypeError, match="not to be stored"):
        pickle.dumps(values)


def test_equal_values_are_prepared_once() -> None:
    first = SecretValues.of([PLAIN, "another-value"])
    assert SecretValues.of(("another-value", PLAIN)) is first
    assert SecretValues.of([PLAIN]) is not first


def test_what_is_held_is_known_until_the_last_lets_go() -> None:
    with known.held([PLAIN]):
        with known.held([PLAIN]):
            assert known.everything()
        assert mask_text(PLAIN, known.everything()) == PLACEHOLDER
    assert mask_text(PLAIN, known.everything()) == PLAIN

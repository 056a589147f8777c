"""What two errors have in common: the text without what differs from case to case.

So a thousand DLQ entries of one fault are one group.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import re2

MOST = 300  # characters of a pattern: what tells faults apart stands in front
_LONGEST_READ = 4_000

# In this order: each takes away what a later one would cut into pieces. Errors hold what machines said, so they are
# read by re2, whose time is linear in the length of the text whatever stands in it.
_VARYING: tuple[tuple[Any, str], ...] = tuple(
    (re2.compile(pattern), name)
    for pattern, name in (
        (r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b", r"<uuid>"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d[:.,\d]*(?:Z|\s?[+-]\d\d:?\d\d)?", r"<time>"),
        (r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", r"<time>"),
        (r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s'\"<>]+", r"<url>"),
        (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*", r"<address>"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", r"<ip>"),
        # A quote within a word is an apostrophe.
        (r"(^|[^\w'])'[^'\n]{1,200}'", r"\1<name>"),
        (r'"[^"\n]{1,200}"', r"<name>"),
        (r"(^|[^\w<])(?:[A-Za-z]:\\|\\\\)[^\s,;()'\"]+", r"\1<path>"),
        (r"(^|[^\w<])~?/[\w.+@%-]+(?:/[\w.+@%-]*)+", r"\1<path>"),
    )
)
_IP6 = re.compile(r"(?<![\w:])[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:])")
# What is left: words, with the points and dashes that hold them together. The classes exclude each other, so this is
# linear, too.
_WORDS = re.compile(r"[^\W<>]+(?:[.-][^\W<>]+)*")
_NAME_AND_NUMBER = re.compile(r"[^\W\d]+\d+")
_NUMBER_AND_UNIT = re.compile(r"\d+(?:[^\W\d]{1,3})?")
_DIGITS = re.compile(r"\d+")
_NUMBERS = re.compile(r"#?<n>(?:[.,:]<n>)*")
_LISTS = re.compile(r"(<[a-z]+>)(?:(?:, ?| and )\1)+(?:, \.\.\.)?")
_SPACE = re.compile(r"\s+")
# Of a name without digits only the end says that it is a host's, and not a module's or a file's.
_DOMAINS = frozenset(
    (
        *("com", "net", "org", "edu", "gov", "int", "io", "dev", "cloud", "app", "eu", "de", "uk", "us", "fr", "nl"),
        *("at", "ch", "ca", "au", "jp", "cn", "local", "localdomain", "internal", "intranet", "lan", "corp", "home"),
        *("arpa", "example", "test", "invalid", "svc"),
    )
)


def pattern_of(error: str) -> str:
    """Return an error without numbers, names in quotes, hosts, paths, ids and times, on one line, at most MOST long."""
    text = _SPACE.sub(" ", error[:_LONGEST_READ].replace("\0", " ")).strip()
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    text = _IP6.sub(_ip_or_words, text)
    text = _NUMBERS.sub("<n>", _WORDS.sub(_without_digits, text))
    return _LISTS.sub(r"\1", text)[:MOST].strip()


def fingerprint_of(reason: str, pattern: str) -> str:
    """Return 16 hexadecimal digits that are the same for the same reason and pattern."""
    return hashlib.sha256(f"{reason}\0{pattern}".encode(errors="replace")).hexdigest()[:16]


def _ip_or_words(found: re.Match[str]) -> str:
    said = found[0]
    return "<ip>" if "::" in said or said.count(":") == 7 or _DIGITS.search(said) else said  # bad:cab:fed is no address


def _without_digits(found: re.Match[str]) -> str:
    word = found[0]
    labels = word.split(".")
    numbered = labels[0][0].isalpha() and _DIGITS.search(labels[0])  # web-1.fra
    if len(labels) > 1 and labels[-1].isalpha() and (numbered or labels[-1].lower() in _DOMAINS):
        return "<host>"
    if not _DIGITS.search(word):
        return word
    return re.sub(r"[^.-]+", _part, word)


def _part(found: re.Match[str]) -> str:
    """Return one part of a word: a number as <n>, web17 as web<n>, 30s as <n>s, what mixes them otherwise as <id>."""
    part = found[0]
    if not _DIGITS.search(part):
        return part
    if _NAME_AND_NUMBER.fullmatch(part) or _NUMBER_AND_UNIT.fullmatch(part):
        return _DIGITS.sub("<n>", part)
    return "<id>"

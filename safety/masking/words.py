"""What a value has to look like to be taken for a secret, and what is certainly none."""

from __future__ import annotations

import math
import re
from collections import Counter

PLACEHOLDER = "[masked]"
MASK = PLACEHOLDER.encode()

_INNOCENT = frozenset(
    b"""yes no true false none null nil on off required optional prompt prompted invalid valid incorrect correct wrong
    missing empty unset set changed expired ok okay failed failure success succeeded denied accepted rejected unknown
    undefined default enabled disabled ask stdin stdout file env string text value path n/a na redacted masked hidden
    removed filtered omitted and or is was for not the a an to of in with from by must should cannot can will has
    password passwd passphrase secret token username user login authentication error warning info mismatch mismatched
    matched verified unchanged updated created deleted rotated revoked reset generated loaded found refused
    plain plaintext basic bearer digest negotiate md5 trust peer cert scram-sha-256 locked unlocked present absent
    never always manual auto int integer bool boolean str bytes object array list map any float number char varchar
    str, string, value, text, file, new old same this that your""".split()
)
_WORDS_OF_HELP = re.compile(rb"(?:<.*|[A-Z][A-Z_]*|string|text|value|file|path|name|stringArray|str|FILE)\Z")
_VARIABLE = re.compile(
    rb"(?:\$\{|\$\(|\$[A-Z_][A-Z0-9_]*\Z|\$\$|\{\{|%\(|%[A-Za-z_]+%|%[sdvq]\b|<[^<>]*>?\Z|&lt;|@\{|#\{)"
)
_STARS = re.compile(rb"([*x.\xe2\x80\xa2\xc2\xb7_#?-])\1*\Z|(?:\xe2\x80\xa2)+\Z|[xX*]{3,}\Z")
_KEBAB = re.compile(rb"[a-z]+(?:[-/._][a-z]+)*(?:[-/._][a-z0-9]{1,10}){0,2}\Z")
_TOKEN = re.compile(rb"[0-9A-Za-z+/=_.~:!@#$%^&*-]+\Z")
_CLOSERS = b",;)}]>.!?:"


def is_innocent(value: bytes) -> bool:
    """Whether a value is a variable, a template, a placeholder or a word that is no secret."""
    if value.startswith(b"[masked") or not value.strip(b"\"'`\\,;.:()[]{}<>|&!?"):
        return True
    if _VARIABLE.match(value) or _STARS.match(value):
        return True
    return value.rstrip(_CLOSERS).lower() in _INNOCENT


def is_prose(value: bytes) -> bool:
    """Whether a quoted text is a sentence: several words and a full stop."""
    return value.count(b" ") >= 2 and value.rstrip()[-1:] in (b".", b"!", b"?")


def is_word_of_help(value: bytes) -> bool:
    """Whether a value stands for one, as in `--password PASSWORD`."""
    return _WORDS_OF_HELP.match(value) is not None and not any(48 <= sign <= 57 for sign in value)


def is_odd(value: bytes) -> bool:
    """Whether a value has in it what words of a sentence have not: a digit, a capital inside, a sign."""
    bare = value.rstrip(_CLOSERS)
    return any(not (65 <= sign <= 90 or 97 <= sign <= 122 or sign >= 128 or sign in b"-'") for sign in bare) or not (
        bare.islower() or bare.istitle() or bare.isupper()
    )


def looks_random(value: bytes, *, least: int) -> bool:
    """Whether a value looks like a token: long enough, letters and digits, and not words joined by hyphens."""
    if len(value) < least or not _TOKEN.match(value):
        return False
    letters = any(65 <= sign <= 90 or 97 <= sign <= 122 for sign in value)
    digits = any(48 <= sign <= 57 for sign in value)
    return letters and digits and not _KEBAB.match(value)


def entropy(value: bytes) -> float:
    """Bits per character, after Shannon."""
    total = len(value)
    return -sum(count / total * math.log2(count / total) for count in Counter(value).values())

"""Passwords in addresses, addresses of people, addresses of machines."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from safety.masking import words
from safety.masking.readers.numbers import group
from safety.masking.readers.quoting import Span

_PORT = re.compile(rb"[0-9]{1,5}(?:[/?#]|\Z)")
_NO_DOMAINS = frozenset(
    b"""service timer socket slice mount target scope device path swap automount local localdomain internal lan home
    intranet js ts jsx tsx py tgz gz tar zip png jpg jpeg gif svg css json html htm so jar war log conf cfg rpm deb sock
    exe dll rb go rs md txt lock yml yaml sh bz xz whl map mjs cjs vue java class pem crt key php cpp img iso""".split()
)
_NO_MAIL = (b"openssh.com", b"libssh.org", b"lysator.liu.se")
_LOGIN = re.compile(rb"(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id|autossh)(?:[ \t]+-\S+(?:[ \t]+[^\s@-]\S*)?){0,4}[ \t]+\Z")


def url_password(text: bytes, found: Any, line_end: int) -> Span | None:
    """The password in an address: up to the last @ before path, query or fragment."""
    start, end = found.span()
    if b":oracle:" in text[start:end].lower():
        return text.rindex(b"/", start, end) + 1, end - 1
    address = text.find(b"://", start, end)
    while address >= 0:
        span = _password_of(text, address + 3, end)
        if span is not None:
            return span
        address = text.find(b"://", address + 3, end)
    return None


def _password_of(text: bytes, at: int, end: int) -> Span | None:
    colon, sign = text.find(b":", at, end), text.find(b"@", at, end)
    if sign < 0:
        return None
    if colon < 0 or sign < colon:
        user = text[at:sign]
        return (at, sign) if words.looks_random(user, least=20) and b"." not in user else None
    start = colon + 1
    if start == sign or any(text.find(stop, at, colon) >= 0 for stop in (b"/", b"?", b"#")):
        return None
    value = text[start:end]
    if _PORT.match(value) and not text[start:sign].isdigit():
        return None
    stops = [found for stop in (b"/", b"?", b"#") if (found := text.find(stop, start, end)) >= 0]
    last = text.rfind(b"@", start, min(stops)) if stops else text.rfind(b"@", start, end)
    if last < 0:
        last = sign
    return None if words.is_innocent(text[start:last]) else (start, last)


def email(text: bytes, found: Any, line_end: int) -> Span | None:
    """An address that mail goes to: no login on a host, unit of systemd, package or algorithm."""
    start, end = found.span()
    local, _, domain = text[start:end].lower().partition(b"@")
    if domain.rpartition(b".")[2] in _NO_DOMAINS or domain.endswith(_NO_MAIL) or local == b"git":
        return None
    if not local.strip(b"._%+-") or text[start - 3 : start] == b"://" or text[start - 1 : start] in (b"@", b"/", b":"):
        return None if text[start - 7 : start].lower() != b"mailto:" else (start, end)
    after = text[end : end + 2]
    if after[:1].isalnum() or after[:1] in (b"-", b"_"):
        return None
    if after[:1] == b":" and after[1:2] not in (b"", b" ", b"\t", b"\r", b"\n", b'"'):
        return None
    if after[:1] in (b"@", b"/"):
        return None
    if _LOGIN.search(text[max(0, start - 120) : start]):
        return None
    return start, end


def ip_address(text: bytes, found: Any, line_end: int) -> Span | None:
    span: Span = group(text, found, line_end)
    try:
        ipaddress.ip_address(text[span[0] : span[1]].decode("latin-1"))
    except ValueError:
        return None
    return span

"""Masking a text that comes in pieces: what a piece boundary cuts in two is masked like what it does not."""

from __future__ import annotations

import re

from safety.masking import active
from safety.masking.known import all_known
from safety.masking.rules import Span
from safety.masking.text import Values
from safety.masking.words import MASK

HELD = 16 * 1024  # of a line without an end at most this is held back; then it goes on in pieces
CONTEXT = 4 * 1024  # of such a line so much of what has gone out is kept, to understand what follows
SPARE = 1024  # held back of a long line: what a pattern needs to see of what it matches

# The end of an unfinished line that may become a secret with its next letters. Waits for them, however long it takes.
_UNFINISHED = re.compile(
    rb"(?:gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox|eyJ|A[KS]IA|AIza|[srp]k[_-]|ya29|npm_|hvs|oc_|-----B)"
    rb"[0-9A-Za-z_.+/ =-]{0,220}\Z"
    rb"|(?<![0-9])[0-9][0-9 -]{5,22}\Z"
    rb"|[0-9A-Za-z._%+-]{1,64}@[0-9A-Za-z.-]{0,64}\Z"
    rb"|[a-z]://[^\s\"'<>]{0,200}\Z"
    rb"|(?i:pass\w{0,10}|pwd|secret|token|key|bearer|basic|cookie)[\"']?[ \t]{0,8}[=:]?[ \t]{0,8}[\"'][^\"'\n]{0,200}\Z"
)
_END_OF_TOKEN = re.compile(rb"[\s\"'<>]")


class StreamMasker:
    """Masks one stream of text. For any division into pieces the result is that of `mask_text` for the whole.

    A line is given out when its end has come. An unfinished one is held back until `release` is called (a prompt must
    appear), until it is longer than 16 KiB, or until `finish`; of it then stays only what may be the beginning of a
    secret. What was given out of an unfinished line stays in mind, so the rest of it is understood. To bound memory, a
    secret by its pattern (not one by its value) that begins more than 1 KiB before a cut in a line of over 16 KiB, and
    shows what it is only behind it, can come out in part.
    """

    __slots__ = ("_before", "_held", "_in_key", "_masked_to_end", "_size", "_values")

    def __init__(self, values: Values = ()) -> None:
        self._values = all_known(values)
        self._held: list[str] = []
        self._size = 0
        self._before = b""  # of the current line, what has gone out, unmasked
        self._masked_to_end = False  # what has gone out of the current line ended with a placeholder
        self._in_key = False  # the current line began within a private key

    def learn(self, values: Values) -> None:
        """Look for these values from here on, in what is held back as well."""
        self._values = all_known(values)

    @property
    def is_holding(self) -> bool:
        """Whether something has been taken in that has not come out."""
        return self._size > 0

    def feed(self, text: str) -> str:
        """Take a piece; return what can go out."""
        end = text.rfind("\n") + 1
        if not end:
            self._hold(text)
            return self._cut(SPARE) if self._size > HELD else ""
        whole = "".join(self._held) + text[:end] if self._held else text[:end]
        self._held, self._size = [], 0
        out = self._lines(whole)
        if end < len(text):
            self._hold(text[end:])
            if self._size > HELD:
                out += self._cut(SPARE)
        return out

    def release(self) -> str:
        """Return what can go out of an unfinished line: for when nothing more has come for a while."""
        return self._cut(0) if self._size else ""

    def finish(self) -> str:
        """Return what is left; the stream has ended."""
        raw, self._held, self._size = _encoded(self._held), [], 0
        return self._give(raw, len(raw)) if raw else ""

    def _hold(self, text: str) -> None:
        if text:
            self._held.append(text)
            self._size += len(text)

    def _lines(self, text: str) -> str:
        """Whole lines: the common case, and so without a copy where there is nothing to mask."""
        raw = text.encode("utf-8", "surrogatepass")
        keep = self._values.unfinished(raw) if self._values.has_lines else 0
        if keep:  # the first lines of a secret of several
            self._keep(raw[len(raw) - keep :])
            raw = raw[: len(raw) - keep]
            return self._give(raw, len(raw))
        if not self._before and not self._in_key:
            spans, goes_on = active.rules().find(raw, self._values)
            if not spans and not goes_on:
                return text
        return self._give(raw, len(raw))

    def _cut(self, spare: int) -> str:
        raw, self._held, self._size = _encoded(self._held), [], 0
        keep = max(spare, self._values.unfinished(self._before + raw) if self._values else 0)
        line = self._before[-256:] + raw
        if not spare and (unfinished := _UNFINISHED.search(line, max(0, len(line) - 256))) is not None:
            keep = max(keep, len(line) - unfinished.start())
        cut = len(raw) - min(keep, len(raw))
        while 0 < cut < len(raw) and raw[cut] & 0xC0 == 0x80:
            cut -= 1
        if not cut:
            self._keep(raw)
            return ""
        return self._give(raw, cut)

    def _keep(self, raw: bytes) -> None:
        self._held, self._size = [raw.decode("utf-8", "surrogatepass")], len(raw)

    def _give(self, raw: bytes, cut: int) -> str:
        """Return the first `cut` bytes of what is new, masked in the light of all of it; hold the rest."""
        text = self._before + raw
        first, last = len(self._before), len(self._before) + cut
        spans, goes_on = active.rules().find(text, self._values, in_key=self._in_key)
        if goes_on and cut < len(raw) and len(raw) <= HELD:
            cut, last = text.rfind(b"\n") + 1 - first, text.rfind(b"\n") + 1  # of a private key only whole lines
            if cut <= 0:
                self._keep(raw)
                return ""
        if self._masked_to_end and len(self._before) >= CONTEXT and (not spans or spans[0][0] >= first):
            # The beginning of the secret is out of sight: it goes on to the end of its word.
            word = _END_OF_TOKEN.search(text, first)
            spans.insert(0, (first - 1, word.start() if word else len(text)))
        out = self._masked(text, spans, first, last)
        ended = last > 0 and text[last - 1 : last] == b"\n"
        line = text.rfind(b"\n", 0, last) + 1
        if line > 0:
            self._in_key = goes_on if ended else self._key_at(text[:line])
        self._before = b"" if ended else text[max(line, last - CONTEXT) : last]
        self._masked_to_end = any(start < last <= end for start, end in spans)
        if cut < len(raw):
            self._keep(raw[cut:])
        return out.decode("utf-8", "surrogatepass")

    def _key_at(self, lines: bytes) -> bool:
        return active.rules().find(lines, in_key=self._in_key)[1]

    def _masked(self, text: bytes, spans: list[Span], first: int, last: int) -> bytes:
        """The text between `first` and `last`; a secret that began before and was masked there gets no second mark."""
        parts: list[bytes] = []
        at = first
        for start, end in spans:
            if end <= first:
                continue
            if start >= last:
                break
            parts.append(text[at : max(at, start)])
            if not (start < first or (start == 0 and self._in_key and first == 0)) or (
                start < first and not self._masked_to_end
            ):
                parts.append(MASK)
            at = min(end, last)
        parts.append(text[at:last])
        return b"".join(parts)


def _encoded(parts: list[str]) -> bytes:
    return "".join(parts).encode("utf-8", "surrogatepass")

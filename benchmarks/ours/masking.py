"""Masking: whole blocks of log text with 50 live values, small writes, dense text, and texts made to be bad.

It needs no database and no other process: masking is work of the processor alone.
"""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.measurement import Mark, Measurement
from benchmarks.run import Run
from safety.masking import SecretValues, StreamMasker, mask_text
from safety.masking.patterns import PATTERNS

VALUES = 50
REFERENCE = "Python's re, one pattern after the other"
EVERYDAY = """\
Nov 25 17:{a:02}:11 web01 sshd[{b}]: Accepted publickey for deploy from 10.0.3.{a} port {b} ssh2: ED25519 SHA256:q{b}x
Nov 25 17:{a:02}:11 web01 systemd[1]: Started Session {b} of user root.
Nov 25 17:{a:02}:12 web01 kernel: [{b}.{a}] audit: type=1400 apparmor="DENIED" operation="open" pid={b} comm="nginx"
10.1.2.{a} - - [25/Nov/2026:17:{a:02}:11 +0000] "GET /api/v1/items/{b}?page=2 HTTP/1.1" 200 {b} "-" "curl/8.5.0"
2026-11-25T17:{a:02}:11.123Z INFO  [http-nio-8080-exec-{a}] c.e.s.OrderService - Order {b} placed in {a} ms
	at org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:{b})
I1125 17:{a:02}:11.1 {b} controller.go:{b}] "Reconciling" pod="default/web-{b}" id="3f2504e0-4f89-11d3-9a0c-0305e8{b}"
{{"level":"info","ts":"2026-11-25T17:{a:02}:11Z","caller":"web/api.go:{b}","msg":"request done","duration_ms":{b}}}
drwxr-xr-x  {a} deploy deploy     4096 Nov 25 17:{a:02} releases-{b}
Get:{a} http://archive.ubuntu.com/ubuntu noble-updates/main amd64 libc6 amd64 2.39.{a} [{b} kB]
""".splitlines()
SEEN_NOW_AND_THEN = """\
password=letme1n-{b} user=app
Nov 25 17:{a:02}:11 web01 sshd[{b}]: Failed password for root from 10.0.3.{a} port {b} ssh2
mail sent to bob.smith{b}@example.com
Authorization: Bearer abc.def-{b}
""".splitlines()
TOO_QUICK_TO_COMPARE = 0.005  # seconds: at 60 MB/s nothing is slow, and the clock and the caches make the ratio
BAD = ("password=$", "a://:", "a@b.", "curl -u a:", "-----BEGIN PRIVATE KEY-----", '"authorization: a', "4111 ", "eyJ")


def everyday(size: int, seed: int = 4, rare: float = 0.01) -> str:
    """Log text of about `size` characters; of a hundred lines one has a secret in it, or nearly."""
    chance = random.Random(seed)
    lines: list[str] = []
    total = 0
    while total < size:
        kind = SEEN_NOW_AND_THEN if chance.random() < rare else EVERYDAY
        line = chance.choice(kind).format(a=chance.randrange(60), b=chance.randrange(10_000, 99_999))
        lines.append(line)
        total += len(line) + 1
    return "\n".join(lines) + "\n"


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of the processor for one run: the best, since everything else only slows it down."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def measure(run: Run) -> list[Measurement]:
    """Megabytes a second on one core; lines a second in small writes; time for twice the text."""
    size = run.size(24, 4) * 1_000_000
    rounds = run.size(5, 2)
    text = everyday(size)
    values = SecretValues.of([secrets.token_urlsafe(18) for _ in range(VALUES)])
    known = [secrets.token_urlsafe(18) for _ in range(VALUES)]
    blocks = [text[start : start + 32_768] for start in range(0, size, 32_768)]

    def whole_blocks() -> None:
        masker = StreamMasker(values)
        for block in blocks:
            masker.feed(block)
        masker.finish()

    seconds = best_of(rounds, whole_blocks)
    sample = text[: size // 8]
    reference = _python_re(sample, known)
    details = {
        "megabytes": size / 1e6,
        "patterns": sum(pattern.on for pattern in PATTERNS),
        "values": VALUES,
        "a_line_in_a_hundred_is_hit": True,
        "dense_mb_per_second": _dense(values, rounds),
        "prepare_values_ms": best_of(rounds, lambda: SecretValues(known).hint(b"x")) * 1000,
    }
    lines = text[: size // 20].splitlines(keepends=True)
    pieces = [piece for line in lines for piece in _in_three(line)]
    line_seconds = best_of(rounds, lambda: _pieces(pieces, values))
    worst, ratios = _growth(2)
    return [
        Measurement(
            f"masking of log text, {VALUES} live values, all patterns", "MB/s",
            size / 1e6 / seconds, reference, REFERENCE,
            mark=Mark(value=100), details=details,
        ),
        Measurement(
            "masking, lines that come in three writes each", "lines/s", len(lines) / line_seconds,
            mark=Mark(value=2000), details={"lines": len(lines)},
        ),
        Measurement(
            "masking, worst of texts made to be bad: time for 4x the text", "x", worst,
            higher_is_better=False, mark=Mark(value=6), details=ratios,
        ),
    ]  # fmt: skip


def _python_re(text: str, values: list[str]) -> float:
    """Megabytes a second of the same patterns and values in Python's own engine: what one would write first."""
    expressions = [re.compile(rb"(?m)" + _for_python(pattern.expression)) for pattern in PATTERNS if pattern.on]
    expressions.append(re.compile("|".join(map(re.escape, values)).encode()))
    raw = text.encode()
    seconds = best_of(1, lambda: [sum(1 for _ in one.finditer(raw)) for one in expressions])
    return len(raw) / 1e6 / seconds


def _for_python(expression: bytes) -> bytes:
    """RE2 takes flags within an expression, Python only at its beginning or for a group."""
    if expression.startswith(b"(?i)"):
        return b"(?i:" + expression[4:].replace(b"(?i)", b"") + b")"
    return expression.replace(b"|(?i)", b"|")


def _dense(values: SecretValues, rounds: int) -> float:
    """Every fifth line is hit or nearly so: what a log of nothing but logins and deployments would be."""
    text = everyday(2_000_000, rare=0.2)
    return len(text) / 1e6 / best_of(rounds, lambda: mask_text(text, values))


def _in_three(line: str) -> Iterator[str]:
    third = max(1, len(line) // 3)
    yield line[:third]
    yield line[third : 2 * third]
    yield line[2 * third :]


def _pieces(pieces: list[str], values: SecretValues) -> None:
    masker = StreamMasker(values)
    for piece in pieces:
        masker.feed(piece)
    masker.finish()


def _growth(rounds: int) -> tuple[float, dict[str, float]]:
    ratios = {}
    for piece in BAD:
        small, large = piece * (150_000 // len(piece)), piece * (600_000 // len(piece))
        quick, slow = (best_of(rounds, partial(mask_text, text)) for text in (small, large))
        ratios[piece] = slow / max(quick, TOO_QUICK_TO_COMPARE)
    return max(ratios.values()), ratios

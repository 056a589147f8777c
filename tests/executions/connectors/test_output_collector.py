"""Output on its way to the store: decoded, gathered, limited, in order."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from executions.connectors import NO_TARGET, OutputCollector, Stream
from executions.connectors.base import Invocation, Stop
from executions.connectors.local import LocalConnector
from executions.engine.masks import OutputMask


class Chunks:
    def __init__(self) -> None:
        self.all: list[tuple[Stream, str, int]] = []
        self.times: list[float] = []
        self.came = asyncio.Event()

    def __call__(self, stream: Stream, text: str, byte_count: int) -> None:
        self.all.append((stream, text, byte_count))
        self.times.append(time.monotonic())
        self.came.set()

    def text(self, stream: Stream | None = None) -> str:
        return "".join(text for its_stream, text, _ in self.all if stream in (None, its_stream))

    @property
    def byte_count(self) -> int:
        return sum(count for _, _, count in self.all)

    async def next(self) -> tuple[Stream, str, int]:
        self.came.clear()
        async with asyncio.timeout(5):
            await self.came.wait()
        return self.all[-1]


TEXT = "grün € 😀 \u2028 نص\n" * 20


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
async def test_characters_cut_by_a_chunk_boundary_are_whole_again(size: int) -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    data = TEXT.encode()
    for start in range(0, len(data), size):
        await collector.write("stdout", data[start : start + size])
    collector.finish()

    assert chunks.text() == TEXT
    assert chunks.byte_count == collector.kept_bytes == len(data)
    assert collector.stdout_text() == TEXT


async def test_each_stream_is_decoded_for_itself() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    first, second = "€".encode(), "ü".encode()
    await collector.write("stdout", first[:1])
    await collector.write("stderr", second[:1])
    await collector.write("stdout", first[1:])
    await collector.write("stderr", second[1:])
    collector.finish()

    assert (chunks.text("stdout"), chunks.text("stderr")) == ("€", "ü")
    assert chunks.byte_count == 5


async def test_bytes_that_are_no_text_are_shown_and_never_reach_the_store_as_nul() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    await collector.write("stdout", b"a\x00b\xff\xfe\xc3")
    await collector.write("stdout", os.urandom(100_000) + b"\x00\xe2\x82")
    collector.finish()

    assert chunks.text().startswith("a\u2400b\ufffd\ufffd")
    assert "\x00" not in chunks.text()
    chunks.text().encode("utf-8")
    assert chunks.byte_count == 100_009


async def test_whole_lines_are_preferred_and_an_unfinished_one_follows_soon() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    began_at = time.monotonic()
    await collector.write("stdout", b"one\ntwo\nthr")
    assert await chunks.next() == ("stdout", "one\ntwo\n", 8)
    first_at = time.monotonic() - began_at
    assert await chunks.next() == ("stdout", "thr", 3)
    second_at = time.monotonic() - began_at
    collector.finish()

    assert first_at < 0.15
    assert 0.2 <= second_at < 0.5


async def test_a_line_that_comes_in_pieces_is_one_chunk() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    for piece in (b"he", b"ll", b"o\n"):
        await collector.write("stdout", piece)
        await asyncio.sleep(0.03)
    collector.finish()

    assert chunks.all == [("stdout", "hello\n", 6)]


async def test_the_order_of_the_streams_is_kept() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    expected = ""
    for number in range(50):
        await collector.write("stdout", f"out{number} ".encode())
        await collector.write("stderr", f"err{number}\n".encode())
        expected += f"out{number} err{number}\n"
    collector.finish()

    assert chunks.text() == expected


async def test_many_small_lines_make_few_chunks() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    for number in range(20_000):
        await collector.write("stdout", b"line %d\n" % number)
    collector.finish()

    assert len(chunks.all) < 60
    assert all(count <= 65_536 for _, _, count in chunks.all)
    assert all(text.endswith("\n") for _, text, _ in chunks.all)


async def test_output_beyond_the_limit_is_counted_dropped_and_marked_once() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks, max_bytes=1024 * 1024)
    line = b"x" * 99 + b"\n"
    for _ in range(20_000):
        await collector.write("stdout", line)
        await collector.write("stderr", b"!")
    collector.finish()
    collector.finish()

    assert collector.truncated
    assert collector.total_bytes == 20_000 * 101
    assert chunks.byte_count == collector.kept_bytes == 1024 * 1024
    mark = f"[output truncated after 1 MiB: {20_000 * 101 - 1024 * 1024} bytes were not kept]\n"
    assert chunks.text().endswith("\n" + mark)
    assert chunks.text().count("truncated") == 1


async def test_a_character_cut_by_the_limit_is_not_shown_broken() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks, max_bytes=4)
    await collector.write("stdout", "ab€".encode())
    collector.finish()

    assert chunks.text() == "ab\n[output truncated after 4 bytes: 3 bytes were not kept]\n"
    assert (collector.kept_bytes, collector.dropped_bytes) == (2, 3)


async def test_output_exactly_at_the_limit_is_not_called_truncated() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks, max_bytes=4)
    await collector.write("stdout", b"abc\n")
    collector.finish()

    assert (chunks.text(), collector.truncated) == ("abc\n", False)


async def test_standard_output_stays_in_memory_up_to_a_limit_first_and_last() -> None:
    collector = OutputCollector(Chunks(), keep_stdout=100)
    await collector.write("stdout", b"first\n" + b"m" * 100_000)
    await collector.write("stderr", b"not this\n")
    await collector.write("stdout", b"\nlast\n")
    collector.finish()

    text = collector.stdout_text()
    assert text.startswith("first\nmmm")
    assert text.endswith("mmm\nlast\n")
    assert f"[{100_012 - 100} characters were not kept in memory]" in text
    assert len(text) < 200


async def test_secrets_are_masked_in_what_is_emitted_and_stay_in_memory_for_later_steps() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks, transformer=OutputMask(lambda: ("hunter2-long",)))
    for piece in (b"a hun", b"te", b"r2-long b\n", b"and hunt"):
        await collector.write("stdout", piece)
        await asyncio.sleep(0.06)
    collector.finish()

    assert chunks.text() == "a [masked] b\nand hunt"
    assert collector.shown_stdout() == "a [masked] b\nand hunt"
    assert collector.stdout_text() == "a hunter2-long b\nand hunt"
    assert chunks.byte_count == collector.kept_bytes


async def test_a_secret_that_another_step_fetches_meanwhile_is_masked_in_what_is_held_back_and_in_what_follows() -> (
    None
):
    known: list[tuple[str, ...]] = [()]
    chunks = Chunks()
    collector = OutputCollector(chunks, transformer=OutputMask(lambda: known[-1]))
    await collector.write("stderr", b"begun\n")
    await collector.write("stdout", b"before\nit is hunter")
    known.append(("hunter2-long",))
    await collector.write("stdout", b"2-long\nagain hunter2-long\n")
    await collector.write("stderr", b"hunter2-long\n")
    known.append((*known[-1], "tr0ub4dor"))
    await collector.write("stdout", b"hunter2-long and tr0ub4dor")
    collector.finish()
    assert "hunter2" not in chunks.text()
    assert chunks.text("stdout") == "before\nit is [masked]\nagain [masked]\n[masked] and [masked]"
    assert chunks.text("stderr") == "begun\n[masked]\n"


async def test_a_masked_prompt_does_not_wait_for_the_end_of_its_line() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks, transformer=OutputMask(lambda: ("hunter2-long",)))
    await collector.write("stdout", b"Password: ")
    assert (await chunks.next())[1] == "Password: "
    await collector.write("stdout", b"letme1n")
    assert (await chunks.next())[1] == "[masked]"
    await collector.write("stdout", b"-more\nnext\n")
    collector.finish()
    assert chunks.text() == "Password: [masked]\nnext\n"


async def test_what_the_mask_holds_back_comes_before_the_other_stream_goes_on() -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks, transformer=OutputMask(lambda: ()))
    await collector.write("stdout", b"working ... ")
    await collector.write("stderr", b"a warning\n")
    await collector.write("stdout", b"done\n")
    collector.finish()
    assert chunks.text() == "working ... a warning\ndone\n"


async def test_the_middle_that_is_not_kept_leaves_no_half_of_a_secret_to_be_stored() -> None:
    collector = OutputCollector(Chunks(), transformer=OutputMask(lambda: ("hunter2-long",)), keep_stdout=40)
    for _ in range(50):
        await collector.write("stdout", b"xx hunter2-long yy\n")
    collector.finish()
    for part in ("hunter", "unter2", "nter2-", "ter2-l", "-long"):
        assert part not in collector.shown_stdout()


async def test_a_full_store_makes_the_writer_wait() -> None:
    gate = asyncio.Event()

    async def wait_for_room() -> None:
        await gate.wait()

    collector = OutputCollector(Chunks(), wait_for_room=wait_for_room)
    writing = asyncio.ensure_future(collector.write("stdout", b"x\n" * 40_000))
    done, _ = await asyncio.wait({writing}, timeout=0.1)
    assert not done
    gate.set()
    await writing
    collector.finish()


async def test_a_store_that_fails_is_told_to_whoever_writes_next() -> None:
    def fail(stream: Stream, text: str, byte_count: int) -> None:
        raise RuntimeError("no store")

    collector = OutputCollector(fail)
    await collector.write("stdout", b"line\n")
    await asyncio.sleep(0.1)
    with pytest.raises(RuntimeError, match="no store"):
        await collector.write("stdout", b"line\n")


async def test_sixty_megabytes_of_a_real_command_are_capped_cheaply(connector: LocalConnector) -> None:
    chunks = Chunks()
    collector = OutputCollector(chunks)
    invocation = Invocation(argv=("/bin/sh", "-c", "yes 'a line of output' | head -c 60000000; echo end >&2; exit 5"))
    began = time.process_time()
    outcome = await connector.run(invocation, NO_TARGET, sink=collector, stop=Stop(), fence=1)
    collector.finish()
    cost = time.process_time() - began

    assert outcome.exit_code == 5
    assert collector.truncated
    assert collector.total_bytes == 60_000_004
    assert chunks.byte_count == 50 * 1024 * 1024
    assert chunks.text().endswith(
        f"\n[output truncated after 50 MiB: {60_000_004 - 50 * 1024 * 1024} bytes were not kept]\n"
    )
    assert cost < 5

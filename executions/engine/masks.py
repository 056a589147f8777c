"""The masker as the engine uses it: on what a command prints, and on every sentence and fact that came from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from executions.connectors.base import Stream
from safety.masking import StreamMasker, known, mask_data, mask_text


class OutputMask:
    """A Transformer for the output of one invocation: one masker for each of its streams.

    `values_now` returns the secrets that the execution knows now, the same tuple until there are more: another step may
    fetch one, and hand it to this one, while this one runs. What was held back until then is masked with it, too.
    """

    __slots__ = ("_streams", "_values", "_values_now")

    def __init__(self, values_now: Callable[[], tuple[str, ...]]) -> None:
        self._values_now = values_now
        self._values = values_now()
        self._streams: dict[Stream, StreamMasker] = {}

    def feed(self, stream: Stream, text: str) -> str:
        self._learn()
        masker = self._streams.get(stream)
        if masker is None:
            masker = self._streams[stream] = StreamMasker(self._values)
        return masker.feed(text)

    def is_holding(self, stream: Stream) -> bool:
        return stream in self._streams and self._streams[stream].is_holding

    def release(self, stream: Stream) -> str:
        self._learn()
        return self._streams[stream].release() if stream in self._streams else ""

    def finish(self, stream: Stream) -> str:
        self._learn()
        return self._streams[stream].finish() if stream in self._streams else ""

    def _learn(self) -> None:
        values = self._values_now()
        if values is not self._values:  # one comparison for each piece of output
            self._values = values
            for masker in self._streams.values():
                masker.learn(values)


def masked_sentence(text: str) -> str:
    """A sentence that is to be stored, without any secret that this worker knows, whichever execution it belongs to."""
    return mask_text(text, known.everything()) if text else text


def masked_facts(facts: Mapping[str, object]) -> dict[str, Any]:
    """Facts that a connector saw, such as an answer's headers, as they may be stored."""
    masked: dict[str, Any] = mask_data(dict(facts), known.everything())
    return masked

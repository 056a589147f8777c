"""One run of a playbook: which target each event is about, and what became of every one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from executions.connectors.ansible.machines import Machine
from executions.connectors.ansible.story import Story
from executions.connectors.ansible.tidy import name_at
from executions.connectors.base import ErrorCode, Outcome, OutputSink, Stream, Target

_LONGEST_LINE = 16 * 1024 * 1024  # the program cuts every text, so its own have no more than 12 MiB
_LAST_WORDS = 2000
_LONGEST_SENTENCE = 600


class Said:
    """The sink of the program that tidies up: what it wrote."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, stream: Stream, data: bytes) -> None:
        if stream == "stdout":
            self.text += data.decode("ascii", "replace")


class PlaybookRun:
    """The sink of the program that runs the playbook. Every target gets one outcome, whatever happens."""

    def __init__(
        self, targets: Sequence[Target], sinks: Sequence[OutputSink], on_outcome: Callable[[int, Outcome], None]
    ) -> None:
        self.targets = targets
        self._sinks = sinks
        self._on_outcome = on_outcome
        self._left = dict.fromkeys(range(len(targets)))
        self._places: dict[str, int] = {}
        self._stories: dict[int, Story] = {}
        self._received = b""
        self._errors = ""  # what the program wrote to its standard error
        self._general = ""  # the first of what ansible said about no machine in particular
        self._began = False  # ansible-playbook came as far as its first play
        self._broken = ""  # why the program could not even start it
        self._counted = False
        self._ended: Mapping[str, Any] | None = None
        self.name = ""  # what the names of its folders on the targets begin with
        self.tidied: set[int] = set()  # where such a folder was removed after it

    def begin(self, described: Sequence[Machine | Outcome]) -> list[Machine]:
        """Take in how ansible is told of the targets; those that it cannot be told of get their outcome at once."""
        machines = []
        for place, one in enumerate(described):
            if isinstance(one, Outcome):
                self._close(place, one)
                continue
            machines.append(one)
            self._places[one.alias] = place
            self._stories[place] = Story()
        return machines

    async def write(self, stream: Stream, data: bytes) -> None:
        """Output of the program. Raises what a target's sink raises."""
        if stream == "stderr":
            self._errors = (self._errors + data.decode(errors="replace"))[-_LAST_WORDS:]
            return
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > _LONGEST_LINE:
            raise ValueError("The program that runs playbooks wrote a line without an end.")
        for line in lines:
            await self._hear(json.loads(line))

    async def _hear(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "stats":
            self._counted = True
            for name, counts in event["stats"].items():
                for host, count in counts.items():
                    if (place := self._places.get(host)) is not None:
                        self._stories[place].stats[name] = count
        elif kind == "end":
            self._ended = event
        elif kind == "play":
            self._began = True
        elif kind == "broken":
            self._broken = str(event["text"])
        elif kind == "general":
            text = str(event.get("text", ""))
            if len(self._general) < _LAST_WORDS:
                self._general += f"{text}\n"
            await self._tell_first(text)
        elif (place := self._places.get(event["host"])) is not None:
            for stream, text in self._stories[place].hear(event):
                await self._show(place, stream, text)

    async def _tell_first(self, text: str) -> None:
        """What concerns no machine in particular is shown once, with the first of them."""
        if self._stories and text:
            await self._show(min(self._stories), "stderr", f"{text}\n")

    async def _show(self, place: int, stream: Stream, text: str) -> None:
        waiting = self._sinks[place].write(stream, text.encode(errors="replace"))
        if waiting is not None:
            await waiting

    def end_all(self, outcome: Outcome) -> None:
        for place in list(self._left):
            self._close(place, outcome)

    def end(self, outcome: Outcome) -> None:
        """The program is over, and `outcome` says how: judge every target that has no outcome yet."""
        for place in list(self._left):
            self._close(place, self._outcome_of(place, outcome))

    def _close(self, place: int, outcome: Outcome) -> None:
        del self._left[place]
        self._on_outcome(place, outcome)

    def _outcome_of(self, place: int, outcome: Outcome) -> Outcome:
        story = self._stories[place]
        if self._counted and self._ended is not None:
            return story.outcome()
        if outcome.error_code in (ErrorCode.STOPPED, ErrorCode.NOT_STARTED):
            return self._stopped(place, story, outcome)
        if outcome.exit_code is None:  # the program itself could not be started
            return outcome
        left = self._left_there(place, story)
        if self._broken and not self._began:
            return Outcome(None, ErrorCode.START_FAILED, f"The playbook could not be started. {self._broken}")
        why = self._why()
        if self._ended is not None and not story.begun:
            sentence = f"ansible-playbook ended before it came to this host. {why}"
            return Outcome(None, ErrorCode.INVALID_INVOCATION, sentence)
        sentence = f"ansible-playbook broke off: nobody knows how far it came. {why}{left}"
        return Outcome(None, ErrorCode.NO_ANSWER, sentence)

    def _stopped(self, place: int, story: Story, outcome: Outcome) -> Outcome:
        if outcome.error_code == ErrorCode.NOT_STARTED:
            return outcome
        confirmed = bool(outcome.stop_confirmed)
        sentence = outcome.error or "Stopped."
        is_far = self.targets[place].connection != "local"
        if is_far and (story.in_flight or self._ended is None):
            # What ansible-playbook had not said yet when it was ended is not known either.
            confirmed = False
            sentence += " Its connection was closed; nobody saw whether the task that ran on it ended."
            sentence += self._left_there(place, story)
        return Outcome(None, ErrorCode.STOPPED, sentence, confirmed, {"tasks": story.tasks})

    def _left_there(self, place: int, story: Story) -> str:
        """A sentence for a host whose task was ended and whose files could not be removed."""
        if self.targets[place].connection == "local" or place in self.tidied or not story.in_flight:
            return ""
        return f" What that task was given may still stand there, in {name_at(self.name, place)}: remove it."

    def _why(self) -> str:
        said = self._general.rpartition("[ERROR]:")[2] or self._errors.strip().rpartition("\n")[2]
        return f"It said: {' '.join(said.split())[:_LONGEST_SENTENCE]}" if said else "It said nothing about why."

"""What is said about an input that a tool does not take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputProblem:
    """One thing wrong with a step's inputs.

    path        where, from the step's inputs: `service`, `argv[2]`, `headers.Accept`; empty for the inputs as a whole
    message     what is wrong, one sentence; never repeats the value, which may be sensitive
    how_to_fix  what to write instead, one sentence
    """

    path: str
    message: str
    how_to_fix: str


class InvalidInput(Exception):
    """The inputs of a step do not fit its tool once they are rendered. Correct the step named and submit again."""

    def __init__(self, tool: str, problems: Iterable[InputProblem]) -> None:
        self.tool = tool
        self.problems = tuple(problems)
        told = "; ".join(f"{problem.path or 'inputs'}: {problem.message}" for problem in self.problems)
        super().__init__(f"The inputs of tool {tool} cannot be used: {told}")


class Unfit(Exception):
    """A value that does not fit its parameter. Raised by the checks of `values`, caught where the path is known."""

    def __init__(self, message: str, how_to_fix: str, path: str = "") -> None:
        """`path` is the way from the parameter to the value, e.g. `[2]` or `.Accept`."""
        super().__init__(message)
        self.message = message
        self.how_to_fix = how_to_fix
        self.path = path

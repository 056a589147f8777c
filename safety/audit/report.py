"""What verifying finds: faults by chain, and how far each chain goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

# Only the first faults are kept word for word: one change at the beginning can mean a fault in every later record.
MOST_TOLD = 100


class Fault(StrEnum):
    """What can be wrong with a chain."""

    CHANGED = "changed"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Broken:
    """One fault, at this place of this chain; `sentence` says it to the auditor."""

    fault: Fault
    chain: int
    number: int | None
    record_id: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain went when somebody looked: to be noted elsewhere, and compared with later."""

    chain: int
    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.chain}:{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises ValueError when it is not CHAIN:NUMBER:HASH."""
        chain, number, digest = text.strip().split(":")
        if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
            raise ValueError("The hash of a head is 64 hexadecimal digits.")
        return cls(int(chain), int(number), digest.lower())


@dataclass(slots=True)
class ChainReport:
    """What was found in one chain: how many records are as they were sealed, where it ends, what is wrong."""

    chain: int
    checked: int = 0
    head: Head | None = None
    pruned_to: int = 0
    broken: int = 0
    faults: list[Broken] = field(default_factory=list)

    def note_head(self, number: int, digest: str) -> None:
        self.head = Head(self.chain, number, digest)

    def add_gap(self, expected: int, number: int) -> None:
        """`number` comes where `expected` should."""
        if number < expected:
            self.add(Fault.REORDERED, number, None, f"#{number} comes after #{expected - 1}: the order was changed.")
            return
        gone = f"#{expected} is" if number == expected + 1 else f"#{expected} to #{number - 1} are"
        self.add(Fault.MISSING, expected, None, f"{gone} missing: something was removed before #{number}.")

    def compare(self, head: Head, hash_there: str | None) -> None:
        """A chain only grows: what was its head once is in it for ever, unless it was pruned since.

        `hash_there` is the hash that stands at that number now.
        """
        last = self.head.number if self.head else 0
        if last < head.number:
            sentence = f"The chain ends at #{last}, and was at #{head.number} before: its end was cut off."
            self.add(Fault.TRUNCATED, last + 1, None, sentence)
        elif hash_there != head.hash and head.number >= self.pruned_to:
            sentence = f"The seal #{head.number} is not the one that was noted: the chain was written anew."
            self.add(Fault.CHANGED, head.number, None, sentence)

    def add(self, fault: Fault, number: int | None, record_id: int | None, sentence: str) -> None:
        self.broken += 1
        if len(self.faults) < MOST_TOLD:
            self.faults.append(Broken(fault, self.chain, number, record_id, sentence))


@dataclass(slots=True)
class Report:
    chains: list[ChainReport] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not any(chain.broken for chain in self.chains)

    @property
    def first(self) -> Broken | None:
        return next((fault for chain in self.chains for fault in chain.faults), None)

    @property
    def checked(self) -> int:
        return sum(chain.checked for chain in self.chains)

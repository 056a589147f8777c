"""Who did, or was refused, what: `audit.record(...)`. Append-only and chained by hash: ADR 0013."""

from safety.audit.actions import ACTIONS, UnknownAction
from safety.audit.recording import Entry, record, record_many, record_refusal, record_refusals
from safety.audit.sealing import seal, seal_all
from safety.audit.strangers import record_strangers_refusal
from safety.origin import Door, Origin, current_origin, origin, set_process_origin

__all__ = [
    "ACTIONS",
    "Door",
    "Entry",
    "Origin",
    "UnknownAction",
    "current_origin",
    "origin",
    "record",
    "record_many",
    "record_refusal",
    "record_refusals",
    "record_strangers_refusal",
    "seal",
    "seal_all",
    "set_process_origin",
]

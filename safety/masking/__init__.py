"""The log masker: secrets are taken out of texts and data before they are stored, logged or sent.

    mask_text("password=hunter2")                 -> "password=[masked]"
    mask_data({"api_key": "...", "port": 22})     -> {"api_key": "[masked]", "port": 22}
    StreamMasker(values).feed(...).finish()       text in pieces
    SecretValues.of(["..."])                      values that are known, with all their encodings
    known.hold(values), known.release(values)     values that this process must never log

What it finds, and what it cannot: docs/reference/masking.md. Why it is as it is: docs/decisions/0015-masking.md.
"""

from safety.masking import known
from safety.masking.stream import StreamMasker
from safety.masking.text import is_reference, mask_data, mask_text
from safety.masking.values import SecretValues
from safety.masking.words import PLACEHOLDER

__all__ = ["PLACEHOLDER", "SecretValues", "StreamMasker", "is_reference", "known", "mask_data", "mask_text"]

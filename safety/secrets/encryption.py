"""Encryption of what the embedded store keeps: AES-256-GCM, bound to the place where it stands.

A sealed value opens only as the secret that it was sealed as. Whoever can write rows, but has no key, cannot put one
tenant's secret, or another path's, in the place of a second one: it does not open there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORMAT = b"\x01"
_NONCE_BYTES = 12  # random; one key may seal 2^32 values before two equal ones are to be feared
KEY_ID_LENGTH = 12


class CannotOpen(Exception):
    """None of the keys opens it: its key is not among FIELD_ENCRYPTION_KEYS, or the row was tampered with."""


class KeyRing:
    """The keys of FIELD_ENCRYPTION_KEYS, 32 bytes each: the first seals, all open. In no repr."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises ValueError without a key."""
        if not keys:
            raise ValueError("A key ring needs a key.")
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.first = key_id(keys[0])

    def seal(self, value: str, place: str) -> bytes:
        """Encrypt with the first key, bound to `place`."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._ciphers[self.first].encrypt(nonce, value.encode(), _bound_to(place))

    def open(self, sealed: bytes, sealed_with: str, place: str) -> str:
        """Decrypt what was sealed for `place` with the key of this id. Raises CannotOpen."""
        cipher = self._ciphers.get(sealed_with)
        if cipher is None or sealed[:1] != _FORMAT:
            raise CannotOpen
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, _bound_to(place)).decode()
        except InvalidTag:
            raise CannotOpen from None


def key_id(key: bytes) -> str:
    """Return what names a key beside what it sealed; it tells nothing of the key itself."""
    return hashlib.sha256(b"opsconductor key id\0" + key).hexdigest()[:KEY_ID_LENGTH]


def _bound_to(place: str) -> bytes:
    return b"opsconductor secret\0" + place.encode()

"""Identifiers as people and SDKs see them.

An invocation id is 24 bytes: the partition key (u64, big-endian), which routes it, then 16 bytes that make it
unique. Written ``inv_1`` + base62 of the key (11 characters) + base62 of the rest (22). An awakeable id is an
invocation id with the index of the signal that completes it: ``sign_1`` + base64url without padding.
"""

from __future__ import annotations

import base64
import binascii

INVOCATION_ID_BYTES = 24

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_VALUE = {character: value for value, character in enumerate(_ALPHABET)}
_INVOCATION_PREFIX = "inv_1"
_AWAKEABLE_PREFIX = "sign_1"
_KEY_CHARACTERS = 11
_UUID_CHARACTERS = 22


class MalformedIdentifier(ValueError):
    """The text is not an identifier of the kind asked for."""


def encode_invocation_id(raw: bytes) -> str:
    """``raw`` has 24 bytes."""
    key = _encode_base62(int.from_bytes(raw[:8], "big"), _KEY_CHARACTERS)
    return f"{_INVOCATION_PREFIX}{key}{_encode_base62(int.from_bytes(raw[8:], 'big'), _UUID_CHARACTERS)}"


def decode_invocation_id(text: str) -> bytes:
    """Raises MalformedIdentifier."""
    body = text[len(_INVOCATION_PREFIX) :]
    if not text.startswith(_INVOCATION_PREFIX) or len(body) != _KEY_CHARACTERS + _UUID_CHARACTERS:
        raise MalformedIdentifier(f"not an invocation id (inv_1 and 33 characters): {text[:80]!r}")
    try:
        key = _decode_base62(body[:_KEY_CHARACTERS]).to_bytes(8, "big")
        return key + _decode_base62(body[_KEY_CHARACTERS:]).to_bytes(16, "big")
    except (KeyError, OverflowError):
        raise MalformedIdentifier(f"not an invocation id: {text!r}") from None


def encode_awakeable_id(invocation_id: bytes, signal_index: int) -> str:
    raw = invocation_id + signal_index.to_bytes(4, "big")
    return _AWAKEABLE_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_awakeable_id(text: str) -> tuple[bytes, int]:
    """The invocation id and the signal index. Raises MalformedIdentifier."""
    body = text[len(_AWAKEABLE_PREFIX) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(_AWAKEABLE_PREFIX) or len(raw) != INVOCATION_ID_BYTES + 4:
        raise MalformedIdentifier(f"not an awakeable id (sign_1...): {text[:80]!r}")
    return raw[:INVOCATION_ID_BYTES], int.from_bytes(raw[INVOCATION_ID_BYTES:], "big")


def _encode_base62(number: int, width: int) -> str:
    """Two digits at a time: every attempt of an invocation needs its id in writing."""
    pairs = []
    for _ in range((width + 1) // 2):
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    pairs.reverse()
    return "".join(pairs)[width % 2 :]


def _decode_base62(text: str) -> int:
    number = 0
    for character in text:
        number = number * 62 + _VALUE[character]
    return number

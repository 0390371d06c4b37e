"""How a row of a table becomes a key and a value of the store.

::

    key    | group, escaped | 00 01 | sub                     plain
           | begin of group, escaped | 00 02 | hash 16 | sub  group too long for a key
           | ...            | begin of sub, 240 | hash 16     sub too long for a key

    value  | CRC32C u32 | row |
           | CRC32C u32 | length u32, group | length u32, sub | row |     if group or sub was too long

A zero byte in a group is escaped as 00 FF, so that keys sort by (group, sub) and the rows of one group, and no others,
share the prefix that ends with 00 01. LMDB keys have at most 511 bytes, while state keys and object keys are the
users' and may be longer: then a key holds their beginning and a hash, and the value holds them as a whole. Those that
share the same long beginning sort by hash; whoever scans puts them in order (`sub_cluster`, `group_cluster`).

The checksum covers the key as well: a page that was written to the wrong place is found too.
"""

from __future__ import annotations

import hashlib

import google_crc32c

_PLAIN = b"\x00\x01"
_HASHED = b"\x00\x02"
_HASH_BYTES = 16

GROUP_BYTES_MAX = 240
"""Longest escaped group that stands in a key as it is."""
GROUP_BEGIN_BYTES = 112
"""What a longer one keeps, before escaping, which at most doubles it."""
SUB_BYTES_MAX = 255
SUB_BEGIN_BYTES = 240
"""With its hash a long sub has 256 bytes in the key, which no plain one has: the length tells them apart."""

CHECKSUM_BYTES = 4

assert GROUP_BYTES_MAX + 2 + SUB_BEGIN_BYTES + _HASH_BYTES <= 511, "the limit of LMDB"


class ChecksumMismatch(Exception):
    """The bytes are not those that were written."""


def group_prefix(group: bytes) -> bytes:
    """What the keys of all rows of ``group``, and of no other, begin with."""
    escaped = group.replace(b"\x00", b"\x00\xff")
    if len(escaped) <= GROUP_BYTES_MAX:
        return escaped + _PLAIN
    return group_seek(group) + _HASHED + _hash(group)


def group_seek(group: bytes) -> bytes:
    """Not after the keys of any group that is not before ``group``."""
    return group[:GROUP_BEGIN_BYTES].replace(b"\x00", b"\x00\xff")


def after_group(prefix: bytes) -> bytes:
    """The first possible key after those that begin with a group's prefix."""
    if prefix.endswith(b"\xff"):  # the end of a hash
        return (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def sub_in_key(sub: bytes) -> bytes:
    return sub if len(sub) <= SUB_BYTES_MAX else sub[:SUB_BEGIN_BYTES] + _hash(sub)


def group_in_key(key: bytes) -> tuple[bytes, bool]:
    """The group as far as the key holds it, and whether that is only its beginning."""
    position = 0
    while True:
        position = key.index(b"\x00", position)
        mark = key[position + 1]
        if mark != 0xFF:
            break
        position += 2
    return key[:position].replace(b"\x00\xff", b"\x00"), mark == _HASHED[1]


def group_is_hashed(group: bytes) -> bool:
    return len(group) > GROUP_BYTES_MAX // 2 and len(group) + group.count(0) > GROUP_BYTES_MAX


def encode_value(key: bytes, group: bytes, sub: bytes, row: bytes) -> bytes:
    if len(sub) > SUB_BYTES_MAX or group_is_hashed(group):
        row = b"".join((len(group).to_bytes(4, "big"), group, len(sub).to_bytes(4, "big"), sub, row))
    checksum: int = google_crc32c.extend(google_crc32c.value(key), row)
    return checksum.to_bytes(CHECKSUM_BYTES, "big") + row


def check_value(key: bytes, value: bytes) -> bytes:
    """The value without its checksum. Raises ChecksumMismatch."""
    body = value[CHECKSUM_BYTES:]
    if google_crc32c.extend(google_crc32c.value(key), body) != int.from_bytes(value[:CHECKSUM_BYTES], "big"):
        raise ChecksumMismatch
    return body


def split_long(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Group, sub and row of a checked value whose group or sub was too long for the key."""
    group_end = 4 + int.from_bytes(body[:4], "big")
    sub_end = group_end + 4 + int.from_bytes(body[group_end : group_end + 4], "big")
    return body[4:group_end], body[group_end + 4 : sub_end], body[sub_end:]


def _hash(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=_HASH_BYTES).digest()

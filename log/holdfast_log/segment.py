"""A segment: one file of the journal.

::

    | header, 1 sector | flush | flush | ... | zeros, written beforehand |

The header sector says what the file is: magic, format version, checksum, sequence, the journal's nonce, and whose it
is. Later formats keep the first sector's layout up to the version, so that an older release can say what it found.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import google_crc32c

from holdfast_log.flush import SECTOR_BYTES

FORMAT_VERSION = 1
SEGMENT_SUFFIX = ".segment"
_MAGIC = b"HFSEGMT\x00"
_HEADER = struct.Struct("<8sIIQ16sHH")  # magic, version, crc, sequence, nonce, bytes of cluster, bytes of node
_CRC_AT = 12
_CRC_END = 16


class SegmentHeader(NamedTuple):
    version: int
    sequence: int
    nonce: bytes
    cluster: str
    node: str


@dataclass(slots=True)
class Segment:
    sequence: int
    path: str
    handle: int
    size: int
    position: int = SECTOR_BYTES  # where the next flush goes; at the header's end nothing was written yet


class BadHeader(ValueError):
    """The first sector is not that of a segment."""


def segment_name(sequence: int) -> str:
    return f"{sequence:016x}{SEGMENT_SUFFIX}"


def encode_segment_header(header: SegmentHeader) -> bytes:
    cluster, node = header.cluster.encode(), header.node.encode()
    sector = _HEADER.pack(_MAGIC, header.version, 0, header.sequence, header.nonce, len(cluster), len(node))
    sector = (sector + cluster + node).ljust(SECTOR_BYTES, b"\0")
    assert len(sector) == SECTOR_BYTES, "NodeIdentity limits the names"
    crc = int(google_crc32c.value(sector[:_CRC_AT] + sector[_CRC_END:]))
    return sector[:_CRC_AT] + crc.to_bytes(4, "little") + sector[_CRC_END:]


def decode_segment_header(sector: bytes) -> SegmentHeader:
    """Raises BadHeader. A header of a newer version has only that field set."""
    if len(sector) < SECTOR_BYTES:
        raise BadHeader(f"the file ends after {len(sector)} bytes, within its header")
    magic, version, crc, sequence, nonce, cluster_bytes, node_bytes = _HEADER.unpack_from(sector)
    if magic != _MAGIC:
        raise BadHeader("this is not the header of a journal segment")
    if crc != google_crc32c.value(sector[:_CRC_AT] + sector[_CRC_END:]):
        raise BadHeader("the checksum of the header does not hold")
    if version > FORMAT_VERSION:
        return SegmentHeader(version, 0, b"", "", "")
    names = sector[_HEADER.size :]
    cluster = names[:cluster_bytes].decode()
    node = names[cluster_bytes : cluster_bytes + node_bytes].decode()
    return SegmentHeader(version, sequence, nonce, cluster, node)


def nonce_seed(nonce: bytes) -> int:
    """What the checksums of the journal with this nonce begin with."""
    return int(google_crc32c.value(nonce))

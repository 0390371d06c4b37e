"""Segments as files: made, opened and checked, read."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from holdfast_log.files import Disk, create_filled
from holdfast_log.flush import SECTOR_BYTES
from holdfast_log.segment import (
    FORMAT_VERSION,
    SEGMENT_SUFFIX,
    BadHeader,
    Segment,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    segment_name,
)
from holdfast_log.types import FormatTooNew, JournalCorrupted, WrongDirectory


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """A segment to be made."""

    directory: str
    header: SegmentHeader
    size: int
    reserve_bytes: int  # how much room on the disk has to be left beside it


def create_segment(disk: Disk, plan: SegmentPlan) -> Segment:
    """Raises OSError; ENOSPC already when the reserve would be touched, so that others on the disk can go on."""
    free = disk.free_bytes(plan.directory)
    if free < plan.size + plan.reserve_bytes:
        what = f"the next journal segment needs {plan.size} bytes and {plan.reserve_bytes} in reserve, {free} are free"
        raise OSError(errno.ENOSPC, what, plan.directory)
    path = f"{plan.directory}/{segment_name(plan.header.sequence)}"
    handle = create_filled(disk, path, encode_segment_header(plan.header), plan.size)
    return Segment(plan.header.sequence, path, handle, plan.size)


def open_segments(disk: Disk, directory: str, cluster: str, node: str) -> tuple[list[Segment], bytes]:
    """The segments in their order, and the journal's nonce; both empty in a fresh directory. What a crash left of a
    segment that was being made is removed. Raises JournalCorrupted, FormatTooNew, WrongDirectory, OSError."""
    segments: list[Segment] = []
    nonce = b""
    try:
        for name in disk.list_directory(directory):
            path = f"{directory}/{name}"
            if name.endswith(f"{SEGMENT_SUFFIX}.new"):
                disk.unlink(path)
            elif name.endswith(SEGMENT_SUFFIX):
                handle = disk.open(path)
                segments.append(Segment(0, path, handle, disk.size(handle)))
                header = _read_header(disk, segments[-1], cluster, node)
                if nonce and header.nonce != nonce:
                    raise JournalCorrupted(path, 0, "the segment belongs to another journal than those before it")
                segments[-1].sequence, nonce = header.sequence, header.nonce
    except BaseException:
        close_segments(disk, segments)
        raise
    return segments, nonce


def _read_header(disk: Disk, segment: Segment, cluster: str, node: str) -> SegmentHeader:
    path = segment.path
    try:
        header = decode_segment_header(read_segment(disk, segment, SECTOR_BYTES))
    except BadHeader as error:
        raise JournalCorrupted(path, 0, str(error)) from error
    if header.version > FORMAT_VERSION:
        what = f"{path} has format {header.version}, this release knows up to {FORMAT_VERSION}"
        raise FormatTooNew(f"{what}; use a newer release")
    if (header.cluster, header.node) != (cluster, node):
        found, wanted = f"{header.cluster!r}/{header.node!r}", f"{cluster!r}/{node!r}"
        raise WrongDirectory(f"{path} was written by node (cluster/node) {found}, this node is {wanted}")
    if not path.endswith("/" + segment_name(header.sequence)):
        raise JournalCorrupted(path, 0, f"the file says that it is segment {header.sequence}")
    return header


def read_segment(disk: Disk, segment: Segment, size: int) -> bytes:
    """The first ``size`` bytes. A sector that the drive can't read is damage like any other: JournalCorrupted."""
    try:
        return disk.read(segment.handle, size, 0)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise JournalCorrupted(segment.path, 0, f"the disk can't read it ({error})") from error


def close_segments(disk: Disk, segments: list[Segment]) -> None:
    for segment in segments:
        disk.close(segment.handle)

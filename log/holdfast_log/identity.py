"""Whose data a directory holds, and that only one process works on it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from holdfast_log.files import Disk, read_file, write_file
from holdfast_log.types import DirectoryInUse, FormatTooNew, WrongDirectory

DIRECTORY_FORMAT = 1
NAME_BYTES_MAX = 200
"""Longest name of a cluster or node in UTF-8: both fit into the first sector of a segment."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Raises ValueError when a name is empty or longer than NAME_BYTES_MAX."""

    cluster: str
    node: str

    def __post_init__(self) -> None:
        for what, name in (("cluster", self.cluster), ("node", self.node)):
            if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
                raise ValueError(f"the {what}'s name must have 1 to {NAME_BYTES_MAX} bytes, not {name!r}")


class _Format(msgspec.Struct):
    format: int


class _Stored(msgspec.Struct):
    format: int
    cluster: str
    node: str
    partitions: int


def lock_directory(disk: Disk, directory: str) -> int:
    """Take the directory's lock; it is held until the handle is closed or the process ends."""
    disk.make_directory(directory)
    try:
        return disk.lock(f"{directory}/lock")
    except BlockingIOError as error:
        raise DirectoryInUse(f"another process uses the data directory {directory}; stop it first") from error


def claim_directory(disk: Disk, directory: str, identity: NodeIdentity, partitions: int) -> None:
    """Write the identity into a fresh directory, or check that it is the same. Raises WrongDirectory, FormatTooNew."""
    path = f"{directory}/identity.json"
    if "identity.json" not in disk.list_directory(directory):
        stored = _Stored(DIRECTORY_FORMAT, identity.cluster, identity.node, partitions)
        write_file(disk, path, msgspec.json.encode(stored))
        return
    stored = _decode(path, directory, read_file(disk, path))
    for name, found, wanted in (
        ("cluster", stored.cluster, identity.cluster),
        ("node", stored.node, identity.node),
        ("number of partitions", stored.partitions, partitions),
    ):
        if found != wanted:
            raise WrongDirectory(f"{directory} holds data of {name} {found!r}, this node is configured as {wanted!r}")


def _decode(path: str, directory: str, data: bytes) -> _Stored:
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version > DIRECTORY_FORMAT:
            what = f"{directory} has format {version}, this release knows up to {DIRECTORY_FORMAT}"
            raise FormatTooNew(f"{what}; use a newer release")
        return msgspec.json.decode(data, type=_Stored)
    except msgspec.DecodeError as error:
        raise WrongDirectory(f"{path} can't be read as a node's identity: {error}") from error

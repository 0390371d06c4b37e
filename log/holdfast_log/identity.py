"""Whose data a directory holds, and that only one process uses it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from holdfast_log.disk import Disk
from holdfast_log.types import LogError

DIRECTORY_FORMAT = 1


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    cluster: str
    node: str


class WrongDirectory(LogError):
    """The directory belongs to another node or cluster, to a newer release, or has other partitions."""


class DirectoryInUse(LogError):
    """Another process works on the directory."""


class _Stored(msgspec.Struct):
    format: int
    cluster: str
    node: str
    partitions: int


def lock_directory(directory: Path) -> int:
    """Take the directory's lock; it is held until the descriptor is closed or the process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DirectoryInUse(f"another process uses the data directory {directory}; stop it first") from error
    return descriptor


def claim_directory(directory: Path, identity: NodeIdentity, partitions: int, disk: Disk) -> None:
    """Write the identity into a fresh directory, or check that it is the same. Raises WrongDirectory."""
    path = directory / "identity.json"
    if not path.exists():
        stored = _Stored(DIRECTORY_FORMAT, identity.cluster, identity.node, partitions)
        disk.write_file(path, msgspec.json.encode(stored))
        return
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
    except msgspec.DecodeError as error:
        raise WrongDirectory(f"{path} can't be read: {error}") from error
    if stored.format > DIRECTORY_FORMAT:
        raise WrongDirectory(f"{directory} has format {stored.format}, this release knows up to {DIRECTORY_FORMAT}")
    for name, found, wanted in (
        ("cluster", stored.cluster, identity.cluster),
        ("node", stored.node, identity.node),
        ("number of partitions", stored.partitions, partitions),
    ):
        if found != wanted:
            raise WrongDirectory(f"{directory} belongs to {name} {found!r}, this node is configured as {wanted!r}")

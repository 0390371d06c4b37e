"""Tells when Python files of the app change.

Directories are watched one by one and not as a tree, because the data directory usually lies among them and changes all
the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from watchfiles import Change, awatch

DIRECTORIES_MAX = 1_000
"""More than that is not an app; only the first are watched."""
_IGNORED = frozenset({"__pycache__", "node_modules", "site-packages", "dist", "build"})


async def watch(root: Path, changed: Callable[[list[str]], None]) -> None:
    """Call ``changed`` with the names of the files, until cancelled."""
    while True:
        directories = source_directories(root)
        stop = asyncio.Event()
        async for changes in awatch(*directories, recursive=False, watch_filter=_is_source, stop_event=stop):
            files = [path for kind, path in changes if path.endswith(".py")]
            if files:
                changed(sorted({str(Path(path).name) for path in files}))
            if source_directories(root) != directories:
                stop.set()  # there is a new one, or one is gone: begin again


def source_directories(root: Path) -> list[Path]:
    """``root`` and what lies below it, without hidden directories, virtual environments and the like."""
    found: list[Path] = []
    pending = [root]
    while pending and len(found) < DIRECTORIES_MAX:
        directory = pending.pop()
        found.append(directory)
        pending.extend(_below(directory))
    return sorted(found)


def _below(directory: Path) -> Iterable[Path]:
    try:
        children = [child for child in directory.iterdir() if child.is_dir() and not child.is_symlink()]
    except OSError:
        return []  # gone, or not ours to read
    return [child for child in children if not _is_foreign(child)]


def _is_foreign(directory: Path) -> bool:
    return directory.name.startswith(".") or directory.name in _IGNORED or (directory / "pyvenv.cfg").exists()


def _is_source(change: Change, path: str) -> bool:
    """A new directory may hold files that belong to the app."""
    return path.endswith(".py") or (change is not Change.modified and "." not in Path(path).name)

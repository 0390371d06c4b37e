"""Keeps the journal in segments: prepares the next, removes dead ones, and empties old ones that are mostly dead.

When no further segment can be made because the disk is full, it says so (`check_room`) while there is still room in
those that are there, and tries again until there is space.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from holdfast_log.flusher import Submit
from holdfast_log.options import LogOptions
from holdfast_log.record import FLAG_MOVED, RECORD_HEADER_BYTES, Record
from holdfast_log.types import Entry, LogFull

if TYPE_CHECKING:
    from holdfast_log.entry_files import Place
    from holdfast_log.journal import Journal
    from holdfast_log.segment import Segment

logger = logging.getLogger(__name__)

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
"""No room for a further file now, but nothing is broken."""

ROOM_BYTES_MAX = 256 * 1024
"""Kept free in the last segment of a full disk, for elections and trim points of later starts; an eighth at most."""


class Housekeeper:
    def __init__(
        self,
        journal: Journal,
        submit: Submit,
        later: Callable[[float, Callable[[], None]], object],
        options: LogOptions,
        *,
        on_segment: Callable[[], None],
        on_moved: Callable[[list[Record]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """``submit`` runs jobs in a thread of its own, in order; so what is read there is read before it is removed.
        ``on_segment``: a segment was prepared. ``on_moved``: records to write."""
        self.full: str | None = None
        """Why no segment can be made, if so."""
        self.stopped = False
        self._journal = journal
        self._submit = submit
        self._later = later
        self._options = options
        self._on_segment = on_segment
        self._on_moved = on_moved
        self._on_failure = on_failure
        self._preparing = False
        self._rewriting: Segment | None = None
        self._room_bytes = min(ROOM_BYTES_MAX, options.segment_bytes // 8)

    def look(self) -> None:
        """See what is to be done; after each flush."""
        if self.stopped:
            return
        if self._journal.needs_segment() and self.full is None:
            self._prepare()
        dead = self._journal.take_dead()
        if dead:
            self._submit(lambda: self._journal.remove(dead), self._removed)
            if self._rewriting in dead:
                self._rewriting = None
        if self._rewriting is None:
            self._rewrite()

    def check_room(self, payload_bytes: int, gathered_bytes: int) -> None:
        """Raises LogFull when the disk is full and the segments that are there run out."""
        if self.full is None:
            return
        if self._journal.room() - gathered_bytes < payload_bytes + RECORD_HEADER_BYTES + self._room_bytes:
            raise LogFull(f"the disk of the log is full: {self.full}; nothing new is taken until there is space")

    # ------------------------------------------------------------ the next segment

    def _prepare(self) -> None:
        if not self._preparing and not self.stopped:
            self._preparing = True
            plan = self._journal.plan_segment()
            self._submit(lambda: self._journal.prepare(plan), self._prepared)

    def _prepared(self, segment: Segment | None, error: BaseException | None) -> None:
        self._preparing = False
        if segment is not None:
            if self.full is not None:
                logger.warning("the disk of the log has space again: proposals are taken")
            self.full = None
            self._journal.adopt(segment)
            self._on_segment()
        elif isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            if self.full is None:
                logger.error("the disk of the log is full: %s; proposals are refused soon", error)
            self.full = str(error)
            self._later(self._options.full_retry_seconds, self._prepare)
        elif error is not None:
            self._on_failure(error)

    # ------------------------------------------------------------ old segments

    def _removed(self, _: None, error: BaseException | None) -> None:
        if error is not None:
            self._on_failure(error)

    def _rewrite(self) -> None:
        options = self._options
        segment = self._journal.mostly_dead(options.rewrite_segments_behind, options.rewrite_live_share_max)
        if segment is None or self.full is not None:
            return
        self._rewriting = segment
        places = self._journal.places_in(segment)
        self._submit(lambda: self._journal.fetch(places), lambda entries, error: self._moved(places, entries, error))

    def _moved(self, places: Sequence[Place], entries: list[Entry] | None, error: BaseException | None) -> None:
        if entries is None:
            assert error is not None
            self._on_failure(error)
            return
        if self.stopped:
            return
        self._on_moved(
            [
                Record(place.partition, entry.kind, entry.term, entry.index, entry.payload, FLAG_MOVED)
                for place, entry in zip(places, entries, strict=True)
            ]
        )

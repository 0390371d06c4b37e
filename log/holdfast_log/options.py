"""The limits of a node's log."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
SEGMENT_BYTES_MIN = 4096


@dataclass(frozen=True, slots=True)
class LogOptions:
    segment_bytes: int = 64 * MIB
    """Size of a segment. Larger ones are made for what doesn't fit, a big entry for instance."""

    flushes_in_flight_max: int = 2
    """On their way to the disk at a time: while one is synced, the next one waits behind it, so that the disk never
    waits for the event loop. More would only make the batches smaller."""

    flush_bytes_max: int = 16 * MIB
    """A flush takes no further entries above it. With the largest entry on top it still fits into a segment."""

    uncommitted_bytes_soft: int = 4 * MIB
    """Above it a group says that it is not writable."""

    uncommitted_bytes_max: int = 256 * MIB
    """Above it proposals are refused (Overloaded). They are in memory until they are committed."""

    replay_batch_bytes: int = 8 * MIB
    """Read back and handed over at once after a restart."""

    disk_reserve_bytes: int = 32 * MIB
    """Left free on the disk when a segment is made, for the checkpoints of the tables: they are what frees segments."""

    full_retry_seconds: float = 0.5
    """How often a node whose disk was full tries to make the next segment again."""

    rewrite_segments_behind: int = 4
    """Live entries of a segment at least so many behind the one that is written are moved to the journal's end..."""

    rewrite_live_share_max: float = 0.125
    """...when they are at most this share of it."""

    def __post_init__(self) -> None:
        if self.segment_bytes < SEGMENT_BYTES_MIN:
            raise ValueError(f"segment_bytes must be at least {SEGMENT_BYTES_MIN}, not {self.segment_bytes}")
        if self.flushes_in_flight_max < 1:
            raise ValueError(f"flushes_in_flight_max must be at least 1, not {self.flushes_in_flight_max}")

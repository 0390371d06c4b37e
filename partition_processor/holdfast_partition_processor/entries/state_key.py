"""Names of state, as get, set and clear check them."""

from __future__ import annotations

from holdfast_partition_processor.frame_body import check_length

STATE_KEY_BYTES_MAX = 1_024
"""All names of an object are sent with the start of each attempt."""


def check(name: str, key: bytes) -> None:
    """Raises InvalidFrame."""
    check_length(name, "the state key", len(key), STATE_KEY_BYTES_MAX)

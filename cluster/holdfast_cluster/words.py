"""Values as an operator reads them: short, printable, with their size when they are not shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from holdfast_partition_processor.command import Failure, Target
from holdfast_proto import protocol_pb2 as pb

DETAIL_CHARACTERS_MAX = 200
LISTED_MAX = 5


def shortened(text: str, characters_max: int = DETAIL_CHARACTERS_MAX) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def value_words(value: bytes) -> str:
    """The value itself if it is short text (JSON nearly always is), its size otherwise."""
    if not value:
        return "(empty)"
    if len(value) > 4 * DETAIL_CHARACTERS_MAX:
        begin = _text(value[:DETAIL_CHARACTERS_MAX], cut=True)
        size = f"({len(value):,} bytes)"
        return size if begin is None else f"{size} {begin}"
    text = _text(value)
    return f"({len(value):,} bytes)" if text is None else text


def _text(value: bytes, *, cut: bool = False) -> str | None:
    """None when it is not printable. A value that was ``cut`` may end within a character."""
    try:
        text = value.decode(errors="ignore" if cut else "strict")
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\n\r\t" for character in text) else None


def failure_words(failure: Failure | pb.Failure) -> str:
    return f"failed with {failure.code}: {failure.message}"


def target_words(service: str, handler: str, key: str | None) -> str:
    """As `holdfast call` takes it."""
    return f"{service}/{key}/{handler}" if key else f"{service}/{handler}"


def invoked_words(target: Target) -> str:
    return target_words(target.service, target.handler, target.key)


def time_words(milliseconds: int) -> str:
    """A moment in UTC, to the millisecond. Whatever a clock or a handler came up with is shown somehow."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds:,} ms after 1970"
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{milliseconds % 1000:03} UTC"


def listed(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    shown = ", ".join(names[:LISTED_MAX])
    return shown if len(names) <= LISTED_MAX else f"{shown} and {len(names) - LISTED_MAX} more"

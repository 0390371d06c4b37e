"""Values to bytes and back, by type hint: JSON for everything but bytes."""

from __future__ import annotations

import functools
from typing import Any

import msgspec


def encode(value: Any) -> bytes:
    """Raises TypeError when ``value`` has no JSON form."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    dump = getattr(value, "model_dump_json", None)
    if dump is not None:
        text: str = dump()
        return text.encode()
    return msgspec.json.encode(value, enc_hook=_pydantic)


def decode(data: bytes, kind: Any) -> Any:
    """Raises ValueError naming the field when ``data`` does not fit ``kind``."""
    if kind is bytes:
        return data
    if not data and (kind is None or kind is type(None) or kind is Any or _optional(kind)):
        return None
    if hasattr(kind, "model_validate_json"):
        return kind.model_validate_json(data)
    return _decoder(kind).decode(data)


def content_type(kind: Any) -> str:
    return "application/octet-stream" if kind is bytes else "application/json"


def _pydantic(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"a value of type {type(value).__name__} can't be written as JSON")
    return dump(mode="json")


def _build(kind: Any, value: Any) -> Any:
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    raise TypeError(f"JSON can't be read as {kind!r}")


def _optional(kind: Any) -> bool:
    return type(None) in getattr(kind, "__args__", ())


@functools.lru_cache(maxsize=4096)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(Any if kind is None else kind, dec_hook=_build)

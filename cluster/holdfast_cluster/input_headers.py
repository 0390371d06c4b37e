"""The headers of a request as a handler sees them: the beginning of the body of its Input command.

Serialised protobuf messages may be joined: each header becomes an InputCommandMessage with only that one, once, and is
remembered, because most headers of most requests are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from holdfast_proto import protocol_pb2 as pb

NOT_FORWARDED = (b"connection", b"host", b"idempotency-key", b"idempotency-expires")
PATH_HEADER = "x-restate-ingress-path"
REMEMBERED_MAX = 4_096
REMEMBERED_BYTES_MAX = 256


class InputHeaders:
    def __init__(self) -> None:
        self._encoded: dict[tuple[bytes, bytes], bytes] = {}

    def of_http(self, headers: Mapping[bytes, bytes], target: bytes) -> bytes:
        """``target``: path and query, which the handler gets as a header of its own."""
        encoded = self._encoded
        parts = []
        for item in headers.items():
            known = encoded.get(item)
            parts.append(self._encode(item) if known is None else known)
        path = (b"", target)
        known = encoded.get(path)
        parts.append(self._encode(path) if known is None else known)
        return b"".join(parts)

    def _encode(self, item: tuple[bytes, bytes]) -> bytes:
        name, value = item
        if name in NOT_FORWARDED:
            encoded = b""
        else:
            encoded = encode_header(_text(name) if name else PATH_HEADER, _text(value))
        if len(encoded) <= REMEMBERED_BYTES_MAX:
            if len(self._encoded) >= REMEMBERED_MAX:
                self._encoded.clear()
            self._encoded[item] = encoded
        return encoded


def of_grpc(headers: Iterable[tuple[str, str]]) -> bytes:
    return b"".join([encode_header(name, value) for name, value in headers])


def encode_header(name: str, value: str) -> bytes:
    return pb.InputCommandMessage(headers=[pb.Header(key=name, value=value)]).SerializeToString()


def _text(raw: bytes) -> str:
    """HTTP says nothing about the encoding of headers; what is not UTF-8 is taken as Latin-1, which is never wrong."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")

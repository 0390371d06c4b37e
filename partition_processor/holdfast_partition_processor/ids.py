"""Ids of invocations and how they are routed.

::

    invocation id, 24 bytes:  | partition key, u64 | 16 bytes that make it unique |

Everything about a key of a virtual object or workflow has the partition key of that target, so it lives in one
partition. The 16 bytes are time-ordered for a fresh invocation, and a hash for a call that must find the same
invocation again (workflow run, idempotency key): a look-up then needs no index.
"""

from __future__ import annotations

import hashlib

from holdfast_partition_processor.command import HandlerType, Target

PARTITION_KEY_BYTES = 8
UUID_BYTES = 16


def partition_of(partition_key: int, partitions: int) -> int:
    """Partitions own equal ranges of the 64-bit key space."""
    return partition_key * partitions >> 64


def partition_of_id(invocation_id: bytes, partitions: int) -> int:
    return int.from_bytes(invocation_id[:PARTITION_KEY_BYTES], "big") * partitions >> 64


def partition_key_of(service: str, key: str) -> int:
    """Where the virtual object or workflow ``service``/``key`` lives."""
    return int.from_bytes(_hash(8, b"key", service, key), "big")


def invocation_id_of(target: Target, idempotency_key: str | None, fresh: bytes) -> bytes:
    """The id for a new call to ``target``. ``fresh`` is 24 bytes: a random partition key, used for an unkeyed
    target, and a time-ordered unique part, used unless the call must be found again by its coordinates."""
    if target.key is not None:
        routed = partition_key_of(target.service, target.key).to_bytes(8, "big")
    elif idempotency_key is not None:
        routed = _hash(8, b"idempotent", target.service, target.handler, idempotency_key)
    else:
        return fresh
    if target.type is HandlerType.WORKFLOW_RUN:
        return routed + _hash(16, b"wf", target.service, target.key or "")
    if idempotency_key is not None:
        return routed + _hash(16, b"ik", target.service, target.key or "", target.handler, idempotency_key)
    return routed + fresh[8:]


def workflow_id(name: str, key: str) -> bytes:
    """The id of the one run of a workflow key."""
    return invocation_id_of(Target(name, "", key, HandlerType.WORKFLOW_RUN), None, b"")


def idempotent_id(service: str, key: str | None, handler: str, idempotency_key: str) -> bytes:
    """The id of the call with that idempotency key."""
    kind = HandlerType.SERVICE if key is None else HandlerType.EXCLUSIVE
    return invocation_id_of(Target(service, handler, key, kind), idempotency_key, b"")


def derived_fresh_id(caller: bytes, completion_id: int, incarnation: int = 0) -> bytes:
    """The 24 bytes for a call made by invocation ``caller``: a function of the log alone, so that every replica
    that applies the call gives it the same id. ``incarnation`` is the caller's: when it was purged and begins anew
    under the same id, its calls are others. The unique part keeps the caller's time order."""
    digest = _hash(18, b"call", caller.hex(), str(completion_id), str(incarnation))
    return digest[:8] + caller[8:14] + digest[8:18]


def _hash(size: int, domain: bytes, *parts: str) -> bytes:
    digest = hashlib.blake2b(domain, digest_size=size)
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.digest()

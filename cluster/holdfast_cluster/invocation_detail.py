"""One invocation with its journal, as much of it as one answer holds."""

from __future__ import annotations

from holdfast_cluster import journal_view
from holdfast_cluster.admin_error import InvalidRequest
from holdfast_cluster.invocation_view import invocation_message, waiting_in_words
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.tables import Storage
from holdfast_proto import admin_pb2
from holdfast_proto.framing import HEADER_BYTES

ENTRIES_MAX = 1_000
ENTRY_BYTES_MAX = 64 * 1024
"""Bodies above this are described but not shown."""
ANSWER_BYTES_MAX = 2 * 1024 * 1024
"""Bodies per answer; the default limit of gRPC clients is 4 MiB."""
OUTPUT_BYTES_MAX = 1024 * 1024


def invocation_detail(
    storage: Storage, partition: int, row: Invocation, request: admin_pb2.GetInvocationRequest
) -> admin_pb2.InvocationDetail:
    """Raises InvalidRequest."""
    if request.page_size > ENTRIES_MAX:
        raise InvalidRequest(f"page_size is {request.page_size:,}, the limit is {ENTRIES_MAX:,}")
    detail = admin_pb2.InvocationDetail(invocation=invocation_message(row, partition, waiting_in_words(row, storage)))
    if row.status is Status.COMPLETED and row.failure is None:
        output = storage.get(t.OUTPUT, b"", t.sortable_id(row.id)) or b""
        detail.output = output if len(output) <= OUTPUT_BYTES_MAX else b""
    _add_journal(detail, storage, row, request.journal_from, request.page_size or ENTRIES_MAX)
    return detail


def _add_journal(detail: admin_pb2.InvocationDetail, storage: Storage, row: Invocation, first: int, size: int) -> None:
    def is_completed(completion_id: int) -> bool:
        return storage.get(t.COMPLETED_COMMANDS, row.id, completion_id.to_bytes(4, "big")) is not None

    left = ANSWER_BYTES_MAX
    for sub, frame in storage.scan(t.JOURNAL, row.id, first.to_bytes(4, "big"), size + 1):
        index = int.from_bytes(sub, "big")
        shown_bytes = len(frame.raw) if len(frame.raw) - HEADER_BYTES <= ENTRY_BYTES_MAX else 0
        if len(detail.journal) == size or (detail.journal and shown_bytes > left):
            detail.next_journal_from = index
            return
        entry = journal_view.entry(index, frame.raw, frame.appended_ms, is_completed)
        if not shown_bytes:
            entry.raw = b""
        left -= shown_bytes
        detail.journal.append(entry)

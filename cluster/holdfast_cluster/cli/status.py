"""``holdfast status``"""

from __future__ import annotations

import click

from holdfast_cluster.cli.connection import connect
from holdfast_cluster.cli.durations import now_ms, span_words
from holdfast_cluster.cli.options import connected
from holdfast_cluster.cli.output import document_of, print_fields, print_json, print_table


@click.command()
@connected
def status(address: str, as_json: bool) -> None:
    """Show the node and its partitions.

    "Not applied" counts log entries that are committed but not yet in the tables, "not in checkpoint" those that would
    be applied again after a restart. Exit code 4 when the node does not answer.

    \b
    Example:
      holdfast status --address 127.0.0.1:8081
    """
    from holdfast_proto import admin_pb2

    with connect(address) as node:
        answer = node.ask(node.admin.GetStatus, admin_pb2.GetStatusRequest())
    if as_json:
        print_json(document_of(answer))
        return
    print_fields(
        [
            ("node", f"{answer.node} of cluster {answer.cluster}"),
            ("version", answer.version),
            ("up", span_words(now_ms() - answer.started_at_ms) if answer.started_at_ms else ""),
        ]
    )
    print_table(
        ["partition>", "role", "term>", "log ends at>", "not applied>", "not in checkpoint>", "running>"],
        [_row(partition) for partition in answer.partitions],
        empty="this node has no partitions",
    )


def _row(partition: object) -> list[str]:
    from holdfast_proto import admin_pb2

    assert isinstance(partition, admin_pb2.PartitionStatus)
    numbers = (
        partition.term,
        partition.last_index,
        partition.commit_index - partition.applied_index,
        partition.applied_index - partition.durable_index,
        partition.running_invocations,
    )
    role = "leader" if partition.leader else "follower"
    return [str(partition.partition), role, *(f"{number:,}" for number in numbers)]

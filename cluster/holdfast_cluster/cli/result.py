"""The end of an invocation as `call` and `invocations attach` print it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from holdfast_cluster.cli.failure import FAILED, CommandFailed
from holdfast_cluster.cli.output import document_of, print_json, value_of

if TYPE_CHECKING:
    from holdfast_proto import ingress_pb2


def finish(answer: ingress_pb2.InvokeResponse, as_json: bool) -> None:
    """Print the result, byte by byte. Raises CommandFailed when the invocation failed."""
    failed = answer.WhichOneof("result") == "failure"
    if as_json:
        value = None if failed else value_of(answer.value)
        failure = document_of(answer.failure) if failed else None
        print_json({"invocation_id": answer.invocation_id, "value": value, "failure": failure})
    elif not failed:
        click.echo(answer.value, nl=sys.stdout.isatty() or bool(answer.value))
    if failed:
        words = f"failed with {answer.failure.code}: {answer.failure.message}"
        raise CommandFailed(f"invocation {answer.invocation_id} {words}", FAILED)

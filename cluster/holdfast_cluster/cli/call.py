"""``holdfast call``"""

from __future__ import annotations

import click

from holdfast_cluster.cli.connection import connect
from holdfast_cluster.cli.options import connected, idempotent, timeout_option
from holdfast_cluster.cli.result import finish
from holdfast_cluster.cli.target import request_of


@click.command()
@click.argument("target")
@click.argument("body", required=False)
@idempotent
@timeout_option("Give up waiting after this time, like 90s; the invocation goes on.")
@connected
def call(
    target: str,
    body: str | None,
    headers: tuple[str, ...],
    idempotency_key: str | None,
    raw: bool,
    timeout_s: float | None,
    address: str,
    as_json: bool,
) -> None:
    """Call a handler and wait for its result.

    TARGET is SERVICE/HANDLER, or SERVICE/KEY/HANDLER for virtual objects and workflows. BODY is JSON; "-" reads it from
    stdin, "@path" from a file. The result goes to stdout; when the invocation fails, the failure goes to stderr and the
    exit code is 1.

    \b
    Examples:
      holdfast call greeter/greet '"Ada"'
      holdfast call counter/apples/add 5
      holdfast call episode/e-17/run @episode.json --timeout 10m
    """
    request = request_of(target, body, headers, idempotency_key, raw)
    with connect(address) as node:
        answer = node.ask(node.ingress.Invoke, request, timeout_s)
    finish(answer, as_json)

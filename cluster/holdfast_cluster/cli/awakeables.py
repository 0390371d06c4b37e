"""``holdfast awakeables``"""

from __future__ import annotations

import click

from holdfast_cluster.cli.connection import connect
from holdfast_cluster.cli.options import connected
from holdfast_cluster.cli.output import print_json
from holdfast_cluster.cli.target import body_bytes


@click.group()
def awakeables() -> None:
    """Complete awakeables that handlers wait for.

    A handler makes one with ctx.awakeable(...) and hands out its id (sign_1...). It is completed once; what comes after
    is ignored.

    \b
    Examples:
      holdfast awakeables resolve sign_1abc '{"approved": true}'
      holdfast awakeables reject sign_1abc "not today"
    """


@awakeables.command()
@click.argument("awakeable_id", metavar="ID")
@click.argument("body", required=False)
@click.option("--raw", is_flag=True, help="Send BODY as it is, it need not be JSON.")
@connected
def resolve(awakeable_id: str, body: str | None, raw: bool, address: str, as_json: bool) -> None:
    """Complete the awakeable ID with a value: BODY is JSON, "-" reads stdin, "@path" a file.

    \b
    Example:
      holdfast awakeables resolve sign_1abc '"Ada"'
    """
    from holdfast_proto import ingress_pb2

    value = body_bytes(body, raw)
    with connect(address) as node:
        request = ingress_pb2.ResolveAwakeableRequest(awakeable_id=awakeable_id, value=value)
        node.ask(node.ingress.ResolveAwakeable, request)
    _done("resolved", awakeable_id, as_json)


@awakeables.command()
@click.argument("awakeable_id", metavar="ID")
@click.argument("message")
@connected
def reject(awakeable_id: str, message: str, address: str, as_json: bool) -> None:
    """Fail the awakeable ID: the handler that waits for it gets a terminal error with MESSAGE.

    \b
    Example:
      holdfast awakeables reject sign_1abc "not today"
    """
    from holdfast_proto import ingress_pb2

    with connect(address) as node:
        request = ingress_pb2.RejectAwakeableRequest(awakeable_id=awakeable_id, message=message)
        node.ask(node.ingress.RejectAwakeable, request)
    _done("rejected", awakeable_id, as_json)


def _done(how: str, awakeable_id: str, as_json: bool) -> None:
    if as_json:
        print_json({"awakeable_id": awakeable_id, "outcome": how})
    else:
        click.echo(f"{how} {awakeable_id}")

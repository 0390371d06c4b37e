"""``holdfast send``"""

from __future__ import annotations

import click

from holdfast_cluster.cli.connection import connect
from holdfast_cluster.cli.durations import DurationType, local_time
from holdfast_cluster.cli.options import connected, idempotent
from holdfast_cluster.cli.output import print_json
from holdfast_cluster.cli.target import request_of


@click.command()
@click.argument("target")
@click.argument("body", required=False)
@click.option("--delay", "delay_s", type=DurationType(), default="0s", help="Start it so much later, like 2h 30m.")
@idempotent
@connected
def send(
    target: str,
    body: str | None,
    delay_s: float,
    headers: tuple[str, ...],
    idempotency_key: str | None,
    raw: bool,
    address: str,
    as_json: bool,
) -> None:
    """Start an invocation without waiting for its result.

    Returns as soon as it is durable. `holdfast invocations attach ID` waits for the result. TARGET and BODY are those
    of `holdfast call`.

    \b
    Examples:
      holdfast send greeter/greet '"Ada"'
      holdfast send reminder/ada/remind '"tea"' --delay 2h
    """
    request = request_of(target, body, headers, idempotency_key, raw)
    from holdfast_proto import ingress_pb2

    with connect(address) as node:
        message = ingress_pb2.SendRequest(request=request, delay_ms=round(delay_s * 1000))
        answer = node.ask(node.ingress.Send, message)
    if as_json:
        print_json(
            {
                "invocation_id": answer.invocation_id,
                "previously_accepted": answer.previously_accepted,
                "execution_time_ms": answer.execution_time_ms or None,
            }
        )
        return
    click.echo(answer.invocation_id)
    if answer.previously_accepted:
        click.echo("it was accepted before; nothing new was started", err=True)
    elif answer.execution_time_ms:
        click.echo(f"starts at {local_time(answer.execution_time_ms)}", err=True)

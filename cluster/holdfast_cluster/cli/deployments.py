"""``holdfast deployments``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cluster.cli.connection import Connection, connect
from holdfast_cluster.cli.durations import local_time
from holdfast_cluster.cli.failure import FAILED, USAGE, CommandFailed
from holdfast_cluster.cli.options import confirmed, connected
from holdfast_cluster.cli.output import document_of, enum_name, print_fields, print_json, print_table

if TYPE_CHECKING:
    from holdfast_proto import admin_pb2


@click.group()
def deployments() -> None:
    """Register, list, show and remove deployments.

    A deployment is an endpoint (a process that runs handlers, see holdfast.serve) and the services that it was found to
    run. New invocations go to the latest revision of a service, those under way stay with their deployment.

    \b
    Examples:
      holdfast deployments register 127.0.0.1:9080
      holdfast deployments list
    """


@deployments.command()
@click.argument("endpoint")
@click.option("--force", is_flag=True, help="Ask the endpoint again although it is known; the deployment keeps its id.")
@click.option("--breaking", is_flag=True, help="Accept that a service changes its type.")
@click.option("--dry-run", is_flag=True, help="Only show what would be.")
@click.option("--metadata", "-m", multiple=True, metavar="NAME=VALUE", help="A note kept with it; repeatable.")
@connected
def register(
    endpoint: str,
    force: bool,
    breaking: bool,
    dry_run: bool,
    metadata: tuple[str, ...],
    address: str,
    as_json: bool,
) -> None:
    """Ask the endpoint at ENDPOINT (host:port) what it runs, and send new invocations there.

    The node dials ENDPOINT, so it must be an address that the node can reach. An address that is known already stays as
    it is unless --force is given.

    \b
    Examples:
      holdfast deployments register 127.0.0.1:9080
      holdfast deployments register orders-v2.internal:9080 -m commit=1f3c
      holdfast deployments register 127.0.0.1:9080 --force --dry-run
    """
    from holdfast_proto import admin_pb2

    request = admin_pb2.RegisterDeploymentRequest(
        address=endpoint, force=force, breaking=breaking, dry_run=dry_run, metadata=dict(map(_pair, metadata))
    )
    with connect(address) as node:
        answer = node.ask(node.admin.RegisterDeployment, request)
    if as_json:
        print_json(document_of(answer) | {"dry_run": dry_run})
        return
    outcome = enum_name(admin_pb2.RegisterDeploymentResponse.Outcome.DESCRIPTOR, answer.outcome)
    prefix = "would be " if dry_run and outcome != "unchanged" else ""
    click.echo(f"{prefix}{outcome}: {answer.deployment.id} at {answer.deployment.address}")
    for service in answer.deployment.services:
        click.echo(f"  {service.name}, revision {service.revision}")
    for note in answer.notes:
        click.echo(f"note: {note}", err=True)


@deployments.command("list")
@connected
def list_deployments(address: str, as_json: bool) -> None:
    """List deployments, the oldest first. A service that is not the latest of its name stands in brackets.

    \b
    Example:
      holdfast deployments list --json
    """
    from holdfast_proto import admin_pb2

    with connect(address) as node:
        answer = node.ask(node.admin.ListDeployments, admin_pb2.ListDeploymentsRequest())
    if as_json:
        print_json(document_of(answer))
        return
    print_table(
        ["id", "address", "registered", "sdk", "services"],
        [
            [item.id, item.address, local_time(item.created_at_ms), item.sdk, ", ".join(map(_revision, item.services))]
            for item in answer.deployments
        ],
        empty="no deployments; add one with `holdfast deployments register HOST:PORT`",
    )


@deployments.command()
@click.argument("deployment_id", metavar="ID")
@connected
def show(deployment_id: str, address: str, as_json: bool) -> None:
    """Show the deployment ID.

    \b
    Example:
      holdfast deployments show dp_1b2c3d4e5f607182
    """
    with connect(address) as node:
        found = _get(node, deployment_id)
    if as_json:
        print_json(document_of(found))
        return
    print_fields(
        [
            ("id", found.id),
            ("address", found.address),
            ("registered", local_time(found.created_at_ms)),
            ("sdk", found.sdk),
            ("protocol", f"{found.min_protocol_version} to {found.max_protocol_version}"),
            *((f"metadata {name}", value) for name, value in sorted(found.metadata.items())),
        ]
    )
    print_table(
        ["service", "revision>", "latest"],
        [[item.name, str(item.revision), "yes" if item.latest else "no"] for item in found.services],
        empty="no services",
    )


@deployments.command()
@click.argument("deployment_id", metavar="ID")
@click.option("--force", is_flag=True, help="Also while it is in use; invocations pinned to it can't go on then.")
@confirmed
@connected
def remove(deployment_id: str, force: bool, yes: bool, address: str, as_json: bool) -> None:
    """Remove the deployment ID: no invocation goes there any more.

    Refused while it is the latest of a service or invocations are pinned to it, unless --force is given.

    \b
    Example:
      holdfast deployments remove dp_1b2c3d4e5f607182
    """
    from holdfast_proto import admin_pb2

    with connect(address) as node:
        found = _get(node, deployment_id)
        if (
            force
            and not yes
            and not click.confirm(f"Remove {found.id} at {found.address}, even if it is in use?", err=True)
        ):
            raise CommandFailed("nothing was removed", FAILED)
        request = admin_pb2.RemoveDeploymentRequest(id=deployment_id, force=force)
        node.ask(node.admin.RemoveDeployment, request)
    if as_json:
        print_json({"id": deployment_id, "outcome": "removed"})
    else:
        click.echo(f"removed {deployment_id}")


def _get(node: Connection, deployment_id: str) -> admin_pb2.Deployment:
    from holdfast_proto import admin_pb2

    found = node.ask(node.admin.GetDeployment, admin_pb2.GetDeploymentRequest(id=deployment_id))
    assert isinstance(found, admin_pb2.Deployment)
    return found


def _revision(item: admin_pb2.ServiceRevision) -> str:
    text = f"{item.name} {item.revision}"
    return text if item.latest else f"({text})"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandFailed(f"metadata {text!r} is not of the form NAME=VALUE", USAGE)
    return name, value

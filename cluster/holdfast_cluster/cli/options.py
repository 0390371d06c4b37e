"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from holdfast_cluster.cli.durations import DurationType

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ADDRESS = "127.0.0.1:8081"


def connected(function: F) -> F:
    """``--address`` and ``--json``, passed on as ``address`` and ``as_json``."""
    function = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)
    return click.option(
        "--address",
        envvar="HOLDFAST_ADDRESS",
        default=DEFAULT_ADDRESS,
        show_default=True,
        metavar="HOST:PORT",
        help="gRPC address of the node [env HOLDFAST_ADDRESS].",
    )(function)


def confirmed(function: F) -> F:
    return click.option("--yes", "-y", is_flag=True, help="Do it without asking.")(function)


def idempotent(function: F) -> F:
    """What a request may carry: ``headers`` (pairs), ``idempotency_key``, ``raw``."""
    function = click.option("--raw", is_flag=True, help="Send BODY as it is, it need not be JSON.")(function)
    function = click.option(
        "--header", "-H", "headers", multiple=True, metavar="NAME=VALUE", help="A header for the handler; repeatable."
    )(function)
    return click.option(
        "--idempotency-key", metavar="TEXT", help="The same key again gives the same result, not another run."
    )(function)


def timeout_option(help: str, default: str | None = None) -> Callable[[F], F]:
    return click.option("--timeout", "timeout_s", type=DurationType(), default=default, help=help)


def node_settings(function: F) -> F:
    """What `server` and `dev` know of a node's configuration: ``config_file``, ``port_base``, ``log_level`` and
    ``settings``."""
    options = [
        click.option("--config", "-c", "config_file", metavar="FILE", help="A TOML file with settings."),
        click.option(
            "--port-base",
            type=int,
            metavar="N",
            help="Listen on N (HTTP), N+1 (gRPC) and N+2 (admin); 0: any free ports.",
        ),
        click.option(
            "--log-level", type=click.Choice(("debug", "info", "warning", "error")), help="Least severe shown."
        ),
        click.option("--set", "settings", multiple=True, metavar="SECTION.NAME=VALUE", help="Any setting; repeatable."),
    ]
    for option in reversed(options):
        function = option(function)
    return function

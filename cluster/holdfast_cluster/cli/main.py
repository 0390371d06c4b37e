"""``holdfast``: the commands by name.

A command's module is imported when it is used; its line in the help stands here.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

COMMANDS: dict[str, str] = {
    "dev": "Run a node and your app for development; reloads on change.",
    "server": "Run a node.",
    "call": "Call a handler and wait for its result.",
    "send": "Start an invocation without waiting for its result.",
    "invocations": "List, look into, cancel, kill and purge invocations.",
    "services": "List and show services.",
    "deployments": "Register, list, show and remove deployments.",
    "state": "Read and edit the state of virtual objects and workflows.",
    "awakeables": "Complete awakeables that handlers wait for.",
    "status": "Show the node and its partitions.",
    "config": "List the settings of a node.",
}

EPILOG = """\b
Exit codes: 0 done, 1 what was asked failed, 2 wrong usage, 3 not found,
4 the node can't be reached or is not ready.

\b
Examples:
  holdfast dev app.py
  holdfast call greeter/greet '"Ada"'
  holdfast invocations list --status running
"""


class LazyCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"holdfast_cluster.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = get_close_matches(name, COMMANDS, n=2)
            ctx.fail(f"there is no command {name!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyCommands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version("holdfast"), prog_name="holdfast", message="%(prog)s %(version)s")
def cli() -> None:
    """Durable execution for ordinary Python functions.

    Commands that ask a node take --address (or HOLDFAST_ADDRESS; default 127.0.0.1:8081, the node's gRPC port) and
    --json, which prints one JSON document on stdout.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the ``holdfast`` script. Never returns."""
    return cli.main(args=arguments, prog_name="holdfast")

"""``holdfast dev``"""

from __future__ import annotations

import os

import click

from holdfast_cluster.cli.options import node_settings

DATA_DIR = ".holdfast"
STOP_GRACE = "500ms"
"""Clients that wait are told to come back; whoever pressed Ctrl-C should not wait."""


@click.command()
@click.argument("app")
@click.option("--data-dir", metavar="DIRECTORY", help=f"Where journal and tables are kept.  [default: {DATA_DIR}]")
@click.option("--ephemeral", is_flag=True, help="Keep the data in a temporary directory that is removed at the end.")
@node_settings
def dev(
    app: str,
    data_dir: str | None,
    ephemeral: bool,
    config_file: str | None,
    port_base: int | None,
    log_level: str | None,
    settings: tuple[str, ...],
) -> None:
    """Run a node and your app together, for development.

    APP is a file that calls serve([...]) when it is run, or FILE:ATTRIBUTE or MODULE:ATTRIBUTE, where the attribute
    holds a service or a list of services. The app runs in a process of its own, is registered by itself, and is started
    again when one of its Python files changes or when it crashes. Invocations outlive all of that, and the end of this
    command too: start it again and they go on.

    \b
    Examples:
      holdfast dev app.py
      holdfast dev shop.services:all_services --port-base 9000
      holdfast dev app.py --ephemeral
    """
    from tempfile import TemporaryDirectory

    from holdfast_cluster.cli.app_process import AppTarget
    from holdfast_cluster.cli.failure import USAGE, CommandFailed

    if ephemeral and data_dir is not None:
        raise CommandFailed("--ephemeral and --data-dir exclude each other", USAGE)
    target = AppTarget.of(app)
    if not ephemeral:
        _run(target, data_dir or DATA_DIR, config_file, port_base, log_level, settings)
        return
    with TemporaryDirectory(prefix="holdfast-dev-", ignore_cleanup_errors=True) as directory:
        _run(target, directory, config_file, port_base, log_level, settings)


def _run(
    target: object,
    data_dir: str,
    config_file: str | None,
    port_base: int | None,
    log_level: str | None,
    settings: tuple[str, ...],
) -> None:
    from holdfast_cluster.cli.app_process import FORK_SUPPORT, AppTarget

    os.environ.setdefault(FORK_SUPPORT, "0")  # read when gRPC is imported, which the next line does
    from holdfast_cluster.cli import dev_session
    from holdfast_cluster.cli.node_config import load_config

    assert isinstance(target, AppTarget)
    flags = {"node.data_dir": data_dir, "node.stop_grace": STOP_GRACE}
    config = load_config(config_file, port_base, log_level or "warning", settings, flags)
    dev_session.main(config, target, lambda text: click.echo(f"▸ {text}", err=True))

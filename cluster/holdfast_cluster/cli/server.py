"""``holdfast server``"""

from __future__ import annotations

import sys

import click

from holdfast_cluster.cli.options import node_settings


@click.command()
@node_settings
@click.option("--data-dir", metavar="DIRECTORY", help="Where journal and tables are kept (node.data_dir).")
def server(
    config_file: str | None,
    port_base: int | None,
    log_level: str | None,
    settings: tuple[str, ...],
    data_dir: str | None,
) -> None:
    """Run a node until it is told to stop (SIGTERM, Ctrl-C).

    Settings come from flags, then from environment variables like HOLDFAST_NODE_DATA_DIR, then from the TOML file;
    `holdfast config` lists them. Exit codes: 0 stopped when asked, 1 could not go on, 2 did not start.

    \b
    Examples:
      holdfast server --data-dir /var/lib/holdfast
      holdfast server --config /etc/holdfast.toml --port-base 8100
      holdfast server --set node.partitions=8 --set services.journal_retention=7d
    """
    from holdfast_cluster.cli.node_config import load_config
    from holdfast_cluster.server import main

    config = load_config(config_file, port_base, log_level, settings, {"node.data_dir": data_dir})
    sys.exit(main(config))

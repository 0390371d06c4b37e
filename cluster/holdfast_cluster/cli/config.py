"""``holdfast config``"""

from __future__ import annotations

import click

from holdfast_cluster.cli.output import print_json, print_table


@click.command()
@click.argument("section", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def config(section: str | None, as_json: bool) -> None:
    """List all settings of a node, or those of one SECTION: default, range and meaning.

    A setting is looked for in this order: --set section.name=value, the environment variable HOLDFAST_SECTION_NAME,
    the file given with --config, the default.

    \b
    Examples:
      holdfast config
      holdfast config listen --json
    """
    from holdfast_cluster.cli.failure import NOT_FOUND, CommandFailed
    from holdfast_cluster.config_loading import describe

    keys = [key for key in describe() if section is None or key.section == section]
    if not keys:
        known = ", ".join(dict.fromkeys(key.section for key in describe()))
        raise CommandFailed(f"there is no section {section!r}; there are {known}", NOT_FOUND)
    if as_json:
        names = ("name", "variable", "kind", "default", "allowed", "meaning")
        print_json({"settings": [{name: getattr(key, name) for name in names} for key in keys]})
        return
    rows = [[key.name, key.default, key.allowed, key.meaning] for key in keys]
    print_table(["setting", "default", "allowed", "meaning"], rows, empty="no settings")

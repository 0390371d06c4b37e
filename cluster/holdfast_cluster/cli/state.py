"""``holdfast state``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast_cluster.cli.connection import Connection, connect
from holdfast_cluster.cli.failure import FAILED, NOT_FOUND, USAGE, CommandFailed
from holdfast_cluster.cli.options import confirmed, connected
from holdfast_cluster.cli.output import one_line, print_json, print_table, shown_value, value_of
from holdfast_cluster.cli.target import body_bytes

if TYPE_CHECKING:
    from holdfast_proto import admin_pb2

VALUE_CHARACTERS_MAX = 200
"""In a table; one value by its name is printed whole."""
PAGE = 200


@click.group()
def state() -> None:
    """Read and edit the state of virtual objects and workflows.

    An edit is applied at once, also while a handler runs: that one goes on with the state that it began with.

    \b
    Examples:
      holdfast state get counter
      holdfast state get counter apples
      holdfast state set counter apples value 7
      holdfast state clear counter apples
    """


@state.command()
@click.argument("service")
@click.argument("key", required=False)
@click.argument("name", required=False)
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="Keys (or names) shown at most."
)
@connected
def get(service: str, key: str | None, name: str | None, limit: int, address: str, as_json: bool) -> None:
    """Show state: all of KEY, one value by its NAME, or, without KEY, which keys of SERVICE have state.

    \b
    Examples:
      holdfast state get counter
      holdfast state get counter apples
      holdfast state get counter apples value
    """
    with connect(address) as node:
        if key is None:
            _show_keys(_all_objects(node, service, "", limit), service, as_json)
            return
        entries = {
            entry.name: entry.value for item in _all_objects(node, service, key, limit) for entry in item.entries
        }
    if name is not None:
        _show_value(entries, service, key, name, as_json)
        return
    if as_json:
        print_json({"service": service, "key": key, "state": {n: value_of(v) for n, v in entries.items()}})
        return
    print_table(
        ["name", "value"],
        [[n, one_line(shown_value(v), VALUE_CHARACTERS_MAX)] for n, v in entries.items()],
        empty=f"{service}/{key} has no state",
    )


@state.command("set")
@click.argument("service")
@click.argument("key")
@click.argument("name")
@click.argument("value")
@click.option("--raw", is_flag=True, help="Store VALUE as it is, it need not be JSON.")
@connected
def set_state(service: str, key: str, name: str, value: str, raw: bool, address: str, as_json: bool) -> None:
    """Set the state NAME of one key. VALUE is JSON; "-" reads it from stdin, "@path" from a file.

    \b
    Examples:
      holdfast state set counter apples value 7
      holdfast state set cart ada items '["tea", "milk"]'
    """
    from holdfast_proto import admin_pb2

    entry = admin_pb2.StateEntry(name=name, value=body_bytes(value, raw))
    with connect(address) as node:
        node.ask(node.admin.EditState, admin_pb2.EditStateRequest(service=service, key=key, set=[entry]))
    _done(f"set {name} of {service}/{key}", {"service": service, "key": key, "set": [name]}, as_json)


@state.command()
@click.argument("service")
@click.argument("key")
@click.argument("names", nargs=-1)
@confirmed
@connected
def clear(service: str, key: str, names: tuple[str, ...], yes: bool, address: str, as_json: bool) -> None:
    """Clear the state NAMES of one key, or, without NAMES, all of its state (after a question, unless --yes).

    \b
    Examples:
      holdfast state clear counter apples value
      holdfast state clear counter apples --yes
    """
    from holdfast_proto import admin_pb2

    if not names and not yes:
        if as_json:
            raise CommandFailed("clearing all state of a key with --json needs --yes", USAGE)
        if not click.confirm(f"Clear all state of {service}/{key}?", err=True):
            raise CommandFailed("nothing was cleared", FAILED)
    request = admin_pb2.EditStateRequest(service=service, key=key, clear=names, replace=not names)
    with connect(address) as node:
        node.ask(node.admin.EditState, request)
    what = ", ".join(names) or "all state"
    _done(
        f"cleared {what} of {service}/{key}", {"service": service, "key": key, "cleared": list(names) or "all"}, as_json
    )


def _all_objects(node: Connection, service: str, key: str, limit: int) -> list[admin_pb2.ObjectState]:
    """Page after page. With a key, each page holds more entries of the same object."""
    from holdfast_proto import admin_pb2

    found: list[admin_pb2.ObjectState] = []
    token, left = "", limit
    while left > 0:
        size = min(PAGE, left)
        request = admin_pb2.ListStateRequest(service=service, key=key, page_size=size, page_token=token)
        answer = node.ask(node.admin.ListState, request)
        found.extend(answer.objects)
        left -= sum(len(item.entries) for item in answer.objects) if key else len(answer.objects)
        token = answer.next_page_token
        if not token:
            break
    if token:
        click.echo(f"there is more; --limit {limit} ends the list here", err=True)
    return found


def _show_keys(objects: list[admin_pb2.ObjectState], service: str, as_json: bool) -> None:
    if as_json:
        keys = [{"key": item.key, "names": [entry.name for entry in item.entries]} for item in objects]
        print_json({"service": service, "keys": keys})
        return
    rows = [[item.key, ", ".join(entry.name for entry in item.entries)] for item in objects]
    print_table(["key", "names"], rows, empty=f"no key of {service} has state")


def _show_value(entries: dict[str, bytes], service: str, key: str, name: str, as_json: bool) -> None:
    if name not in entries:
        known = f"it has {', '.join(list(entries)[:10])}" if entries else "it has no state"
        raise CommandFailed(f"{service}/{key} has no state {name!r}; {known}", NOT_FOUND)
    if as_json:
        print_json({"service": service, "key": key, "name": name, "value": value_of(entries[name])})
    else:
        click.echo(entries[name])


def _done(words: str, document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        click.echo(words)

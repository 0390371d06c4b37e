"""``python -m holdfast serve TARGET``: serve what an attribute of a file or module holds.

TARGET is FILE:ATTRIBUTE or MODULE:ATTRIBUTE; the attribute is a service, or a list of services. It listens on
HOLDFAST_BIND, as `holdfast.serve` does. `holdfast dev` uses this for apps that do not call ``serve`` themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

USAGE = "usage: python -m holdfast serve FILE:ATTRIBUTE or MODULE:ATTRIBUTE"
EXIT_USAGE = 2


class TargetError(Exception):
    """TARGET does not lead to services. The message is for the person who wrote it."""


def find_services(target: str) -> list[Any]:
    """Raises TargetError; whatever the module itself raises is not caught, so that its trace is seen."""
    from holdfast._registration import ServiceBase

    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise TargetError(f"{target!r} is not of the form FILE:ATTRIBUTE or MODULE:ATTRIBUTE")
    found: Any = _load(place)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise TargetError(f"{place} has no {attribute}")
        found = getattr(found, name)
    services: list[Any] = [found] if isinstance(found, ServiceBase) else _as_list(found, target)
    for service in services:
        if not isinstance(service, ServiceBase):
            raise TargetError(f"{target} holds {service!r}, which is not a Service, VirtualObject or Workflow")
    if not services:
        raise TargetError(f"{target} is empty: there is nothing to serve")
    return services


def _as_list(found: Any, target: str) -> list[Any]:
    if not isinstance(found, Iterable) or isinstance(found, str | bytes):
        raise TargetError(f"{target} is {found!r}, neither a service nor a list of services")
    return list(found)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _load(place: str) -> ModuleType:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
                raise TargetError(f"there is no module {place!r} here ({Path.cwd()})") from None
            raise
    path = Path(place).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise TargetError(f"there is no file {place}")
    sys.path.insert(0, str(path.parent))  # as when the file is run
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "serve":
        print(USAGE, file=sys.stderr)
        return EXIT_USAGE
    from holdfast.endpoint import serve

    try:
        services = find_services(arguments[1])
    except TargetError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return EXIT_USAGE
    serve(services)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the three kinds of service share: a name, options, and a decorator that makes functions handlers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.errors import DefinitionError
from holdfast.handler import (
    HandlerDefinition,
    HandlerOptions,
    HandlerType,
    ServiceType,
    check_options,
    check_service_name,
)
from holdfast.serde import Serde


class ServiceBase:
    """A named group of handlers."""

    def __init__(self, name: str, type: ServiceType, documentation: str, options: HandlerOptions) -> None:
        self.name = check_service_name(name)
        self.type = type
        self.documentation = documentation
        self.options = check_options(options, name)
        self._handlers: dict[str, HandlerDefinition] = {}

    def __repr__(self) -> str:
        return f"<{self.type.value} {self.name}: {', '.join(self._handlers) or 'no handlers'}>"

    @property
    def handlers(self) -> Mapping[str, HandlerDefinition]:
        """By name."""
        return self._handlers

    def _add(
        self,
        type: HandlerType,
        function: Callable[..., Any],
        name: str | None,
        options: HandlerOptions,
        serdes: tuple[Serde[Any] | None, Serde[Any] | None],
        depth: int,
    ) -> HandlerDefinition:
        """``depth`` is how many frames up the decorator stands: its local names may occur in type hints."""
        frame = sys._getframe(depth)  # pyright: ignore[reportPrivateUsage]
        definition = HandlerDefinition(self.name, self.type, type, function, name, options, serdes, frame.f_locals)
        if definition.name in self._handlers:
            raise DefinitionError(f"{self.type.value} {self.name} has a handler {definition.name!r} already")
        self._handlers[definition.name] = definition
        return definition

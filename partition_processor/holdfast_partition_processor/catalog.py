"""What is deployed, as ingress, invoker and admin look at it: a view of the DEPLOYMENTS table that is built anew when
that table changes and never changed itself.

A service that several deployments offer belongs to the one with the highest revision: new invocations go there, those
that are under way stay with the deployment that they are pinned to (`Catalog.resolve_at`).

Settings narrow from node to service to handler: each level fills what the narrower one left open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec
from msgspec.structs import replace

from holdfast_partition_processor.command import (
    Deployment,
    Handler,
    HandlerOptions,
    HandlerType,
    ResolvedCall,
    Service,
    Target,
)

DAY_MS = 24 * 60 * 60 * 1000
KEY_BYTES_MAX = 1_024
"""Longest key of a virtual object or workflow: it is read with each row of its state."""
IDEMPOTENCY_KEY_BYTES_MAX = 1_024
SHOWN_CHARACTERS_MAX = 80
"""Names in error messages are cut here: they may be anything that a client sent."""


class CatalogError(Exception):
    """A call that can't be made. ``message`` is for the person who made it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnknownService(CatalogError):
    pass


class UnknownHandler(CatalogError):
    pass


class UnknownDeployment(CatalogError):
    """A pinned invocation's deployment was removed."""


class KeyMissing(CatalogError):
    pass


class KeyNotAllowed(CatalogError):
    pass


class KeyTooLong(CatalogError):
    pass


class IdempotencyKeyRefused(CatalogError):
    """It is empty, too long, or the handler is a workflow's, whose key already makes the call idempotent."""


class Settings(msgspec.Struct, frozen=True):
    """`HandlerOptions` with everything filled; the defaults are the node's."""

    inactivity_timeout_ms: int = 60_000
    abort_timeout_ms: int = 600_000
    journal_retention_ms: int = DAY_MS
    idempotency_retention_ms: int = DAY_MS
    workflow_completion_retention_ms: int = DAY_MS
    enable_lazy_state: bool = False
    ingress_private: bool = False
    retry_initial_interval_ms: int = 500
    retry_max_interval_ms: int = 60_000
    retry_factor: float = 2.0
    retry_max_attempts: int = 70
    retry_on_max_attempts: str = "pause"  # or "kill"

    def narrowed(self, options: HandlerOptions) -> Settings:
        """These settings with those that ``options`` sets in their place."""
        given = {name: getattr(options, name) for name in options.__struct_fields__}
        return replace(self, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class RegisteredService:
    """A service at the deployment that runs its latest revision."""

    service: Service
    deployment: Deployment
    revision: int


@dataclass(frozen=True, slots=True)
class ResolvedHandler:
    service: Service
    handler: Handler
    deployment: Deployment
    revision: int
    settings: Settings

    def completion_retention_ms(self, idempotency_key: str | None) -> int:
        """How long the result answers later calls; a plain call has no later calls to answer. How long the journal can
        be looked at is ``settings.journal_retention_ms``."""
        if self.handler.type is HandlerType.WORKFLOW_RUN:
            return self.settings.workflow_completion_retention_ms
        return self.settings.idempotency_retention_ms if idempotency_key is not None else 0


class Catalog:
    __slots__ = ("_handlers", "_pinned", "defaults", "deployments", "services")

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        services: Mapping[str, RegisteredService],
        defaults: Settings,
        handlers: Mapping[tuple[str, str, str], ResolvedHandler],
    ) -> None:
        """Use `Catalog.of`. ``handlers`` is keyed by deployment id, service and handler."""
        self.deployments = deployments
        self.services = services
        self.defaults = defaults
        self._pinned = handlers
        self._handlers = {
            (name, handler): found
            for (deployment, name, handler), found in handlers.items()
            if services[name].deployment.id == deployment
        }

    @classmethod
    def of(cls, deployments: Iterable[Deployment], defaults: Settings | None = None) -> Catalog:
        settings = defaults if defaults is not None else Settings()
        known = {deployment.id: deployment for deployment in deployments}
        latest: dict[str, RegisteredService] = {}
        handlers: dict[tuple[str, str, str], ResolvedHandler] = {}
        for deployment in known.values():
            for service, revision in zip(deployment.services, revisions_of(deployment), strict=True):
                before = latest.get(service.name)
                if before is None or (revision, deployment.id) > (before.revision, before.deployment.id):
                    latest[service.name] = RegisteredService(service, deployment, revision)
                of_service = settings.narrowed(service.options)
                for handler in service.handlers:
                    handlers[deployment.id, service.name, handler.name] = ResolvedHandler(
                        service, handler, deployment, revision, of_service.narrowed(handler.options)
                    )
        return cls(known, dict(sorted(latest.items())), settings, handlers)

    def resolve(self, service: str, handler: str) -> ResolvedHandler:
        """Where a new invocation goes. Raises UnknownService, UnknownHandler."""
        found = self._handlers.get((service, handler))
        if found is not None:
            return found
        registered = self.services.get(service)
        if registered is None:
            raise UnknownService(f"service {_shown(service)} is not registered{_advice(service, self.services)}")
        raise _unknown_handler(registered.service, handler, "")

    def resolve_at(self, deployment_id: str, service: str, handler: str) -> ResolvedHandler:
        """What a pinned invocation runs. Raises UnknownDeployment, UnknownService, UnknownHandler."""
        found = self._pinned.get((deployment_id, service, handler))
        if found is not None:
            return found
        deployment = self.deployments.get(deployment_id)
        if deployment is None:
            raise UnknownDeployment(f"deployment {_shown(deployment_id)} is not registered (any more)")
        where = f" at deployment {deployment_id} ({deployment.address})"
        offered = {item.name: item for item in deployment.services}
        if service not in offered:
            raise UnknownService(f"service {_shown(service)} is not offered{where}{_advice(service, offered)}")
        raise _unknown_handler(offered[service], handler, where)

    def target(self, resolved: ResolvedHandler, key: str | None) -> Target:
        """The target of a call. An empty key counts as none: a Call frame can't tell them apart.
        Raises KeyMissing, KeyNotAllowed, KeyTooLong."""
        service, handler = resolved.service.name, resolved.handler.name
        if resolved.handler.type is HandlerType.SERVICE:
            if key:
                raise KeyNotAllowed(f"service {service!r} has no keys, but the call names the key {_shown(key)}")
            return Target(service, handler, None, HandlerType.SERVICE)
        if not key:
            kind = resolved.service.type.name.lower().replace("_", " ")
            raise KeyMissing(f"{service!r} is a {kind}: a call of {handler!r} must name a key")
        if len(key) > KEY_BYTES_MAX // 4 and len(key.encode()) > KEY_BYTES_MAX:
            raise KeyTooLong(f"the key for {service!r} has {len(key.encode())} bytes, the limit is {KEY_BYTES_MAX}")
        return Target(service, handler, key, resolved.handler.type)

    def call(self, service: str, handler: str, key: str | None, idempotency_key: str | None) -> ResolvedCall:
        """All that is to be looked up for a call, by an ingress or for a Call frame. Raises CatalogError."""
        resolved = self.resolve(service, handler)
        target = self.target(resolved, key)
        if idempotency_key is not None:
            _check_idempotency_key(resolved, idempotency_key)
        retention_ms = resolved.completion_retention_ms(idempotency_key)
        return ResolvedCall(target, retention_ms, resolved.settings.journal_retention_ms)

    def by_address(self, address: str) -> Deployment | None:
        return next((found for found in self.deployments.values() if found.address == address), None)


def revisions_of(deployment: Deployment) -> tuple[int, ...]:
    """One revision per service, also for a row that names too few."""
    missing = len(deployment.services) - len(deployment.revisions)
    return deployment.revisions[: len(deployment.services)] + (1,) * missing


def _check_idempotency_key(resolved: ResolvedHandler, idempotency_key: str) -> None:
    name = f"{resolved.service.name}/{resolved.handler.name}"
    if not idempotency_key:
        raise IdempotencyKeyRefused(f"the idempotency key of the call to {name} is empty")
    size = len(idempotency_key.encode())
    if size > IDEMPOTENCY_KEY_BYTES_MAX:
        raise IdempotencyKeyRefused(
            f"the idempotency key of the call to {name} has {size} bytes, the limit is {IDEMPOTENCY_KEY_BYTES_MAX}"
        )
    if resolved.handler.type is HandlerType.WORKFLOW_RUN:
        raise IdempotencyKeyRefused(f"{name} runs once per workflow key, a call to it takes no idempotency key")


def _unknown_handler(service: Service, handler: str, where: str) -> UnknownHandler:
    names = [item.name for item in service.handlers]
    return UnknownHandler(f"service {service.name!r}{where} has no handler {_shown(handler)}{_advice(handler, names)}")


def _shown(name: str) -> str:
    return repr(name[:SHOWN_CHARACTERS_MAX])


def _advice(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name[:SHOWN_CHARACTERS_MAX], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

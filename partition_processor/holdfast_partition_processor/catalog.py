"""Which services there are, as a pure view of the registered deployments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import asdict

from holdfast_partition_processor.command import (
    Deployment,
    Handler,
    HandlerOptions,
    HandlerType,
    Service,
    ServiceType,
    Target,
)

KEY_BYTES_MAX = 200
"""Longest key of a virtual object or workflow: LMDB keys hold it with the service's name and a state key."""


class CatalogError(LookupError):
    """The message is for the caller."""

    @property
    def message(self) -> str:
        return str(self.args[0])


class UnknownService(CatalogError):
    pass


class UnknownHandler(CatalogError):
    pass


class BadKey(CatalogError):
    """A key is missing, superfluous or too long."""


class IncompatibleDeployment(CatalogError):
    """The new deployment would break callers; registering it needs ``breaking``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force for one handler. Times in milliseconds."""

    inactivity_timeout_ms: int = 60_000
    abort_timeout_ms: int = 600_000
    journal_retention_ms: int = 86_400_000
    idempotency_retention_ms: int = 86_400_000
    workflow_completion_retention_ms: int = 86_400_000
    enable_lazy_state: bool = False
    ingress_private: bool = False
    retry_initial_interval_ms: int = 500
    retry_max_interval_ms: int = 60_000
    retry_factor: float = 2.0
    retry_max_attempts: int = 70
    retry_on_max_attempts: str = "pause"

    def overridden(self, options: HandlerOptions) -> Settings:
        given = {name: value for name, value in asdict(options).items() if value is not None}
        current = {name: getattr(self, name) for name in self.__slots__}
        return Settings(**{**current, **given})


@dataclass(frozen=True, slots=True)
class ResolvedHandler:
    service: Service
    handler: Handler
    deployment: Deployment
    revision: int
    settings: Settings

    def completion_retention_ms(self, idempotency_key: str | None) -> int:
        if self.handler.type is HandlerType.WORKFLOW_RUN:
            return self.settings.workflow_completion_retention_ms
        return self.settings.idempotency_retention_ms if idempotency_key is not None else 0


@dataclass(frozen=True, slots=True)
class RegisteredService:
    service: Service
    deployment: Deployment
    revision: int


@dataclass(frozen=True, slots=True)
class Catalog:
    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    services: Mapping[str, RegisteredService] = field(default_factory=dict)
    _latest: Mapping[tuple[str, str], ResolvedHandler] = field(default_factory=dict)
    _pinned: Mapping[tuple[str, str, str], ResolvedHandler] = field(default_factory=dict)

    @classmethod
    def of(cls, deployments: Iterable[Deployment], defaults: Settings | None = None) -> Catalog:
        """The latest of a service is the one with the highest revision."""
        base = defaults or Settings()
        by_id: dict[str, Deployment] = {}
        services: dict[str, RegisteredService] = {}
        pinned: dict[tuple[str, str, str], ResolvedHandler] = {}
        for deployment in deployments:
            by_id[deployment.id] = deployment
            for service, revision in zip(deployment.services, deployment.revisions, strict=True):
                known = services.get(service.name)
                if known is None or revision > known.revision:
                    services[service.name] = RegisteredService(service, deployment, revision)
                settings = base.overridden(service.options)
                for handler in service.handlers:
                    resolved = ResolvedHandler(
                        service, handler, deployment, revision, settings.overridden(handler.options)
                    )
                    pinned[deployment.id, service.name, handler.name] = resolved
        latest = {
            (name, handler.name): pinned[registered.deployment.id, name, handler.name]
            for name, registered in services.items()
            for handler in registered.service.handlers
        }
        return cls(by_id, services, latest, pinned)

    def resolve(self, service: str, handler: str) -> ResolvedHandler:
        """At the latest revision. Raises UnknownService, UnknownHandler."""
        resolved = self._latest.get((service, handler))
        if resolved is not None:
            return resolved
        registered = self.services.get(service)
        if registered is None:
            raise UnknownService(f"service '{service}' not found; register the deployment that has it")
        names = ", ".join(sorted(h.name for h in registered.service.handlers))
        raise UnknownHandler(f"service '{service}' has no handler '{handler}'; it has {names}")

    def resolve_at(self, deployment_id: str, service: str, handler: str) -> ResolvedHandler:
        """At the deployment an invocation is pinned to. Raises UnknownService, UnknownHandler."""
        resolved = self._pinned.get((deployment_id, service, handler))
        if resolved is not None:
            return resolved
        if deployment_id not in self.deployments:
            raise UnknownService(f"deployment {deployment_id}, which this invocation is pinned to, was removed")
        raise UnknownHandler(f"deployment {deployment_id} has no handler '{service}/{handler}' any more")

    def target(self, resolved: ResolvedHandler, key: str | None) -> Target:
        """Raises BadKey."""
        name = resolved.service.name
        if resolved.service.type is ServiceType.SERVICE:
            if key is not None:
                raise BadKey(f"service '{name}' takes no key, but '{key[:80]}' was given")
        elif key is None:
            raise BadKey(f"'{name}' is keyed: give a key, as in {name}/KEY/{resolved.handler.name}")
        elif len(key.encode()) > KEY_BYTES_MAX:
            raise BadKey(f"key of {len(key.encode())} bytes for '{name}', the limit is {KEY_BYTES_MAX}")
        return Target(name, resolved.handler.name, key, resolved.handler.type)

    def by_address(self, address: str) -> Deployment | None:
        return next((d for d in self.deployments.values() if d.address == address), None)

    def plan_registration(self, found: Deployment, known: Deployment | None, breaking: bool) -> Deployment:
        """``found`` with its revisions: one above the present for each service; a ``known`` deployment at the same
        address keeps its id. Raises IncompatibleDeployment."""
        revisions = []
        for service in found.services:
            registered = self.services.get(service.name)
            if registered and registered.service.type is not service.type and not breaking:
                before, after = registered.service.type.name, service.type.name
                raise IncompatibleDeployment(
                    f"service '{service.name}' would change from {before} to {after}; "
                    "register with breaking=true if nobody depends on it"
                )
            revisions.append(registered.revision + 1 if registered else 1)
        return Deployment(
            id=known.id if known else found.id,
            address=found.address,
            created_at_ms=found.created_at_ms,
            sdk=found.sdk,
            min_protocol_version=found.min_protocol_version,
            max_protocol_version=found.max_protocol_version,
            services=found.services,
            revisions=tuple(revisions),
            metadata=found.metadata,
        )

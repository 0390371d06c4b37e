"""Registering a deployment: what a discovered endpoint becomes in the registry, decided before anything is proposed.

====================  =======================  =====================================================
address known         force                    outcome
====================  =======================  =====================================================
no                    any                      CREATED: new id, next revision of each service
yes                   no                       UNCHANGED: discovery need not even run
yes                   yes                      OVERWRITTEN: id kept, next revision of each service,
                                               services that the endpoint no longer offers are gone
====================  =======================  =====================================================

`number_revisions` is what apply uses as well: two registrations that were planned side by side still get different
revisions, in the order of the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from msgspec.structs import replace

from holdfast_partition_processor.catalog import Catalog, revisions_of
from holdfast_partition_processor.command import Deployment, Service
from holdfast_proto.framing import PROTOCOL_VERSION


class Manifest(Protocol):
    """What an endpoint answered when it was discovered, already checked by itself (names, types, limits)."""

    @property
    def sdk(self) -> str: ...
    @property
    def min_protocol_version(self) -> int: ...
    @property
    def max_protocol_version(self) -> int: ...
    @property
    def services(self) -> tuple[Service, ...]: ...


class RegistrationOutcome(Enum):
    CREATED = "created"
    UNCHANGED = "unchanged"
    OVERWRITTEN = "overwritten"


@dataclass(frozen=True, slots=True)
class Registration:
    """``notes`` is what an operator should know, in words. Nothing is to be proposed when it is UNCHANGED."""

    outcome: RegistrationOutcome
    deployment: Deployment
    notes: tuple[str, ...] = ()


class IncompatibleDeployment(Exception):
    """The endpoint can't be registered, or only with ``breaking``. ``message`` is for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def plan_registration(
    catalog: Catalog,
    manifest: Manifest,
    address: str,
    id: str,
    now_ms: int,
    force: bool = False,
    breaking: bool = False,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Registration:
    """``id`` is the one for a new deployment. Raises IncompatibleDeployment."""
    known = catalog.by_address(address)
    if known is not None and not force:
        note = f"{address} is registered as {known.id}; use force to discover it again"
        return Registration(RegistrationOutcome.UNCHANGED, known, (note,))
    _check_protocol(manifest, address)
    if not (force or breaking):
        _check_types(catalog, manifest)
    planned = Deployment(
        id=known.id if known is not None else id,
        address=address,
        created_at_ms=known.created_at_ms if known is not None else now_ms,
        sdk=manifest.sdk,
        min_protocol_version=manifest.min_protocol_version,
        max_protocol_version=manifest.max_protocol_version,
        services=manifest.services,
        metadata=metadata,
    )
    outcome = RegistrationOutcome.CREATED if known is None else RegistrationOutcome.OVERWRITTEN
    numbered = number_revisions(planned, catalog.deployments.values())
    return Registration(outcome, numbered, tuple(_notes(catalog, known, numbered)))


def number_revisions(deployment: Deployment, registered: Iterable[Deployment]) -> Deployment:
    """Give each of its services the revision after the highest one that is registered."""
    highest: dict[str, int] = {}
    for other in registered:
        for service, revision in zip(other.services, revisions_of(other), strict=True):
            highest[service.name] = max(revision, highest.get(service.name, 0))
    return replace(deployment, revisions=tuple(highest.get(service.name, 0) + 1 for service in deployment.services))


def _check_protocol(manifest: Manifest, address: str) -> None:
    low, high = manifest.min_protocol_version, manifest.max_protocol_version
    if not low <= PROTOCOL_VERSION <= high:
        raise IncompatibleDeployment(
            f"{address} ({manifest.sdk or 'unknown SDK'}) speaks service protocol {low} to {high}, "
            f"this node speaks {PROTOCOL_VERSION}; use another version of the SDK"
        )


def _check_types(catalog: Catalog, manifest: Manifest) -> None:
    for service in manifest.services:
        registered = catalog.services.get(service.name)
        if registered is not None and registered.service.type is not service.type:
            raise IncompatibleDeployment(
                f"service {service.name!r} is registered as {registered.service.type.name} "
                f"(revision {registered.revision}, {registered.deployment.id}) and would become "
                f"{service.type.name}: its state would be out of reach; use breaking to accept that"
            )


def _notes(catalog: Catalog, known: Deployment | None, planned: Deployment) -> Iterable[str]:
    for service in planned.services:
        registered = catalog.services.get(service.name)
        if registered is None:
            continue
        if registered.service.type is not service.type:
            yield f"service {service.name!r} changes from {registered.service.type.name} to {service.type.name}"
        gone = {item.name for item in registered.service.handlers} - {item.name for item in service.handlers}
        if gone:
            yield f"service {service.name!r} no longer has: {', '.join(sorted(gone))}"
    offered = {service.name for service in planned.services}
    for service in known.services if known is not None else ():
        if service.name not in offered:
            yield f"service {service.name!r} is no longer offered by {planned.id}"

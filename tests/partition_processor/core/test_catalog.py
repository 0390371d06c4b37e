"""What callers and operators are told about services, handlers, keys and deployments."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from holdfast_partition_processor import catalog as cat
from holdfast_partition_processor.command import (
    Deployment,
    Handler,
    HandlerOptions,
    HandlerType,
    PayloadRule,
    ResolvedCall,
    Service,
    ServiceType,
    Target,
)
from holdfast_partition_processor.deployment import (
    IncompatibleDeployment,
    RegistrationOutcome,
    plan_registration,
)


def handler(name: str, kind: HandlerType, **options: object) -> Handler:
    return Handler(name, kind, PayloadRule(), PayloadRule(), HandlerOptions(**options))  # type: ignore[arg-type]


GREETER = Service("greeter", ServiceType.SERVICE, (handler("greet", HandlerType.SERVICE),))
COUNTER = Service(
    "counter",
    ServiceType.VIRTUAL_OBJECT,
    (handler("add", HandlerType.EXCLUSIVE), handler("value", HandlerType.SHARED)),
)
PUBLISH = Service("publish", ServiceType.WORKFLOW, (handler("run", HandlerType.WORKFLOW_RUN),))


def deployed(name: str, *services: Service, revisions: tuple[int, ...] = (), address: str = "") -> Deployment:
    revisions = revisions or (1,) * len(services)
    return Deployment(name, address or f"{name}:9080", 5, "sdk", 5, 7, services, revisions)


CATALOG = cat.Catalog.of([deployed("dp_1", GREETER, COUNTER, PUBLISH)])


def test_a_new_call_goes_to_the_highest_revision_and_a_pinned_one_stays() -> None:
    old, new = deployed("dp_1", GREETER, COUNTER), deployed("dp_2", GREETER, revisions=(2,))
    for deployments in ([old, new], [new, old]):
        catalog = cat.Catalog.of(deployments)
        assert catalog.resolve("greeter", "greet").deployment.id == "dp_2"
        assert catalog.resolve("counter", "add").deployment.id == "dp_1"
        assert catalog.resolve_at("dp_1", "greeter", "greet").deployment.id == "dp_1"
        assert catalog.services["greeter"].revision == 2


def test_a_handler_that_the_latest_revision_dropped_is_unknown_though_an_older_one_has_it() -> None:
    catalog = cat.Catalog.of(
        [deployed("dp_1", COUNTER), deployed("dp_2", Service("counter", COUNTER.type, ()), revisions=(2,))]
    )
    with pytest.raises(cat.UnknownHandler):
        catalog.resolve("counter", "add")
    assert catalog.resolve_at("dp_1", "counter", "add").revision == 1


def test_settings_narrow_from_node_to_service_to_handler() -> None:
    service = Service(
        "s",
        ServiceType.SERVICE,
        (handler("a", HandlerType.SERVICE, retry_max_attempts=3), handler("b", HandlerType.SERVICE)),
        HandlerOptions(retry_max_attempts=5, ingress_private=True),
    )
    catalog = cat.Catalog.of([deployed("dp_1", service)], cat.Settings(inactivity_timeout_ms=7))
    a, b = catalog.resolve("s", "a").settings, catalog.resolve("s", "b").settings
    assert (a.retry_max_attempts, a.ingress_private, a.inactivity_timeout_ms, a.abort_timeout_ms) == (
        3,
        True,
        7,
        600_000,
    )
    assert b.retry_max_attempts == 5


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (("greter", "greet"), cat.UnknownService, "service 'greter' is not registered; did you mean 'greeter'?"),
        (("zzz", "greet"), cat.UnknownService, "service 'zzz' is not registered"),
        (("counter", "ad"), cat.UnknownHandler, "service 'counter' has no handler 'ad'; did you mean 'add'?"),
        (("x" * 1000, "y"), cat.UnknownService, f"service '{'x' * 80}' is not registered"),
    ],
)
def test_unknown_names_are_named_and_close_ones_offered(
    ask: tuple[str, str], error: type[cat.CatalogError], words: str
) -> None:
    with pytest.raises(error) as caught:
        CATALOG.resolve(*ask)
    assert caught.value.message == words


@pytest.mark.parametrize(
    ("deployment", "service", "name", "error"),
    [
        ("dp_9", "greeter", "greet", cat.UnknownDeployment),
        ("dp_1", "gone", "greet", cat.UnknownService),
        ("dp_1", "greeter", "gone", cat.UnknownHandler),
    ],
)
def test_what_a_pinned_invocation_misses_is_said(
    deployment: str, service: str, name: str, error: type[cat.CatalogError]
) -> None:
    with pytest.raises(error, match=deployment):
        CATALOG.resolve_at(deployment, service, name)


def test_targets_have_a_key_exactly_when_their_handler_is_keyed() -> None:
    add, greet = CATALOG.resolve("counter", "add"), CATALOG.resolve("greeter", "greet")
    assert CATALOG.target(add, "k") == Target("counter", "add", "k", HandlerType.EXCLUSIVE)
    assert (
        CATALOG.target(greet, None)
        == CATALOG.target(greet, "")
        == Target("greeter", "greet", None, HandlerType.SERVICE)
    )
    with pytest.raises(cat.KeyMissing, match="'counter' is a virtual object: a call of 'add' must name a key"):
        CATALOG.target(add, None)
    with pytest.raises(cat.KeyMissing):
        CATALOG.target(add, "")
    with pytest.raises(cat.KeyNotAllowed, match="names the key 'k'"):
        CATALOG.target(greet, "k")
    assert CATALOG.target(add, "ü" * 512).key == "ü" * 512
    with pytest.raises(cat.KeyTooLong, match="1026 bytes, the limit is 1024"):
        CATALOG.target(add, "ü" * 513)


def test_how_long_a_result_answers_depends_on_how_it_can_be_asked_for_again() -> None:
    day = cat.DAY_MS
    plain = ResolvedCall(Target("greeter", "greet", None, HandlerType.SERVICE), 0, day)
    assert CATALOG.call("greeter", "greet", None, None) == plain
    assert CATALOG.call("greeter", "greet", None, "k").completion_retention_ms == day
    assert CATALOG.call("publish", "run", "w", None).completion_retention_ms == day


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (("greeter", "greet", None, ""), "the idempotency key of the call to greeter/greet is empty"),
        (("publish", "run", "w", "k"), "publish/run runs once per workflow key, a call to it takes no idempotency key"),
        (("greeter", "greet", None, "k" * 1025), "has 1025 bytes, the limit is 1024"),
    ],
)
def test_idempotency_keys_that_make_no_sense_are_refused(ask: tuple[str, str, str | None, str], words: str) -> None:
    with pytest.raises(cat.IdempotencyKeyRefused, match=words):
        CATALOG.call(*ask)


# ---------------------------------------------------------------- registration


@dataclass(frozen=True)
class Found:
    services: tuple[Service, ...]
    sdk: str = "holdfast-python/0.1.0"
    min_protocol_version: int = 6
    max_protocol_version: int = 6


def test_a_new_address_is_created_with_the_next_revision_of_each_service() -> None:
    planned = plan_registration(CATALOG, Found((GREETER, Service("new", ServiceType.SERVICE, ()))), "h:1", "dp_2", 77)
    assert planned.outcome is RegistrationOutcome.CREATED
    assert (planned.deployment.id, planned.deployment.created_at_ms) == ("dp_2", 77)
    assert planned.deployment.revisions == (2, 1)


def test_a_known_address_is_unchanged_without_force_and_keeps_its_id_with_it() -> None:
    known = CATALOG.deployments["dp_1"]
    same = plan_registration(CATALOG, Found(()), known.address, "dp_2", 77)
    assert (same.outcome, same.deployment) == (RegistrationOutcome.UNCHANGED, known)
    again = plan_registration(CATALOG, Found((GREETER,)), known.address, "dp_2", 77, force=True)
    assert again.outcome is RegistrationOutcome.OVERWRITTEN
    assert (again.deployment.id, again.deployment.created_at_ms, again.deployment.revisions) == ("dp_1", 5, (2,))
    assert "service 'counter' is no longer offered by dp_1" in again.notes


def test_a_changed_service_type_needs_breaking() -> None:
    changed = Found((Service("counter", ServiceType.WORKFLOW, ()),))
    with pytest.raises(
        IncompatibleDeployment, match=r"'counter' is registered as VIRTUAL_OBJECT .* would become WORKFLOW"
    ):
        plan_registration(CATALOG, changed, "h:1", "dp_2", 77)
    planned = plan_registration(CATALOG, changed, "h:1", "dp_2", 77, breaking=True)
    assert "service 'counter' changes from VIRTUAL_OBJECT to WORKFLOW" in planned.notes
    assert "service 'counter' no longer has: add, value" in planned.notes


@pytest.mark.parametrize(("low", "high"), [(1, 5), (7, 9)])
def test_an_endpoint_that_does_not_speak_our_protocol_is_refused(low: int, high: int) -> None:
    found = Found((GREETER,), min_protocol_version=low, max_protocol_version=high)
    with pytest.raises(IncompatibleDeployment, match=f"speaks service protocol {low} to {high}, this node speaks 6"):
        plan_registration(CATALOG, found, "h:1", "dp_2", 77)

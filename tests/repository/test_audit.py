"""The demo's accounts must notice what they promise to notice."""

from __future__ import annotations

from dataclasses import replace

from examples.demo.audit import Audit, Outcome, Row, audit

OUTCOMES = {
    "a": Outcome("s", True, 1, {"transcribe": "t1", "publish": "p1"}),
    "b": Outcome("s", True, 2, {"transcribe": "t2", "publish": "p2"}),
    "c": Outcome("s", False),
}
EFFECTS: list[Row] = [
    {"key": "a", "step": "transcribe", "take": "t0"},
    {"key": "a", "step": "transcribe", "take": "t1"},
    {"key": "a", "step": "publish", "take": "p1"},
    {"key": "b", "step": "transcribe", "take": "t2"},
    {"key": "b", "step": "publish", "take": "p2"},
    {"key": "c", "step": "transcribe", "take": "t3"},
]
PAYMENTS: list[Row] = [
    *({"kind": "asked", "what": "charge", "reference": key} for key in "aabc"),
    *({"kind": "charge", "reference": key, "receipt": key} for key in "abc"),
    {"kind": "asked", "what": "refund", "reference": "c"},
    {"kind": "refund", "reference": "c", "receipt": "c"},
]


def check(
    outcomes: dict[str, Outcome] = OUTCOMES,
    effects: list[Row] = EFFECTS,
    payments: list[Row] = PAYMENTS,
    total: int = 2,
) -> Audit:
    return audit(["a", "b", "c"], outcomes, effects, payments, {"s": total})


def test_repeated_steps_are_counted_but_are_no_fault() -> None:
    result = check()
    assert result.clean, (result.doubled, result.lost)
    assert (result.accepted, result.completed) == (3, 3)
    assert (result.steps_executed, result.steps_repeated) == (9, 2)


def test_an_accepted_episode_without_outcome_is_lost() -> None:
    result = check({key: OUTCOMES[key] for key in "ac"}, total=1)
    assert any("b" in line for line in result.lost)


def test_an_outcome_from_a_step_that_never_ran_is_lost() -> None:
    result = check(effects=[row for row in EFFECTS if row["take"] != "t2"])
    assert any("t2" in line for line in result.lost)


def test_money_moved_twice_is_doubled_and_not_at_all_is_lost() -> None:
    assert check(payments=[*PAYMENTS, PAYMENTS[4]]).doubled
    assert check(payments=[row for row in PAYMENTS if row["kind"] != "refund"]).lost


def test_a_refund_of_a_published_episode_is_doubled() -> None:
    assert check(payments=[*PAYMENTS, {"kind": "refund", "reference": "a", "receipt": "x"}]).doubled


def test_a_number_given_twice_is_doubled_and_the_gap_is_lost() -> None:
    result = check({**OUTCOMES, "b": replace(OUTCOMES["b"], number=1)})
    assert result.doubled
    assert result.lost


def test_the_objects_own_count_is_compared() -> None:
    assert check(total=3).doubled
    assert check(total=1).lost


def test_publishing_what_was_rejected_is_found() -> None:
    assert check(effects=[*EFFECTS, {"key": "c", "step": "publish", "take": "p3"}]).doubled

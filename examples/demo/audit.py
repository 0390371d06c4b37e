"""The accounts after the crashes: what clients were told, against what really happened in the world.

A step's function may run again when a crash comes between its end and its result's way to the disk: that is counted as
repeated, and is why the payment provider is given a reference. What must never be: an accepted episode without an
outcome, an outcome built on a step that never ran, money moved twice or not at all, an episode number given twice or
left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Row = Mapping[str, str | int]


@dataclass(frozen=True)
class Outcome:
    """What the client was told about one episode. ``number`` and ``takes`` only when it was published."""

    show: str
    published: bool
    number: int = 0
    takes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Audit:
    accepted: int = 0
    completed: int = 0
    steps_executed: int = 0
    steps_repeated: int = 0
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.doubled and not self.lost


def audit(
    accepted: Iterable[str],
    outcomes: Mapping[str, Outcome],
    effects: Iterable[Row],
    payments: Iterable[Row],
    episodes_per_show: Mapping[str, int],
) -> Audit:
    """``accepted``: keys of the episodes that the node answered 202 for; ``episodes_per_show``: the virtual objects'
    own counts at the end."""
    keys = sorted(accepted)
    rows, moves = list(effects), list(payments)
    result = Audit(accepted=len(keys), completed=len(outcomes))
    result.lost += [f"{key}: accepted, but no outcome" for key in keys if key not in outcomes]
    _count_steps(rows, moves, result)
    _check_takes(outcomes, rows, result)
    _check_money(outcomes, moves, result)
    _check_numbers(outcomes, episodes_per_show, result)
    return result


def _count_steps(effects: list[Row], payments: list[Row], result: Audit) -> None:
    runs = Counter((row["key"], row["step"]) for row in effects)
    runs.update((row["reference"], row["what"]) for row in payments if row["kind"] == "asked")
    result.steps_executed = len(runs)
    result.steps_repeated = runs.total() - len(runs)


def _check_takes(outcomes: Mapping[str, Outcome], effects: list[Row], result: Audit) -> None:
    happened = {(row["key"], row["step"], row["take"]) for row in effects}
    for key, outcome in outcomes.items():
        for step, take in outcome.takes.items():
            if (key, step, take) not in happened:
                result.lost.append(f"{key}: the outcome names take {take} of {step}, which never happened")
    for row in effects:
        told = outcomes.get(str(row["key"]))
        if row["step"] == "publish" and told is not None and not told.published:
            result.doubled.append(f"{row['key']}: was rejected and published all the same")


def _check_money(outcomes: Mapping[str, Outcome], payments: list[Row], result: Audit) -> None:
    moved = Counter((str(row["kind"]), str(row["reference"])) for row in payments if row["kind"] != "asked")
    for key, outcome in outcomes.items():
        for kind, wanted in (("charge", 1), ("refund", 0 if outcome.published else 1)):
            times = moved[kind, key]
            if times > wanted:
                result.doubled.append(f"{key}: {kind} {times} times instead of {wanted}")
            elif times < wanted:
                result.lost.append(f"{key}: no {kind}")


def _check_numbers(outcomes: Mapping[str, Outcome], episodes_per_show: Mapping[str, int], result: Audit) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    for outcome in outcomes.values():
        if outcome.published:
            numbers[outcome.show].append(outcome.number)
    for show, given in sorted(numbers.items()):
        wanted = range(1, len(given) + 1)
        result.doubled += [f"{show}: number {n} was given {c} times" for n, c in Counter(given).items() if c > 1]
        result.lost += [f"{show}: number {n} was given to no episode" for n in wanted if n not in set(given)]
        stored = episodes_per_show.get(show, 0)
        if stored > len(given):
            result.doubled.append(f"{show}: counts {stored} episodes, {len(given)} were published")
        elif stored < len(given):
            result.lost.append(f"{show}: counts {stored} episodes, {len(given)} were published")

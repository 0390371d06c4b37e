"""What the clients do while processes are killed under them, and what must be true afterwards.

Each client thread draws operations from its own seeded source, sends each until it has an answer, and notes what it
was told. `Workload.check` compares that with what the objects and the effects file say at the end.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.demo.client import Answer, Client

KEYS = [f"key-{n}" for n in range(12)]


@dataclass
class Workload:
    client: Client
    seed: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    added: Counter[str] = field(default_factory=Counter)  # what each counter must hold at the end
    seen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # values that `add` returned
    takes: list[tuple[str, str, str]] = field(default_factory=list)  # (name, step, take) of acknowledged results
    lines: Counter[str] = field(default_factory=Counter)
    answers: dict[tuple[str, str, str], bytes] = field(default_factory=dict)  # (path, body as JSON, idempotency key)
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def run(self, number: int) -> None:
        """One client thread, until `stopping`."""
        rng = random.Random(f"{self.seed}/{number}")
        operations: list[Callable[[random.Random, str], None]] = [
            self._add, self._add, self._steps, self._transfer, self._nap, self._tell, self._wait, self._once,
        ]  # fmt: skip
        count = 0
        while not self.stopping.is_set():
            count += 1
            operation = rng.choice(operations)
            try:
                operation(rng, f"{number}-{count}")
                self._in_line(number)
            except (TimeoutError, AssertionError) as error:
                with self.lock:
                    self.problems.append(f"client {number}, operation {count} {operation.__name__}: {error}")
                return
            with self.lock:
                self.done[operation.__name__] += 1

    def _call(self, path: str, body: object, name: str) -> object:
        answer = self.client.request("POST", path, body, idempotency_key=name)
        assert answer.status == 200, f"{path}: {answer.status} {answer.body.decode()}"
        with self.lock:
            self.answers[path, json.dumps(body), name] = answer.body
        return answer.json()

    def _count(self, key: str, n: int) -> None:
        with self.lock:
            self.added[key] += n

    def _add(self, rng: random.Random, name: str) -> None:
        key = rng.choice(KEYS)
        told = self._call(f"/counter/{key}-sum/add", 1, name)
        assert isinstance(told, int)
        with self.lock:
            self.added[f"{key}-sum"] += 1
            self.seen[f"{key}-sum"].append(told)

    def _steps(self, rng: random.Random, name: str) -> None:
        told = self._call("/job/steps", name, name)
        assert isinstance(told, list)
        with self.lock:
            self.takes += [(name, step, take) for step, take in zip(("first", "second", "third"), told, strict=True)]

    def _transfer(self, rng: random.Random, name: str) -> None:
        source, target = rng.sample(KEYS, 2)
        self._call("/job/transfer", {"source": source, "target": target}, name)
        self._count(source, -1)
        self._count(target, 1)

    def _nap(self, rng: random.Random, name: str) -> None:
        key = rng.choice(KEYS)
        self._call("/job/nap", key, name)
        self._count(key, 1)

    def _tell(self, rng: random.Random, name: str) -> None:
        key = rng.choice(KEYS)
        self._call("/job/tell", key, name)
        self._count(key, 1)

    def _wait(self, rng: random.Random, name: str) -> None:
        """Start it, find the awakeable's id, resolve it (twice: the second must change nothing), fetch the result."""
        sent = self.client.request("POST", "/job/wait/send", name, idempotency_key=name)
        assert sent.status == 202, sent
        told = sent.json()
        assert isinstance(told, dict)
        awakeable = self._poll_mailbox(name)
        for number in (7, 8):
            resolved = self.client.request("POST", f"/restate/awakeables/{awakeable}/resolve", number)
            assert resolved.status == 202, resolved
        result = self.client.request("GET", f"/restate/invocation/{told['invocationId']}/attach")
        assert (result.status, result.json()) == (200, 7), result

    def _poll_mailbox(self, name: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text = self.client.request("GET", f"/mailbox/{name}/text").json()
            if text:
                return str(text)
            time.sleep(0.02)
        raise TimeoutError(f"the awakeable of {name} never arrived in the mailbox")

    def _once(self, rng: random.Random, name: str) -> None:
        """Two clients start the same workflow; it runs once and both are told the same."""
        results: list[Answer] = []
        for _ in range(2):
            sent = self.client.request("POST", f"/once/{name}/run/send", "once")
            assert sent.status == 202, sent
            results.append(self.client.request("GET", f"/restate/workflow/once/{name}/attach"))
        assert results[0].status == 200, results
        assert results[0] == results[1], results
        with self.lock:
            self.added["once"] += 1
            self.takes.append((name, "once", str(results[0].json())))

    def _in_line(self, number: int) -> None:
        """One-way calls to one object, each sent when the one before was accepted: they must run in that order."""
        item = self.lines[f"line-{number}"]
        sent = self.client.request(
            "POST", f"/line/line-{number}/append/send", item, idempotency_key=f"line-{number}-{item}"
        )
        assert sent.status == 202, sent
        with self.lock:
            self.lines[f"line-{number}"] += 1

    # ------------------------------------------------------------ afterwards

    def check(self, happened: set[tuple[str, str, str]]) -> list[str]:
        """What is wrong. ``happened``: (name, step, take) of every line in the effects file."""
        wrong = list(self.problems)
        wrong += [f"told of take {take}, which never happened" for take in self.takes if take not in happened]
        for key, values in self.seen.items():
            if sorted(values) != list(range(1, len(values) + 1)):
                wrong.append(f"counter {key} answered {sorted(values)}: an increment was lost or doubled")
        wrong += self._settle(self._wrong_counters)
        wrong += self._settle(self._wrong_lines)
        return wrong + self._wrong_repeats()

    def _settle(self, check: Callable[[], list[str]], seconds: float = 30.0) -> list[str]:
        """One-way calls may still be under way: wait for them, but not for ever."""
        deadline = time.monotonic() + seconds
        while (wrong := check()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return wrong

    def _wrong_counters(self) -> list[str]:
        found = {key: self.client.request("GET", f"/counter/{key}/value").json() for key in self.added}
        return [f"counter {k} holds {found[k]} instead of {n}" for k, n in self.added.items() if found[k] != n]

    def _wrong_lines(self) -> list[str]:
        found = {key: self.client.request("GET", f"/line/{key}/items").json() for key in self.lines}
        return [
            f"{k} holds {found[k]}, sent were {n} in order" for k, n in self.lines.items() if found[k] != [*range(n)]
        ]

    def _wrong_repeats(self) -> list[str]:
        """Asking again with the same idempotency key is answered with the stored result, and changes nothing."""
        wrong = []
        sample = random.Random(self.seed).sample(sorted(self.answers.items()), min(40, len(self.answers)))
        for (path, body, name), first in sample:
            again = self.client.request("POST", path, json.loads(body), idempotency_key=name)
            if again.body != first:
                wrong.append(f"{path} with key {name} answered {first!r}, then {again.body!r}")
        return wrong + self._wrong_counters()

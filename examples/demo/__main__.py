"""``make demo``: a few hundred durable workflows, a kill -9 of the app, a kill -9 of the node, and the accounts.

Exits with 1 when anything was lost or doubled.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from examples.demo import processes
from examples.demo.audit import Audit, Outcome, audit
from examples.demo.client import Answer, Client
from examples.podcast.outside import Ledger

EPISODES = 300
SHOWS = 8
CLIENTS = 32
REJECTED_EVERY = 10
DOWN_SECONDS = 0.5
SECONDS_MAX = 55.0
WORK = processes.ROOT / ".demo"

console = Console(highlight=False)


@dataclass
class Progress:
    """What the clients have seen so far; written by their threads."""

    began: float = field(default_factory=time.monotonic)
    accepted: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - self.began:5.1f} s[/]  {text}")


def produce(client: Client, progress: Progress, number: int) -> None:
    """One episode from the client's side: start it, let the editor decide, fetch the outcome."""
    key, show = f"episode-{number}", f"show-{number % SHOWS}"
    approved = number % REJECTED_EVERY != 0
    job = {"show": show, "title": f"Episode {number}", "cents": 500}
    started = client.request("POST", f"/episode/{key}/run/send", job)  # once per key, however often it is sent
    if started.status != 202:
        progress.problems.append(f"{key}: {started.status} {started.body.decode()}")
        return
    progress.accepted[key] = show
    client.request("POST", f"/episode/{key}/review", approved, idempotency_key=f"review-{key}")
    outcome = client.request("GET", f"/restate/workflow/episode/{key}/attach")
    verdict = read_outcome(show, outcome)
    if verdict is None or verdict.published != approved:
        progress.problems.append(f"{key}: {outcome.status} {outcome.body.decode()}")
    else:
        progress.outcomes[key] = verdict


def read_outcome(show: str, answer: Answer) -> Outcome | None:
    if answer.status == 422:
        return Outcome(show, published=False)
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict):
        return None
    return Outcome(show, True, int(body["number"]), dict(body["takes"]))


@contextmanager
def running(directory: Path) -> Iterator[tuple[processes.Process, processes.Process, int]]:
    port = processes.free_ports(processes.PORTS_PER_NODE + 1)
    node = processes.node_process(directory, port)
    app = processes.app_process(
        "examples.podcast.app", directory, port + processes.PORTS_PER_NODE, PODCAST_DIRECTORY=str(directory)
    )
    try:
        node.start()
        app.start()
        processes.wait_until_healthy(node, port)
        processes.register(port + 1, f"127.0.0.1:{port + processes.PORTS_PER_NODE}")
        yield node, app, port
    finally:
        app.stop()
        node.stop()


def wait_for(progress: Progress, clients: threading.Thread, completed: int) -> None:
    """Until so many episodes are completed (or all clients have ended), with a line now and then."""
    shown = time.monotonic()
    while len(progress.outcomes) < completed and clients.is_alive():
        time.sleep(0.02)
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            progress.say(f"accepted {len(progress.accepted)}, completed {len(progress.outcomes)} of {EPISODES}")


def drive(progress: Progress, client: Client) -> threading.Thread:
    def work() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for future in [pool.submit(produce, client, progress, number) for number in range(EPISODES)]:
                try:
                    future.result()
                except TimeoutError as error:
                    progress.problems.append(str(error))

    thread = threading.Thread(target=work, name="clients")
    thread.start()
    return thread


def kill_and_restart(
    progress: Progress, clients: threading.Thread, node: processes.Process, app: processes.Process
) -> None:
    """The app is killed when a third is done, the node when two thirds are."""
    wait_for(progress, clients, EPISODES // 3)
    progress.say(f"[bold red]kill -9 {app.pid}[/]: the app is gone, in the middle of its handlers")
    app.kill()
    time.sleep(DOWN_SECONDS)
    app.start()
    progress.say("app started again")

    wait_for(progress, clients, EPISODES * 2 // 3)
    progress.say(f"[bold red]kill -9 {node.pid}[/]: the node is gone, with all that was in its memory")
    node.kill()
    time.sleep(DOWN_SECONDS)
    node.start()
    progress.say("node started again on its data")


def run_demo(directory: Path, progress: Progress) -> tuple[Audit, float]:
    progress.say("starting a node and the podcast app, each in a process of its own")
    with running(directory) as (node, app, port):
        progress.say(f"registered; {CLIENTS} clients now produce {EPISODES} episodes")
        began = time.monotonic()
        client = Client(port, progress.began + SECONDS_MAX)
        clients = drive(progress, client)
        try:
            kill_and_restart(progress, clients, node, app)
            wait_for(progress, clients, EPISODES)
        except BaseException:
            client.give_up()
            raise
        finally:
            clients.join()
        seconds = time.monotonic() - began
        progress.say(f"all have their answers, after {client.retries} retries; now the accounts")
        counts = {f"show-{n}": count_episodes(client, f"show-{n}") for n in range(SHOWS)}
    effects, payments = Ledger(directory / "effects.jsonl"), Ledger(directory / "payments.jsonl")
    return audit(progress.accepted, progress.outcomes, effects.rows(), payments.rows(), counts), seconds


def count_episodes(client: Client, show: str) -> int:
    value = client.request("GET", f"/show/{show}/episodes").json()
    return value if isinstance(value, int) else 0


def show(result: Audit, seconds: float, problems: list[str]) -> None:
    table = Table(title="After kill -9 of the app and of the node")
    table.add_column("what")
    table.add_column("count", justify="right")
    bad = "[bold red]" if not result.clean else "[bold green]"
    for name, value in (
        ("invocations accepted", str(result.accepted)),
        ("invocations completed", str(result.completed)),
        ("steps executed", str(result.steps_executed)),
        ("steps repeated (their first run was cut off)", str(result.steps_repeated)),
        ("effects doubled", f"{bad}{len(result.doubled)}[/]"),
        ("effects lost", f"{bad}{len(result.lost)}[/]"),
        ("duration", f"{seconds:.1f} s"),
    ):
        table.add_row(name, value)
    console.print(table)
    for line in [*result.doubled, *result.lost, *problems][:20]:
        console.print(f"[red]{line}[/]")


def main() -> int:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    progress = Progress()
    try:
        result, seconds = run_demo(WORK, progress)
    except (RuntimeError, OSError, grpc.RpcError) as error:
        console.print(f"[bold red]failed[/]; data and logs are in {WORK}\n{error}")
        return 1
    show(result, seconds, progress.problems)
    if not result.clean or progress.problems or result.completed != EPISODES:
        console.print(f"[bold red]failed[/]; data and logs are in {WORK}")
        return 1
    shutil.rmtree(WORK)
    return 0


if __name__ == "__main__":
    sys.exit(main())

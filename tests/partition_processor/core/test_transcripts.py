"""Golden transcripts of the state machine: what a script of log entries leads to, reviewed as a diff.

``HOLDFAST_REWRITE_TRANSCRIPTS=1 pytest tests/partition_processor/core`` writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast_partition_processor import command as c
from tests.partition_processor.core.script import rewrite

DIRECTORY = Path(__file__).resolve().parents[2] / "transcripts" / "processor"
TRANSCRIPTS = sorted(DIRECTORY.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_state_machine_does_what_its_transcript_says(path: Path) -> None:
    written = path.read_text()
    now = rewrite(written)
    if os.environ.get("HOLDFAST_REWRITE_TRANSCRIPTS"):
        path.write_text(now)
    else:
        assert now == written


def test_every_command_stands_in_a_transcript() -> None:
    verbs = {
        c.Invoke: "invoke ",
        c.Effects: "effects ",
        c.AttemptFailed: "failed ",
        c.TimerFired: "fire",
        c.NotifySignal: "signal ",
        c.Cancel: "cancel ",
        c.Kill: "kill ",
        c.Purge: "purge ",
        c.EditState: "edit ",
        c.InvocationResponse: "response ",
        c.Attach: "attach ",
        c.Ingest: "ingest ",
        c.OutboxShipped: "shipped ",
        c.RegisterDeployment: "register ",
        c.RemoveDeployment: "remove ",
    }
    assert set(verbs) == set(c.Command.__args__)
    lines = [line for path in TRANSCRIPTS for line in path.read_text().splitlines()]
    missing = [verb for verb in verbs.values() if not any(verb in line for line in lines if line[:1] not in "# ")]
    assert not missing


def test_a_changed_row_changes_the_transcript() -> None:
    script = 'invoke a greeter/greet "Ada"\n'
    written = rewrite(script)
    assert rewrite(written) == written, "running it again gives the same"
    assert rewrite(written.replace("Ada", "Bob")) != written

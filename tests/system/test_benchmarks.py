"""The benchmark runs and prints the rows that it promises. How fast is not tested: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from examples.demo.processes import ROOT

pytestmark = pytest.mark.slow

KEYS = {
    "workload", "transport", "nodes", "in_flight", "calls_per_s", "p50_ms", "p95_ms", "p99_ms",
    "node_cpu_us", "app_cpu_us", "node_rss_mib",
}  # fmt: skip


def test_invoke_prints_one_json_object_per_row() -> None:
    command = [sys.executable, "benchmarks/invoke.py", "--json", "--stored-keys", "2000"]
    command += ["--seconds", "0.3", "--warm-up", "0.1", "--in-flight", "1", "16"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(rows) == 4 * 2 * 2, "workloads, transports, in flight"
    for row in rows:
        assert set(row) == KEYS
        assert row["calls_per_s"] > 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["node_rss_mib"] > 1

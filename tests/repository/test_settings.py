"""docs/operations.md lists exactly the settings that exist. HOLDFAST_WRITE_DOCS=1 writes the table anew."""

from __future__ import annotations

import os

from holdfast_cluster.config_loading import describe
from tests.repository.sources import ROOT

DOCUMENT = ROOT / "docs" / "operations.md"
BEGIN = "<!-- settings: written by tests/repository/test_settings.py -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    lines = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for key in describe():
        allowed = key.allowed.replace("|", "\\|")
        default = f"`{key.default}`" if key.default else ""
        lines.append(f"| `{key.name}` | {default} | {allowed} | {key.meaning} |")
    return "\n".join(lines) + "\n"


def test_the_documented_settings_are_those_that_exist() -> None:
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    listed, end, after = rest.partition(END)
    assert begin, f"{DOCUMENT} has lost the line {BEGIN}"
    assert end, f"{DOCUMENT} has lost the line {END}"
    if os.environ.get("HOLDFAST_WRITE_DOCS"):
        DOCUMENT.write_text(before + BEGIN + table() + END + after)
        return
    assert listed == table(), "run this test with HOLDFAST_WRITE_DOCS=1 and look at the difference"

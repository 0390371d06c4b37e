"""The code blocks of the documents, and what is to be done with each.

A comment on the line before a fence says it; without one, python is executed and sh is run beside a node:

=====================================  ==============================================================
``<!-- doc: endpoint -->``             python: handlers; gathered per document and served to the others
``<!-- doc: client -->``               python: a program that uses the document's handlers
``<!-- doc: file NAME -->``            written under that name before sh blocks run
``<!-- doc: background -->``           sh: one command that goes on running, e.g. ``holdfast dev``
``<!-- doc: output -->``               what the block before prints (white space apart)
``<!-- doc: skip: REASON -->``         not run
=====================================  ==============================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.repository.sources import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = {"python", "sh"}
MARKS = {"", "endpoint", "client", "file", "background", "output", "skip"}

_FENCE = re.compile(r"^```(\w*)\s*$")
_MARK = re.compile(r"^<!-- doc: (.+?) -->$")


@dataclass(frozen=True)
class Block:
    document: Path
    line: int
    language: str
    mark: str
    argument: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    found: list[Block] = []
    lines = document.read_text().splitlines()
    position = 0
    while position < len(lines):
        fence = _FENCE.match(lines[position])
        if fence is None:
            position += 1
            continue
        end = lines.index("```", position + 1)
        mark = _MARK.match(lines[position - 1]) if position else None
        kind, _, argument = mark[1].replace(":", "", 1).partition(" ") if mark else ("", "", "")
        text = "\n".join(lines[position + 1 : end]) + "\n"
        found.append(Block(document, position + 1, fence[1], kind, argument, text))
        position = end + 1
    return found


def handlers(document: Path) -> str:
    """The python of all endpoint blocks: the document's handlers as one module."""
    return "\n".join(block.text for block in blocks(document) if block.mark == "endpoint")

"""What the documents show is there: python compiles and runs, marks are known. tests/system runs the rest for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repository.documents import CODE, DOCUMENTS, MARKS, Block, blocks, handlers

ALL = [block for document in DOCUMENTS for block in blocks(document)]


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_blocks_are_marked_in_a_way_that_means_something(block: Block) -> None:
    assert block.mark in MARKS, f"{block.place}: unknown mark {block.mark!r}"
    assert block.mark != "skip" or len(block.argument) > 10, f"{block.place}: a skipped block says why"
    if block.mark not in ("", "output"):
        assert block.language in CODE, f"{block.place}: {block.language} can't be {block.mark}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_handlers_of_a_document_can_be_defined(document: Path) -> None:
    exec(compile(handlers(document), document.name, "exec"), {"__name__": "document"})  # noqa: S102 - the repository's own text


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.language == "python" and b.mark in ("", "file")], ids=lambda block: block.place
)
def test_python_runs(block: Block) -> None:
    """What stands under ``if __name__ == "__main__"`` is left to tests/system."""
    exec(compile(block.text, block.place, "exec"), {"__name__": "document"})  # noqa: S102 - the repository's own text


@pytest.mark.parametrize("block", [b for b in ALL if b.mark == "client"], ids=lambda block: block.place)
def test_client_programs_compile(block: Block) -> None:
    compile(block.text, block.place, "exec")

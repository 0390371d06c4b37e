"""Fixtures: a site that is empty, and one with a running node. Logs are shown when a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.site import Site, create


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Nothing runs yet: ``site.start_node()``."""
    made = create(tmp_path)
    try:
        yield made
    finally:
        made.close()
        print(made.logs())  # pytest shows it for a failed test only


@pytest.fixture
def running(site: Site) -> Site:
    site.start_node()
    return site

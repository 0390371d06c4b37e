from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests share driver.py; the folders of tests are no packages

from driver import Driver

MakeDriver = Callable[..., Driver]


@pytest.fixture
async def make_driver() -> AsyncIterator[MakeDriver]:
    drivers: list[Driver] = []

    def make(*services: Any, **options: Any) -> Driver:
        drivers.append(Driver(services, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()

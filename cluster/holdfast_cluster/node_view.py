"""What the servers of a node may see of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from holdfast_cluster.config import Config
from holdfast_cluster.registry import Registry
from holdfast_cluster.router import Router
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.processor import PartitionProcessor


class NodeView(Protocol):
    config: Config
    started_at_ms: int

    @property
    def processors(self) -> Mapping[int, PartitionProcessor]: ...
    @property
    def catalog(self) -> Catalog: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def router(self) -> Router: ...

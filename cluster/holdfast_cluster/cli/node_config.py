"""From the flags of `server` and `dev` to a node's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast_cluster.cli.failure import USAGE, CommandFailed
from holdfast_cluster.config import Config
from holdfast_cluster.config_loading import ConfigError, load


def load_config(
    config_file: str | None,
    port_base: int | None,
    log_level: str | None,
    settings: Sequence[str],
    flags: Mapping[str, object],
) -> Config:
    """``settings`` are texts like "node.partitions=8"; ``flags`` hold None for what was not given.
    Raises CommandFailed."""
    overrides: dict[str, object] = dict(_setting(text) for text in settings)
    overrides |= {"listen.port_base": port_base, "logging.level": log_level, **flags}
    try:
        return load(config_file, overrides=overrides)
    except ConfigError as error:
        raise CommandFailed(str(error), USAGE) from None


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandFailed(
            f"--set {text!r} is not of the form section.name=value; `holdfast config` lists them", USAGE
        )
    return name.strip(), value.strip()

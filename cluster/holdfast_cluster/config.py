"""What a node can be told: flags, over HOLDFAST_ environment variables, over defaults."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path


class ConfigError(ValueError):
    """Names the setting, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Config:
    data_dir: Path = field(default=Path(".holdfast"), metadata={"help": "where the node keeps everything"})
    cluster: str = field(default="holdfast", metadata={"help": "name of the cluster"})
    node: str = field(default="node-1", metadata={"help": "name of this node, unique in the cluster"})
    host: str = field(default="127.0.0.1", metadata={"help": "address that the listeners bind to"})
    http_port: int = field(default=8080, metadata={"help": "HTTP ingress"})
    grpc_port: int = field(default=8081, metadata={"help": "gRPC: ingress, admin, health, reflection"})
    partitions: int = field(default=4, metadata={"help": "number of partitions, fixed at the first start"})
    request_timeout_seconds: float = field(
        default=900.0, metadata={"help": "longest time that a client is kept waiting for a result"}
    )
    body_bytes_max: int = field(default=32 * 1024 * 1024, metadata={"help": "largest body of a request"})

    def validated(self) -> Config:
        """Raises ConfigError."""
        for name, low, high in (
            ("http_port", 0, 65535),
            ("grpc_port", 0, 65535),
            ("partitions", 1, 1024),
            ("request_timeout_seconds", 0.001, 86_400),
            ("body_bytes_max", 1, 32 * 1024 * 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}, allowed are {low} to {high}")
        return self


DEFAULTS = Config()


def load(environment: dict[str, str], overrides: dict[str, object]) -> Config:
    """Raises ConfigError: also for a HOLDFAST_ variable that is not a setting, with the names that are."""
    values: dict[str, object] = {}
    kinds = {f.name: type(getattr(DEFAULTS, f.name)) for f in fields(Config)}
    for name, kind in kinds.items():
        text = environment.get(f"HOLDFAST_{name.upper()}")
        if text is not None:
            try:
                values[name] = Path(text) if name == "data_dir" else kind(text)
            except ValueError as error:
                raise ConfigError(f"HOLDFAST_{name.upper()} is {text!r}: {error}") from error
    values.update({name: value for name, value in overrides.items() if value is not None})
    return replace(Config(), **values).validated()  # type: ignore[arg-type]

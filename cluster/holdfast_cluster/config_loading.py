"""Reads a `Config` from a TOML file, the environment and flags, and says exactly what is wrong with what it finds."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec

from holdfast_cluster.config import Config, Section
from holdfast_cluster.quantity import BadQuantity, format_duration, format_size, parse_duration, parse_size

ENVIRONMENT_PREFIX = "HOLDFAST_"


class ConfigError(Exception):
    """Names the key, the value, where it was found, and what is allowed."""

    def __init__(self, key: str, value: object, where: str, allowed: str) -> None:
        shown = key if value is None else f"{key} = {value!r}"
        super().__init__(f"{where}: {shown}: {allowed}")
        self.key = key
        self.value = value
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. ``kind``: duration, size, integer, number, text, or the words to choose from."""

    name: str
    section: str
    field: str
    kind: str
    default: str
    allowed: str
    meaning: str
    hint: Any  # its type with all annotations

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()


def describe() -> tuple[Key, ...]:
    """All keys, in the order of the documentation."""
    return tuple(_keys().values())


def load(
    path: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """``overrides`` are flags by key, as text or as the right type; None there means that the flag was not given.
    ``env`` is the process' environment unless given. Raises ConfigError."""
    values: dict[str, dict[str, object]] = {}
    if path is not None:
        _read_file(Path(path), values)
    _read_environment(os.environ if env is None else env, values)
    for name, value in (overrides or {}).items():
        if value is not None:
            key = _known(name, value, "flag")
            _set(values, key, value, f"flag {name}", from_text=isinstance(value, str))
    config = msgspec.convert(values, Config)
    _check_ports(config)
    return config


def _check_ports(config: Config) -> None:
    listen = config.listen
    used: dict[int, str] = {}
    for name, port in (("http", listen.http), ("grpc", listen.grpc), ("admin", listen.admin)):
        if port > 65_535:
            raise ConfigError("listen.port_base", listen.port_base, "flags, environment and file", "65533 at most")
        if port in used and port != 0:
            raise ConfigError(
                f"listen.{name}_port", port, "flags, environment and file", f"listen.{used[port]}_port is the same"
            )
        used[port] = name


def _read_file(path: Path, values: dict[str, dict[str, object]]) -> None:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(str(path), None, "configuration file", f"can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), None, "configuration file", f"is not TOML: {error}") from error
    for section, table in document.items():
        if not isinstance(table, dict):
            _known(section, table, str(path))
            raise AssertionError("a key outside of a section is not known")
        for name, value in table.items():
            key = _known(f"{section}.{name}", value, str(path))
            _set(values, key, value, str(path), from_text=False)


def _read_environment(env: Mapping[str, str], values: dict[str, dict[str, object]]) -> None:
    """Variables of a section are checked; others that begin with HOLDFAST_ belong to the SDK and the CLI."""
    by_variable = {key.variable: key for key in describe()}
    sections = tuple(f"{ENVIRONMENT_PREFIX}{section.upper()}_" for section in Config.__struct_fields__)
    for variable, text in env.items():
        key = by_variable.get(variable)
        if key is not None:
            _set(values, key, text, f"environment variable {variable}", from_text=True)
        elif variable.startswith(sections):
            raise ConfigError(variable, text, "environment", f"no such setting{_advice(variable, by_variable)}")


def _known(name: str, value: object, where: str) -> Key:
    key = _keys().get(name)
    if key is None:
        raise ConfigError(name, value, where, f"no such setting{_advice(name, _keys())}")
    return key


def _advice(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _set(values: dict[str, dict[str, object]], key: Key, value: object, where: str, *, from_text: bool) -> None:
    try:
        plain = _plain(key, value, from_text)
        values.setdefault(key.section, {})[key.field] = msgspec.convert(plain, key.hint, strict=not from_text)
    except (BadQuantity, msgspec.ValidationError) as error:
        why = str(error) if isinstance(error, BadQuantity) else f"must be {key.allowed}"
        raise ConfigError(key.name, value, where, why) from None


def _plain(key: Key, value: object, from_text: bool) -> object:
    """Raises BadQuantity."""
    if key.kind in ("duration", "size"):
        if not isinstance(value, str):
            raise BadQuantity("a unit is missing: " + ("500ms, 60s, 15m" if key.kind == "duration" else "64KiB, 32MiB"))
        return parse_duration(value) if key.kind == "duration" else parse_size(value)
    if key.kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value.strip() if from_text and isinstance(value, str) else value


# ---------------------------------------------------------------- the keys


@cache
def _keys() -> dict[str, Key]:
    found: dict[str, Key] = {}
    for section, kind in get_type_hints(Config).items():
        assert issubclass(kind, Section), f"{section} is not a section"
        for field, hint in get_type_hints(kind, include_extras=True).items():
            key = _key(section, field, hint, kind.__struct_defaults__[kind.__struct_fields__.index(field)])
            found[key.name] = key
    return found


def _key(section: str, field: str, hint: Any, default: Any) -> Key:
    base, *notes = get_args(hint)
    meta: list[msgspec.Meta] = [note for note in notes if isinstance(note, msgspec.Meta)]
    for part in get_args(base):  # Annotated below Optional: Port | None
        meta += [note for note in get_args(part)[1:] if isinstance(note, msgspec.Meta)]
    name, kind, show = _kind(field, base)
    meaning = next((note.description for note in meta if note.description), None)
    assert meaning, f"{section}.{name} has no description"
    allowed = _allowed(kind, meta, show)
    shown = "" if default is None else show(default)
    return Key(f"{section}.{name}", section, field, kind, shown, allowed, meaning, hint)


def _kind(field: str, base: Any) -> tuple[str, str, Any]:
    """Name of the key, kind, and how a value of it is shown."""
    if field.endswith("_ms"):
        return field.removesuffix("_ms"), "duration", format_duration
    if field.endswith("_bytes"):
        return field.removesuffix("_bytes"), "size", format_size
    choices = [choice for choice in get_args(base) if isinstance(choice, str)]
    if choices:
        return field, " or ".join(choices), str
    types = {base, *get_args(base)} - {NoneType}
    if float in types:
        return field, "number", str
    return field, "text" if str in types else "integer", str


def _allowed(kind: str, meta: list[msgspec.Meta], show: Any) -> str:
    for note in meta:
        if note.ge is not None and note.le is not None:
            return f"a {kind} from {show(note.ge)} to {show(note.le)}".replace("a integer", "an integer")
        if note.pattern is not None:
            return f"a {kind} that matches {note.pattern}"
        if note.min_length:
            return f"a {kind} that is not empty"
    return kind

"""Who may import whom: the table of docs/ARCHITECTURE.md, read from the imports themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repository.sources import PACKAGES, Module, imports, modules

MAY_IMPORT = {
    "holdfast_proto": set[str](),
    "holdfast_log": {"holdfast_proto"},
    "holdfast_partition_processor": {"holdfast_log", "holdfast_proto"},
    "holdfast_cluster": {"holdfast_partition_processor", "holdfast_log", "holdfast_proto"},
    "holdfast": {"holdfast_proto"},
}

# `holdfast dev` runs the user's app, in a process of its own that needs the SDK; `holdfast call` speaks plain gRPC.
EXCEPTIONS = {("holdfast_cluster.cli.dev_worker", "holdfast")}

# Where the IO is. In the first three packages every other module is core; in the last two the core is listed.
SHELL = {
    "holdfast_proto": set[str](),
    "holdfast_log": {"disk", "identity", "journal", "multi_raft"},
    "holdfast_partition_processor": {
        "discovery",
        "endpoint_session",
        "invoker",
        "leadership",
        "outbox",
        "processor",
        "store",
        "timers",
    },
}
CORE = {
    "holdfast_cluster": set[str](),
    "holdfast": {"errors", "replay", "retry_policy", "serde"},
}

# Clocks, sockets, files, threads, randomness, and what brings them along.
IO_MODULES = {
    "asyncio", "concurrent", "grpc", "http", "httptools", "io", "lmdb", "multiprocessing", "os", "pathlib",
    "prometheus_client", "pysyncobj", "queue", "random", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uvloop", "watchfiles",
}  # fmt: skip

ONE_FILE_ONLY = ("lmdb", "pysyncobj", "prometheus_client")


def is_core(module: Module) -> bool:
    if not module.name:
        return False  # a package's __init__ gathers names of both kinds
    if module.package in CORE:
        return module.name in CORE[module.package]
    return module.name not in SHELL[module.package]


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.title)
def test_a_package_imports_only_those_below_it(module: Module) -> None:
    ours = {top(name) for name in imports(module.path)} & set(PACKAGES) - {module.package}
    forbidden = {name for name in ours - MAY_IMPORT[module.package] if (module.title, name) not in EXCEPTIONS}
    assert not forbidden, f"{module.title} imports {sorted(forbidden)}, allowed are {MAY_IMPORT[module.package]}"


@pytest.mark.parametrize("module", [m for m in modules() if is_core(m)], ids=lambda module: module.title)
def test_core_modules_do_no_io(module: Module) -> None:
    used = {top(name) for name in imports(module.path)} & IO_MODULES
    assert not used, f"{module.title} is core (values in, values out) but imports {sorted(used)}"


@pytest.mark.parametrize("module", [m for m in modules() if is_core(m)], ids=lambda module: module.title)
def test_core_modules_do_not_import_shell_modules(module: Module) -> None:
    known = {m.title: m for m in modules()}
    used = imports(module.path, at_run_time_only=True) & set(known)
    shell = {name for name in used if known[name].name and not is_core(known[name])}
    assert not shell, f"{module.title} is core but imports the shell module {sorted(shell)}"


@pytest.mark.parametrize("library", ONE_FILE_ONLY)
def test_only_one_file_imports(library: str) -> None:
    users = [module.title for module in modules() if library in {top(name) for name in imports(module.path)}]
    assert len(users) <= 1, f"{library} is imported by {users}; keep it behind one module"


def test_lists_name_modules_that_exist() -> None:
    """A renamed module must not slip out of the rules by a name that nothing has any more."""
    known = {(module.package, module.name) for module in modules()}
    listed = {(package, name) for table in (SHELL, CORE) for package, names in table.items() for name in names}
    assert not listed - known, f"listed but not there: {sorted(listed - known)}"


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    source = tmp_path / "sample.py"
    source.write_text(
        "import a.b\nfrom c import d\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import e\nelse:\n    import f\ndef g():\n    import h\n"
    )
    assert {"a.b", "c", "c.d", "e", "f", "h"} <= imports(source)
    assert "e" not in imports(source, at_run_time_only=True)

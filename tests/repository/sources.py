"""The product's source files and what they import, read without running them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "holdfast_proto": ROOT / "proto" / "holdfast_proto",
    "holdfast_log": ROOT / "log" / "holdfast_log",
    "holdfast_partition_processor": ROOT / "partition_processor" / "holdfast_partition_processor",
    "holdfast_cluster": ROOT / "cluster" / "holdfast_cluster",
    "holdfast": ROOT / "sdk" / "holdfast",
}


@dataclass(frozen=True)
class Module:
    """``name`` is relative to the package: "state_machine", "entries.call", "" for the package itself."""

    package: str
    name: str
    path: Path

    @property
    def title(self) -> str:
        return f"{self.package}.{self.name}".rstrip(".")


def modules() -> list[Module]:
    found = []
    for package, directory in PACKAGES.items():
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).with_suffix("").parts
            if "_pb2" not in path.name:
                found.append(Module(package, ".".join(part for part in parts if part != "__init__"), path))
    return found


def imports(path: Path, *, at_run_time_only: bool = False) -> set[str]:
    """Full names of the imported modules; of ``from a import b`` both ``a`` and ``a.b``, since b may be a module.
    ``at_run_time_only`` leaves out what stands under ``if TYPE_CHECKING``."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and at_run_time_only and ast.unparse(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
    return found

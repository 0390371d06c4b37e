"""Regenerate the protobuf stubs beside their .proto files; with --check, fail when they are stale.

Run it from the repository root: ``python proto/generate.py``. The generator version is pinned in pyproject.toml
(grpcio-tools 1.78.0), because stubs of that generation run on protobuf 6 and 7.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROTO_ROOT = Path(__file__).resolve().parent
PACKAGE = "holdfast_proto"


def generate(into: Path) -> list[Path]:
    """Write the stubs of every .proto below ``into`` and return their paths relative to it."""
    sources = sorted(str(p.relative_to(PROTO_ROOT)) for p in (PROTO_ROOT / PACKAGE).glob("*.proto"))
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO_ROOT}",
        f"--python_out={into}", f"--grpc_python_out={into}", f"--mypy_out={into}", f"--mypy_grpc_out={into}",
        *sources,
    ]  # fmt: skip
    # protoc looks for its mypy plugins on the PATH; they lie beside the interpreter that has them installed.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(command, check=True, cwd=PROTO_ROOT, env={**os.environ, "PATH": path})
    return sorted(p.relative_to(into) for p in (into / PACKAGE).glob("*_pb2*.py*"))


def stale(fresh_root: Path, fresh: list[Path]) -> list[str]:
    committed = sorted(p.relative_to(PROTO_ROOT) for p in (PROTO_ROOT / PACKAGE).glob("*_pb2*.py*"))
    names = {str(p) for p in committed} ^ {str(p) for p in fresh}
    for path in set(committed) & set(fresh):
        if (PROTO_ROOT / path).read_text() != (fresh_root / path).read_text():
            names.add(str(path))
    return sorted(names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed stubs, write nothing")
    if not parser.parse_args().check:
        print("\n".join(str(p) for p in generate(PROTO_ROOT)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        names = stale(Path(scratch), generate(Path(scratch)))
    for name in names:
        print(f"stale stub: proto/{name}; run `python proto/generate.py`", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())

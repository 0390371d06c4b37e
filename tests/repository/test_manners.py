"""The repository's own manners: sizes, leftovers, typing marks, and the two commands of the README."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.repository.sources import PACKAGES, ROOT, modules

LINES_MAX = 500
LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|except Exception:\s*pass|except:\s")


def tracked_files(suffix: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", f"*{suffix}"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:  # an unpacked source archive
        return [path for path in ROOT.rglob(f"*{suffix}") if ".venv" not in path.parts]
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_no_file_grows_beyond_what_people_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked_files(".py")
        if "_pb2" not in path.name and (lines := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert not long, f"over {LINES_MAX} lines; split by noun: {long}"


def test_no_leftovers_in_the_product() -> None:
    found = []
    for module in modules():
        for number, line in enumerate(module.path.read_text().splitlines(), 1):
            if LEFTOVERS.search(line):
                found.append(f"{module.path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_marked_as_typed_and_shipped(package: str) -> None:
    directory = PACKAGES[package]
    assert (directory / "py.typed").exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert str(directory.relative_to(ROOT)) in shipped


def test_every_module_says_what_it_is() -> None:
    silent = [
        module.title
        for module in modules()
        if module.path.read_text().strip() and not module.path.read_text().lstrip().startswith(('"""', 'r"""'))
    ]
    assert not silent, f"without a docstring at the top: {silent}"


def test_the_two_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in ("demo", "test"):
        assert f"make {command}" in readme
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & 0o111, ".ci/run is not executable"
    assert "make test" in run.read_text()


@pytest.mark.parametrize("target", ["help", "demo", "test", "bench", "lint", "proto", "format", "clean"])
def test_make_targets_parse(target: str) -> None:
    listed = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr


def test_local_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for document in tracked_files(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)

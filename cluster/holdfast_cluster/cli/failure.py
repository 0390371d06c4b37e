"""How a command fails: one line on stderr that says what to do, and an exit code for scripts."""

from __future__ import annotations

from typing import IO, Any

import click

FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNAVAILABLE = 4


class CommandFailed(click.ClickException):
    """``message`` is for people; ``exit_code`` for programs."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # declared as the same for all in click

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"holdfast: {self.message}", file=file, err=True)

"""The command `ivos` as a user runs it, in the test's own process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from ls_backend.cli.main import app


def ivos(*words: str | Path) -> Result:
    """Run the command with a screen wide enough that no message is wrapped."""
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "400"})


def check_refused(result: Result, message: str) -> None:
    """The command ended with one line that says why."""
    assert result.exit_code == 1
    assert message in result.output
    assert sum("error:" in line for line in result.output.splitlines()) == 1
    assert "Traceback" not in result.output

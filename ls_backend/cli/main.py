"""The command `ivos`. Each sub-command lives in a file of its own and is imported only when it runs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = ("demo", "serve", "export", "segment", "bench", "calibrate", "models")
"""Sub-commands. Each is a function, or a group of commands, in the module of its name beside this one."""


class LazyGroup(TyperGroup):
    """Imports a sub-command when it is called by name (or when help lists them all)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all sub-commands."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One sub-command, or None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"ls_backend.cli.{cmd_name}")
        command = getattr(module, cmd_name)
        if isinstance(command, typer.Typer):
            return typer.main.get_command(command)
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(command)
        return typer.main.get_command(single)


app = typer.Typer(name="ivos", cls=LazyGroup, no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Interactive video object segmentation inside Label Studio."""

"""The command `ivos`. Its sub-commands are imported only when they run; most of them are the pipeline's own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

import ls_backend.settings  # noqa: F401  # Every command knows the names of all settings.

COMMANDS = {
    "demo": "ls_backend.cli.demo",
    "serve": "ls_backend.cli.serve",
    "export": "ls_backend.cli.export",
    "segment": "pipeline.cli.segment",
    "bench": "pipeline.evaluation.bench",
    "calibrate": "pipeline.evaluation.zivos.calibrate",
    "models": "pipeline.cli.models",
}
"""The module of each sub-command. In it, a function or a group of commands has the sub-command's name."""


class LazyGroup(TyperGroup):
    """Imports a sub-command when it is called by name (or when help lists them all)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all sub-commands."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One sub-command, or None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = import_module(COMMANDS[cmd_name])
        command = getattr(module, cmd_name)
        if isinstance(command, typer.Typer):
            return typer.main.get_command(command)
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(command)
        return typer.main.get_command(single)


app = typer.Typer(name="ivos", cls=LazyGroup, no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root(context: typer.Context) -> None:
    """Interactive video object segmentation inside Label Studio."""
    from ls_backend.store.size import stored_bytes

    context.obj = stored_bytes

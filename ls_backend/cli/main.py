"""The command `ivos`. Its sub-commands are imported only when they run; most of them are the pipeline's own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from pipeline.session.session import Session

COMMANDS = {
    "demo": "ls_backend.cli.demo",
    "serve": "ls_backend.cli.serve",
    "export": "ls_backend.cli.export",
    "segment": "pipeline.cli.segment",
    "bench": "pipeline.evaluation.bench",
    "calibrate": "pipeline.evaluation.zivos.calibrate",
    "models": "pipeline.cli.models",
}
"""The module of each sub-command. It holds a function or a group of commands with the sub-command's name."""


class LazyGroup(TyperGroup):
    """Imports a sub-command when it is called, or when the help lists all."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all sub-commands."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The sub-command of this name, or None."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        import ls_backend.settings  # noqa: F401  # So that every command knows all IVOS_* names.

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
    context.obj = stored_bytes


def stored_bytes(session: Session) -> int:
    """How many bytes a store with only this session takes on disk. `ivos bench` measures it."""
    import tempfile

    from ls_backend.store.database import Database, store_address
    from ls_backend.store.records import EditorRecord, SessionRecord
    from ls_backend.store.session_store import SessionStore

    saved = session.saved()
    record = SessionRecord(
        project="1",
        task="1",
        urls_digest="",
        model_version="",
        opened_at_s=0.0,
        used_at_s=0.0,
        newest_round=1,
        labels={f"object {object_id}": object_id for object_id in saved},
        prompts=(),
        editor=EditorRecord(),
        objects=saved,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = SessionStore(Database(store_address("", Path(folder))), limit_mib=4096)
        try:
            store.write(None, record, None)
        finally:
            store.close()
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())

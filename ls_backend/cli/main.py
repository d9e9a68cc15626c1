"""The command `ivos`. Each sub-command lives in a file of its own and is imported only when it runs."""

from __future__ import annotations

import typer

app = typer.Typer(name="ivos", no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Interactive video object segmentation inside Label Studio."""

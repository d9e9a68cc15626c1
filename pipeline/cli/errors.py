"""How a command says that it cannot do what was asked."""

from __future__ import annotations

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from pipeline.settings import settings_message


def failed(error: BaseException) -> typer.Exit:
    """Say on standard error what went wrong, in one line, and give the exit to raise."""
    # pydantic's own text has several lines, and the values of settings in them.
    said = "; ".join(settings_message(error).splitlines()) if isinstance(error, ValidationError) else str(error)
    Console(stderr=True).print(f"[bold red]error:[/] {escape(said)}", highlight=False, soft_wrap=True)
    return typer.Exit(1)

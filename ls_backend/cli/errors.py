"""How a command says that it cannot do what was asked."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markup import escape


def failed(error: BaseException) -> typer.Exit:
    """Say on standard error what went wrong, in one line, and give the exit to raise."""
    Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    return typer.Exit(1)

"""`ivos serve`."""

from __future__ import annotations

import typer


def serve() -> None:
    """Serve the backend with the settings of the IVOS_* environment variables."""
    import os

    from pydantic import ValidationError

    from ls_backend.serving import gunicorn_command
    from ls_backend.sessions.repository import require_known_store
    from ls_backend.settings import current
    from pipeline.methods.choice import require_installed
    from pipeline.settings import settings_message

    try:
        settings = current()
        require_installed(settings.method_choice, settings.model_store)
        require_known_store(settings)
        command = gunicorn_command(settings)
    except ValidationError as error:
        typer.echo(f"ivos serve: the settings are not complete or not valid.\n{settings_message(error)}", err=True)
        raise typer.Exit(2) from None
    except ValueError as error:
        typer.echo(f"ivos serve: {error}", err=True)
        raise typer.Exit(2) from None
    # The server replaces this process, so signals reach it and its exit code is the command's.
    os.execv(command[0], command)

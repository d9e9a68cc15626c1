"""`ivos demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the demo keeps its data.", show_default="a folder in the user's cache"),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Label Studio's port.")] = 8080,
    backend_port: Annotated[int, typer.Option(min=1, max=65535, help="The backend's port.")] = 9090,
    video: Annotated[Path | None, typer.Option(help="Your own clip, a video file.")] = None,
    frames: Annotated[Path | None, typer.Option(help="Your own clip, a folder of images.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="An object's label; repeat it for more objects.", show_default="obj1, obj2"),
    ] = None,
) -> None:
    """Start Label Studio and the backend with a clip to click in. Ctrl-C stops both."""
    from rich.console import Console

    from ls_backend.demo.local_server import DemoError
    from ls_backend.demo.run import DemoOptions, Screen, default_data_dir, run_demo
    from pipeline.cli.stopping import Stopped, StopRequest

    folder = (data_dir or default_data_dir()).expanduser().absolute()
    options = DemoOptions(folder, port, backend_port, video, frames, tuple(label or ()))
    with StopRequest() as stop:
        screen = Screen(Console(), stop.check)
        try:
            run_demo(options, screen, stop)
        except Stopped:
            screen.line("Stopped; nothing is left running.")
        except DemoError as error:
            Screen(Console(stderr=True), stop.check).line(f"ivos demo: {error}")
            raise typer.Exit(1) from None

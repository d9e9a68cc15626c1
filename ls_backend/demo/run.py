"""One run of the demo, from the checks before anything heavy to the end of both servers."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from ls_backend.demo.backend_server import BackendServer, require_valid_settings
from ls_backend.demo.clips import DemoClip, clip_from_frames, clip_from_video, sample_clip
from ls_backend.demo.environment import label_studio_python
from ls_backend.demo.errors import DemoError
from ls_backend.demo.label_studio_server import LabelStudioServer
from ls_backend.demo.processes import Progress, require_free_port
from ls_backend.demo.project import DemoProject, demo_label_config, prepare_project
from ls_backend.demo.screen import Screen
from ls_backend.demo.secrets_file import DemoSecrets
from ls_backend.label_studio.api import LabelStudioAPI
from pipeline.cli.stopping import StopSignals

SECRETS_NAME = "secrets.json"
MANY_FRAMES = 300
"""From here on Label Studio's editor takes seconds to paint an answer."""

_WATCH_S = 0.25
_GUIDE = """
Open      {address}
Login     {email}
Password  {password}
Backend   {backend}
Data      {data_dir}

What to click
  1. Bottom bar: turn on Auto-Annotation and Auto-Accept Suggestions, then click once beside the picture.
  2. Press R, then the object's key in the row "Box" (a, s, ...), and draw a box around it: masks appear on all frames.
     To correct one: K, then its key in the row "Click" (1, 2, ...) before every click; Alt+click takes away, Ctrl+click
     works inside a mask.
  3. Press Submit.

Ctrl-C stops both servers; the next start continues with the same data."""


@dataclass(frozen=True)
class DemoOptions:
    """What the user asked for; at most one of ``video`` and ``frames``."""

    data_dir: Path
    port: int
    backend_port: int
    video: Path | None = None
    frames: Path | None = None
    labels: tuple[str, ...] = ()


def default_data_dir() -> Path:
    """Where the demo's data live unless the user says otherwise."""
    return user_cache_path("label-studio-ivos") / "demo"


def run_demo(options: DemoOptions, screen: Screen, stop: StopSignals) -> None:
    """Bring everything up, print where to click, and serve until asked to stop. No process outlives this call.

    Raises:
        DemoError: something is wrong that the user can mend, or a server died.
        Stopped: a signal arrived.
    """
    _check(options)
    with ExitStack() as stack:
        stack.enter_context(_data_dir(options.data_dir))
        secrets = DemoSecrets.load_or_create(options.data_dir / SECRETS_NAME)
        with screen.step("Label Studio's environment") as on_progress:
            python = label_studio_python(on_progress=on_progress)
        media_root = options.data_dir / "media"
        with screen.step("the clip") as on_progress:
            clip = _clip(options, media_root, on_progress)
        _require_free_ports(options)
        label_studio, backend = _servers(options, secrets, python, media_root)
        with screen.step("starting Label Studio and the backend") as on_progress:
            _start_both(label_studio, backend, stack, on_progress)
        with screen.step("the project") as on_progress:
            api = LabelStudioAPI(label_studio.url, label_studio.token)
            project = prepare_project(api, backend, clip, media_root, options.labels, on_progress)
        _print_guide(screen, options, label_studio, backend, project, len(clip.file_names))
        while True:
            stop.check()
            label_studio.process.require_running()
            backend.process.require_running()
            time.sleep(_WATCH_S)


def _start_both(
    label_studio: LabelStudioServer, backend: BackendServer, stack: ExitStack, on_progress: Progress
) -> None:
    """Start the servers side by side and wait for both; one that dies ends the waiting for the other."""
    for process, launch in ((label_studio.process, label_studio.launch), (backend.process, backend.launch)):
        stack.callback(process.stop)
        launch()

    def watch(words: str) -> None:
        label_studio.process.require_running()
        backend.process.require_running()
        on_progress(words)

    label_studio.wait(watch)
    backend.wait(watch)


def _check(options: DemoOptions) -> None:
    if options.video and options.frames:
        raise DemoError("give --video or --frames, not both")
    if options.port == options.backend_port:
        raise DemoError(f"--port and --backend-port are both {options.port}; each server needs a port of its own")
    for option, path, exists in (
        ("--video", options.video, Path.is_file),
        ("--frames", options.frames, Path.is_dir),
    ):
        if path and not exists(path.expanduser()):
            raise DemoError(f"{option} {path}: there is no such {'file' if exists is Path.is_file else 'folder'}")
    if options.labels:
        demo_label_config(options.labels)
    require_valid_settings()
    _require_free_ports(options)


def _require_free_ports(options: DemoOptions) -> None:
    require_free_port(options.port, "--port")
    require_free_port(options.backend_port, "--backend-port")


@contextmanager
def _data_dir(path: Path) -> Iterator[None]:
    """The data folder, private to the user and to this run."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (path / SECRETS_NAME).exists() and any(child.name != ".lock" for child in path.iterdir()):
            raise DemoError(f"--data-dir {path} holds other files; choose an empty or new folder")
        path.chmod(0o700)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise DemoError(f"--data-dir {path} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"another demo is using {path}; stop that one, or choose another --data-dir") from error
        yield


def _clip(options: DemoOptions, media_root: Path, on_progress: Progress) -> DemoClip:
    if options.video:
        return clip_from_video(media_root, options.video, on_progress)
    if options.frames:
        return clip_from_frames(media_root, options.frames, on_progress)
    return sample_clip(media_root, on_progress)


def _servers(
    options: DemoOptions, secrets: DemoSecrets, python: Path, media_root: Path
) -> tuple[LabelStudioServer, BackendServer]:
    label_studio = LabelStudioServer(
        options.data_dir / "label_studio",
        options.port,
        python=python,
        media_root=media_root,
        email=secrets.email,
        password=secrets.password,
        token=secrets.token,
    )
    backend = BackendServer(
        options.data_dir / "backend",
        options.backend_port,
        user=secrets.backend_user,
        password=secrets.backend_password,
        label_studio_url=label_studio.url,
        label_studio_token=secrets.token,
    )
    return label_studio, backend


def _print_guide(
    screen: Screen,
    options: DemoOptions,
    label_studio: LabelStudioServer,
    backend: BackendServer,
    project: DemoProject,
    n_frames: int,
) -> None:
    if n_frames > MANY_FRAMES:
        screen.line(f"note: {n_frames} frames; beyond {MANY_FRAMES} Label Studio's editor becomes slow")
    screen.line(
        _GUIDE.format(
            address=project.address(label_studio.url),
            email=label_studio.email,
            password=label_studio.password,
            backend=backend.url,
            data_dir=options.data_dir,
        )
    )

"""One run of `ivos demo`: checks, secrets, both servers, the project, and the guide on the screen."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from rich.console import Console
from rich.markup import escape

from ls_backend.demo.clips import DemoClip, clip_from_frames, clip_from_video, sample_clip
from ls_backend.demo.environment import label_studio_python
from ls_backend.demo.local_server import DemoError, Progress, require_free_port
from ls_backend.demo.project import DemoProject, demo_label_config, prepare_project
from ls_backend.demo.servers import BackendServer, LabelStudioServer, require_valid_settings
from ls_backend.label_studio.api import LabelStudioAPI
from model_zoo.files import atomic_path
from pipeline.cli.stopping import StopRequest

SECRETS_NAME = "secrets.json"
MANY_FRAMES = 300
"""Above this number Label Studio's editor takes seconds to show an answer."""
EMAIL = "demo@example.com"
BACKEND_USER = "label-studio"

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
    """The options of the command; at most one of ``video`` and ``frames``."""

    data_dir: Path
    port: int
    backend_port: int
    video: Path | None = None
    frames: Path | None = None
    labels: tuple[str, ...] = ()


def default_data_dir() -> Path:
    """Where the demo keeps its data by default."""
    return user_cache_path("label-studio-ivos") / "demo"


@dataclass(frozen=True)
class DemoSecrets:
    """Passwords and tokens of one demo: Label Studio's administrator and the backend's Basic auth.

    They are made once and kept in a file that only the user can read. ``token`` has 40 hexadecimal digits.
    """

    email: str
    password: str
    token: str
    backend_user: str
    backend_password: str

    @classmethod
    def load_or_create(cls, path: Path) -> DemoSecrets:
        """Read the file, or create new secrets and write them with mode 600.

        Raises:
            DemoError: the file is damaged, or cannot be read or written.
        """
        try:
            if path.is_file():
                return cls._parse(path)
            created = cls(
                EMAIL, secrets.token_urlsafe(12), secrets.token_hex(20), BACKEND_USER, secrets.token_urlsafe(24)
            )
            with atomic_path(path) as draft:
                draft.touch(mode=0o600)
                draft.write_text(json.dumps(asdict(created), indent=2))
        except OSError as error:
            raise DemoError(f"{path} cannot be read or written: {error.strerror}") from error
        return created

    @classmethod
    def _parse(cls, path: Path) -> DemoSecrets:
        names = {field.name for field in fields(cls)}
        try:
            values = json.loads(path.read_text())
        except ValueError:
            values = None
        if not isinstance(values, dict) or set(values) != names or not all(isinstance(v, str) for v in values.values()):
            raise DemoError(
                f"{path} is damaged: expected a JSON object of strings with the keys {', '.join(sorted(names))}. "
                "Restore it, or delete the whole folder to start again"
            )
        return cls(**values)


class Screen:
    """Shows the steps of a run: with a spinner in a terminal, as plain lines elsewhere.

    Args:
        console: where to write.
        checkpoint: called at every report of progress; may raise to end the step.
    """

    def __init__(self, console: Console, checkpoint: Callable[[], None]) -> None:
        self.console = console
        self._checkpoint = checkpoint

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """Show a step until it is done; yields the function that its work reports progress to."""
        self._checkpoint()
        started_s = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(escape(title)) as status:

                def show(words: str) -> None:
                    self._checkpoint()
                    status.update(f"{escape(title)} [dim]{escape(words)}[/dim]")

                yield show
        else:
            self.line(f"  ... {title}")
            yield lambda _: self._checkpoint()
        self.line(f"  ok  {title} ({time.monotonic() - started_s:.1f} s)")

    def line(self, text: str = "") -> None:
        """Print one line without markup or wrapping, so that addresses can be copied."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def run_demo(options: DemoOptions, screen: Screen, stop: StopRequest) -> None:
    """Start everything, print where to click, and serve until a signal arrives. No process outlives this call.

    Raises:
        DemoError: something is wrong that the user can fix, or a server ended.
        Stopped: a signal arrived.
    """
    _check(options)
    with ExitStack() as stack:
        stack.enter_context(_data_dir(options.data_dir))
        demo_secrets = DemoSecrets.load_or_create(options.data_dir / SECRETS_NAME)
        with screen.step("Label Studio's environment") as on_progress:
            python = label_studio_python(on_progress=on_progress)
        media_root = options.data_dir / "media"
        with screen.step("the clip") as on_progress:
            clip = _clip(options, media_root, on_progress)
        _require_free_ports(options)
        label_studio, backend = _servers(options, demo_secrets, python, media_root)
        with screen.step("starting Label Studio and the backend") as on_progress:
            _start_both(label_studio, backend, stack, on_progress)
        with screen.step("the project") as on_progress:
            api = LabelStudioAPI(label_studio.url, label_studio.token)
            project = prepare_project(api, backend, clip, media_root, options.labels, on_progress)
        _print_guide(screen, options, label_studio, backend, project, len(clip.file_names))
        while True:
            stop.check()
            label_studio.require_running()
            backend.require_running()
            time.sleep(_WATCH_S)


def _start_both(
    label_studio: LabelStudioServer, backend: BackendServer, stack: ExitStack, on_progress: Progress
) -> None:
    """Start both servers at the same time and wait for both. If one ends, the wait for the other ends too."""
    for server in (label_studio, backend):
        stack.callback(server.stop)
        server.launch()

    def watch(words: str) -> None:
        label_studio.require_running()
        backend.require_running()
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
    """Create the data folder for this user alone, and lock it for this run."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (path / SECRETS_NAME).exists() and any(child.name != ".lock" for child in path.iterdir()):
            raise DemoError(f"--data-dir {path} holds other files; choose an empty or new folder")
        path.chmod(0o700)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DemoError(f"another demo is using {path}; stop that one, or choose another --data-dir") from error
    except OSError as error:
        raise DemoError(f"--data-dir {path} cannot be used: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _clip(options: DemoOptions, media_root: Path, on_progress: Progress) -> DemoClip:
    if options.video:
        return clip_from_video(media_root, options.video, on_progress)
    if options.frames:
        return clip_from_frames(media_root, options.frames, on_progress)
    return sample_clip(media_root, on_progress)


def _servers(
    options: DemoOptions, demo_secrets: DemoSecrets, python: Path, media_root: Path
) -> tuple[LabelStudioServer, BackendServer]:
    label_studio = LabelStudioServer(
        options.data_dir / "label_studio",
        options.port,
        python=python,
        media_root=media_root,
        email=demo_secrets.email,
        password=demo_secrets.password,
        token=demo_secrets.token,
    )
    backend = BackendServer(
        options.data_dir / "backend",
        options.backend_port,
        user=demo_secrets.backend_user,
        password=demo_secrets.backend_password,
        label_studio_url=label_studio.url,
        label_studio_token=demo_secrets.token,
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

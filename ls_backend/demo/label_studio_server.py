"""The real Label Studio as a child process: SQLite, its own data folder, an administrator from the first start."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from ls_backend.demo.processes import Progress, ServerProcess, clean_environment, silent

START_TIMEOUT_S = 240.0
"""The first start creates the database, which takes about 20 s on two cores and longer on a busy machine."""


class LabelStudioServer:
    """Label Studio on 127.0.0.1. As a context manager it is started on entry and stopped on exit.

    The switches that let it talk to addresses of its own machine are set, because the backend lives there; they belong
    on no server that others can reach.

    Args:
        data_dir: database and uploads; created. A second start with the same folder continues with its data.
        port: where it listens.
        python: interpreter of an environment with Label Studio in it (`environment.label_studio_python`).
        media_root: what ``/data/local-files/?d=...`` is relative to; a storage must still cover each folder.
        email: login of the administrator, who is created at the first start.
        password: password of the administrator.
        token: legacy API token of the administrator, 40 hexadecimal digits.
    """

    def __init__(
        self, data_dir: Path, port: int, *, python: Path, media_root: Path, email: str, password: str, token: str
    ) -> None:
        self.port = port
        self.email = email
        self.password = password
        self.token = token
        self.media_root = media_root
        self._data_dir = data_dir.resolve()
        log_path = self._data_dir / "label_studio.log"
        self.process = ServerProcess(
            "Label Studio", self._command(python), self._environment(), log_path, f"{self.url}/health"
        )

    @property
    def url(self) -> str:
        """Address without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LabelStudioServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, on_progress: Progress = silent) -> None:
        """Start it and wait until it answers.

        Raises:
            DemoError: it ended or did not answer in time; the message shows the end of its log.
        """
        self.launch()
        try:
            self.wait(on_progress)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start it without waiting.

        Raises:
            DemoError: the program cannot be started.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self.media_root.mkdir(parents=True, exist_ok=True)
        self.process.start()

    def wait(self, on_progress: Progress = silent) -> None:
        """Wait until it answers; see `start`."""
        self.process.wait_until_healthy(START_TIMEOUT_S, on_progress)

    def stop(self) -> None:
        """Stop it and everything it started."""
        self.process.stop()

    def _command(self, python: Path) -> list[str]:
        address = ["--internal-host", "127.0.0.1", "--port", str(self.port)]
        return [str(python.with_name("label-studio")), "start", "--no-browser", *address, "--log-level", "INFO"]

    def _environment(self) -> dict[str, str]:
        return clean_environment(
            {
                "LABEL_STUDIO_BASE_DATA_DIR": str(self._data_dir),
                "LABEL_STUDIO_HOST": self.url,
                "LABEL_STUDIO_USERNAME": self.email,
                "LABEL_STUDIO_PASSWORD": self.password,
                "LABEL_STUDIO_USER_TOKEN": self.token,
                "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
                "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
                "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
                "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.media_root.resolve()),
                "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
                "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
                "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
                "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
                "SENTRY_DSN": "",
                "FRONTEND_SENTRY_DSN": "",
            }
        )

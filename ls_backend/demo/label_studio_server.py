"""The real Label Studio as a child process: SQLite, its own data folder, an administrator from the first start."""

from __future__ import annotations

from pathlib import Path

from ls_backend.demo.local_server import HOST, LocalServer, local_url
from ls_backend.demo.processes import ServerProcess, clean_environment

START_TIMEOUT_S = 240.0
"""The first start creates the database, which takes about 20 s on two cores and longer on a busy machine."""


class LabelStudioServer(LocalServer):
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
        self.email = email
        self.password = password
        self.token = token
        self.media_root = media_root
        self._data_dir = data_dir.resolve()
        process = ServerProcess(
            "Label Studio",
            _command(python, port),
            self._environment(port),
            self._data_dir / "label_studio.log",
            f"{local_url(port)}/health",
        )
        super().__init__(port, process, START_TIMEOUT_S)

    def launch(self) -> None:
        """Start it without waiting.

        Raises:
            DemoError: the program cannot be started.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self.media_root.mkdir(parents=True, exist_ok=True)
        super().launch()

    def _environment(self, port: int) -> dict[str, str]:
        return clean_environment(
            {
                "LABEL_STUDIO_BASE_DATA_DIR": str(self._data_dir),
                "LABEL_STUDIO_HOST": local_url(port),
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


def _command(python: Path, port: int) -> list[str]:
    address = ["--internal-host", HOST, "--port", str(port)]
    return [str(python.with_name("label-studio")), "start", "--no-browser", *address, "--log-level", "INFO"]

"""The two servers of the demo: the real Label Studio, and the backend."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from ls_backend.demo.local_server import HOST, DemoError, LocalServer, clean_environment, local_url
from ls_backend.serving import gunicorn_command
from ls_backend.settings import Settings
from pipeline.settings import PREFIX, ModelSettings, settings_message

LABEL_STUDIO_TIMEOUT_S = 240.0
"""The first start creates the database. That takes about 20 s on two cores, and longer on a busy machine."""
BACKEND_TIMEOUT_S = 120.0
_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle"})


class LabelStudioServer(LocalServer):
    """The real Label Studio, with SQLite, its own data folder and an administrator.

    It may talk to addresses of its own machine, because the backend runs there. A server that others can reach must
    not be set up like this.

    Args:
        data_dir: database and uploads; created. A second start with the same folder continues with its data.
        port: where it listens.
        python: the interpreter of an environment that holds Label Studio (`label_studio_python`).
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
        super().__init__(
            "Label Studio",
            port,
            _label_studio_command(python, port),
            self._variables(local_url(port)),
            self._data_dir / "label_studio.log",
            LABEL_STUDIO_TIMEOUT_S,
        )

    def launch(self) -> None:
        """Start it without waiting.

        Raises:
            DemoError: the program cannot be started.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self.media_root.mkdir(parents=True, exist_ok=True)
        super().launch()

    def _variables(self, url: str) -> dict[str, str]:
        return clean_environment(
            {
                "LABEL_STUDIO_BASE_DATA_DIR": str(self._data_dir),
                "LABEL_STUDIO_HOST": url,
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


def _label_studio_command(python: Path, port: int) -> list[str]:
    address = ["--internal-host", HOST, "--port", str(port)]
    return [str(python.with_name("label-studio")), "start", "--no-browser", *address, "--log-level", "INFO"]


class BackendServer(LocalServer):
    """The backend, served as `ivos serve` serves it.

    The caller's ``IVOS_*`` variables and proxies apply, except where an argument replaces a variable. Models are read
    from where `ivos models pull` stores them.

    Args:
        data_dir: log file and cache; created.
        port: where it listens.
        user: name for HTTP Basic auth.
        password: password for HTTP Basic auth.
        label_studio_url: where frames and tasks come from.
        label_studio_token: token for it.

    Raises:
        DemoError: a caller's ``IVOS_*`` variable is unknown or out of range.
    """

    def __init__(
        self, data_dir: Path, port: int, *, user: str, password: str, label_studio_url: str, label_studio_token: str
    ) -> None:
        self.user = user
        self.password = password
        data_dir = data_dir.resolve()
        settings = _settings(
            host=HOST,
            port=port,
            basic_auth_user=user,
            basic_auth_pass=SecretStr(password),
            auth_disabled=False,
            label_studio_url=label_studio_url,
            label_studio_token=SecretStr(label_studio_token),
            cache_dir=data_dir / "cache",
        )
        super().__init__(
            "the backend",
            port,
            gunicorn_command(settings),
            self._variables(settings),
            data_dir / "backend.log",
            BACKEND_TIMEOUT_S,
        )

    def _variables(self, settings: Settings) -> dict[str, str]:
        from_caller = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        replaced = {
            "HOST": settings.host,
            "PORT": str(settings.port),
            "BASIC_AUTH_USER": self.user,
            "BASIC_AUTH_PASS": self.password,
            "AUTH_DISABLED": "false",
            "LABEL_STUDIO_URL": settings.label_studio_url,
            "LABEL_STUDIO_TOKEN": settings.label_studio_token.get_secret_value(),
            "CACHE_DIR": str(settings.cache_dir),
            "MODEL_DIR": str(settings.model_dir),
        }
        replaced = {PREFIX + name: value for name, value in replaced.items()}
        return clean_environment({**from_caller, **_proxy_variables(), **replaced})


def _proxy_variables() -> dict[str, str]:
    """The caller's proxies, to download weights through; Label Studio on this machine is reached directly."""
    proxies = {name: value for name, value in os.environ.items() if name.lower() in _PROXY_VARIABLES and value}
    if proxies:
        direct = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "", HOST, "localhost"]
        proxies["NO_PROXY"] = proxies["no_proxy"] = ",".join(host for host in direct if host)
    return proxies


def require_valid_settings() -> None:
    """Check those of the caller's ``IVOS_*`` variables that will apply, before anything is started.

    Raises:
        DemoError: one is unknown or out of range.
    """
    _settings(host=HOST, port=1, auth_disabled=True)


def _settings(**replaced: Any) -> Settings:
    try:
        return Settings(model_dir=ModelSettings().model_store.folder.resolve(), **replaced)
    except ValidationError as error:
        raise DemoError(settings_message(error)) from error

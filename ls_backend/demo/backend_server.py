"""The backend as a child process, served as `ivos serve` serves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from ls_backend.demo.errors import DemoError
from ls_backend.demo.local_server import HOST, LocalServer, local_url
from ls_backend.demo.processes import ServerProcess, clean_environment
from ls_backend.serving import gunicorn_command
from ls_backend.settings import Settings
from pipeline.settings import PREFIX, ModelSettings, settings_message

START_TIMEOUT_S = 120.0
_NET_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle"})


class BackendServer(LocalServer):
    """The backend on 127.0.0.1. As a context manager it is started on entry and stopped on exit.

    ``IVOS_*`` variables of the caller apply, except for those the arguments stand for, and so do the caller's proxies.
    Models are where `ivos models pull` puts them.

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
        process = ServerProcess(
            "the backend",
            gunicorn_command(settings),
            self._environment(settings),
            data_dir / "backend.log",
            f"{local_url(port)}/health",
        )
        super().__init__(port, process, START_TIMEOUT_S)

    def _environment(self, settings: Settings) -> dict[str, str]:
        callers = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        ours = {
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
        ours = {PREFIX + name: value for name, value in ours.items()}
        return clean_environment({**callers, **_way_to_the_net(), **ours})


def _way_to_the_net() -> dict[str, str]:
    """The caller's way to the net, for weights; Label Studio on this machine is reached directly."""
    given = {name: value for name, value in os.environ.items() if name.lower() in _NET_VARIABLES and value}
    if given:
        direct = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "", HOST, "localhost"]
        given["NO_PROXY"] = given["no_proxy"] = ",".join(host for host in direct if host)
    return given


def require_valid_settings() -> None:
    """Check the caller's ``IVOS_*`` variables, as far as they will apply, before anything is started.

    Raises:
        DemoError: one is unknown or out of range.
    """
    _settings(host=HOST, port=1, auth_disabled=True)


def _settings(**ours: Any) -> Settings:
    try:
        return Settings(model_dir=ModelSettings().model_store.folder.resolve(), **ours)
    except ValidationError as error:
        raise DemoError(settings_message(error)) from error

"""The gunicorn command that serves the backend: one worker process (one copy of the weights), several threads."""

from __future__ import annotations

import sys

from ls_backend.settings import Settings

WORKER_TIMEOUT_S = 120
"""A worker that sends no heartbeat for so long is replaced. A long round does not stop the heartbeat: requests run in
other threads."""
STOP_TIMEOUT_S = 5
"""How long a running round may take after the server is told to stop."""

APP = "ls_backend.wsgi:app"


def gunicorn_command(settings: Settings) -> list[str]:
    """The command line that serves the backend with these settings. Credentials stay in the environment."""
    return [
        *(sys.executable, "-m", "gunicorn"),
        *("--bind", f"{_with_brackets(settings.host)}:{settings.port}"),
        *("--workers", "1"),
        *("--worker-class", "gthread"),
        *("--threads", str(settings.threads)),
        *("--timeout", str(WORKER_TIMEOUT_S)),
        *("--graceful-timeout", str(STOP_TIMEOUT_S)),
        *("--log-level", settings.log_level.lower()),
        # gunicorn has one control socket per user, so two servers would conflict.
        "--no-control-socket",
        APP,
    ]


def _with_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host

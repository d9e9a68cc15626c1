"""How the backend is run: gunicorn, one worker process (one copy of the weights), several threads."""

from __future__ import annotations

import sys

from ls_backend.settings import Settings

WORKER_TIMEOUT_S = 120
"""A worker without a sign of life for so long is replaced. A long round is none of its reasons: requests run in threads
beside the heartbeat."""
STOP_TIMEOUT_S = 5
"""How long a round under way may take once the server was told to stop."""

APP = "ls_backend.wsgi:app"


def gunicorn_command(settings: Settings) -> list[str]:
    """The command line that serves the backend with these settings. Credentials stay in the environment."""
    return [
        *(sys.executable, "-m", "gunicorn"),
        *("--bind", f"{_bracketed(settings.host)}:{settings.port}"),
        *("--workers", "1"),
        *("--worker-class", "gthread"),
        *("--threads", str(settings.threads)),
        *("--timeout", str(WORKER_TIMEOUT_S)),
        *("--graceful-timeout", str(STOP_TIMEOUT_S)),
        *("--log-level", settings.log_level.lower()),
        # It would be one socket per user, which several servers would fight over.
        "--no-control-socket",
        APP,
    ]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

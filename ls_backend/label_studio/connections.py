"""Where each project's Label Studio is and which token it gave us, as told by /setup; kept for the next start."""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from cachetools import LRUCache

from ls_backend.label_studio.http import LabelStudioAuth
from ls_backend.settings import Settings

logger = logging.getLogger(__name__)
MAX_CONNECTIONS = 1000


@dataclass(frozen=True)
class Connection:
    """Address and token of the Label Studio that a project lives in."""

    host_url: str
    token: str


class Connections:
    """Connections by project. What the operator set goes before what /setup said.

    The file holds tokens, so only its owner may read it. Thread-safe.
    """

    def __init__(self, settings: Settings, file: Path) -> None:
        self._settings = settings
        self._file = file
        self._lock = threading.Lock()
        self._by_project = self._load()
        self._auths: LRUCache[Connection, LabelStudioAuth] = LRUCache(MAX_CONNECTIONS)

    def learn(self, project: str, host_url: str, token: str) -> None:
        """Remember what /setup said of a project; nothing is written when it is known already."""
        connection = Connection(host_url.rstrip("/"), token)
        with self._lock:
            if not host_url or self._by_project.get(project) == connection:
                return
            self._by_project.pop(project, None)
            self._by_project[project] = connection
            while len(self._by_project) > MAX_CONNECTIONS:
                self._by_project.pop(next(iter(self._by_project)))
            self._save()

    def connection(self, project: str) -> Connection:
        """Address and token of a project's Label Studio; both are empty where nobody told them yet."""
        with self._lock:
            known = self._by_project.get(project, Connection("", ""))
        return Connection(
            (self._settings.label_studio_url or known.host_url).rstrip("/"),
            self._settings.label_studio_token.get_secret_value() or known.token,
        )

    def auth(self, project: str) -> LabelStudioAuth:
        """The same as headers for requests, one object per connection, so that access tokens are traded once."""
        connection = self.connection(project)
        with self._lock:
            if connection not in self._auths:
                timeout_s = self._settings.fetch_timeout_s
                self._auths[connection] = LabelStudioAuth(connection.host_url, connection.token, timeout_s=timeout_s)
            return self._auths[connection]

    def _load(self) -> dict[str, Connection]:
        try:
            stored = json.loads(self._file.read_text())
            return {str(project): Connection(**fields) for project, fields in stored.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("%s is not readable (%s); the next /setup of each project replaces it", self._file, error)
            return {}

    def _save(self) -> None:
        draft = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                json.dump({project: asdict(connection) for project, connection in self._by_project.items()}, stream)
            draft.replace(self._file)
        except OSError as error:
            # Still known until this process ends; the next start asks for a page load or the settings.
            logger.warning("could not keep the connections in %s: %s", self._file, error)

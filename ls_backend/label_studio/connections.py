"""Where each project's Label Studio is, its token, and `requests` sessions with retries that carry it."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
from cachetools import LRUCache
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from ls_backend.settings import Settings
from model_zoo.files import atomic_path

REFRESH_EARLY_S = 30.0
"""An access token this close to its end is renewed before it is used."""


def retrying_session(retries: int) -> requests.Session:
    """A session that repeats GET after connection errors and 429/5xx answers, waiting 0.2, 0.4, 0.8 ... s."""
    retry = Retry(
        total=retries,
        backoff_factor=0.2,
        backoff_max=5.0,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET", "HEAD"),
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=16))
    return session


def same_origin(url: str, other: str) -> bool:
    """Whether two addresses share scheme, host and port, so that a token meant for one may go to the other."""
    default_port = {"http": 80, "https": 443}
    left, right = urlsplit(url), urlsplit(other)
    return (left.scheme, left.hostname, left.port or default_port.get(left.scheme)) == (
        right.scheme,
        right.hostname,
        right.port or default_port.get(right.scheme),
    )


@dataclass
class _AccessToken:
    value: str
    expires_at_s: float


class LabelStudioAuth(AuthBase):
    """Adds the right ``Authorization`` header for Label Studio, and only for Label Studio's own address.

    A legacy token (40 hexadecimal digits) is sent as ``Token``. A personal access token is a refresh JWT: it is traded
    at ``/api/token/refresh/`` for a short-lived access token, sent as ``Bearer``. Thread-safe.
    """

    def __init__(self, host_url: str, token: str, *, timeout_s: float = 20.0) -> None:
        self.host_url = host_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._access: _AccessToken | None = None
        self._lock = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token and request.url and same_origin(request.url, self.host_url):
            request.headers["Authorization"] = self.header()
        return request

    def header(self) -> str:
        """The value of the ``Authorization`` header.

        Raises:
            requests.HTTPError: Label Studio refused the personal access token.
        """
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        with self._lock:
            if self._access is None or self._access.expires_at_s - REFRESH_EARLY_S < time.time():
                self._access = self._refresh()
            return f"Bearer {self._access.value}"

    def _refresh(self) -> _AccessToken:
        answer = requests.post(
            f"{self.host_url}/api/token/refresh/", json={"refresh": self._token}, timeout=self._timeout_s
        )
        answer.raise_for_status()
        value = str(answer.json()["access"])
        claims: dict[str, Any] = jwt.decode(value, options={"verify_signature": False})
        return _AccessToken(value, float(claims.get("exp", time.time() + 60)))


logger = logging.getLogger(__name__)
MAX_CONNECTIONS = 1000


@dataclass(frozen=True)
class Connection:
    """Address and token of the Label Studio that a project lives in."""

    host_url: str
    token: str


class Connections:
    """Connections by project. The operator's settings override what /setup sent.

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
        """Address and token of a project's Label Studio; both are empty until they are known."""
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
        connections = {project: asdict(connection) for project, connection in self._by_project.items()}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._file) as draft:
                draft.touch(mode=0o600)
                draft.write_text(json.dumps(connections))
        except OSError as error:
            # Still known until this process ends; the next start asks for a page load or the settings.
            logger.warning("could not keep the connections in %s: %s", self._file, error)

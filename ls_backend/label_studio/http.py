"""HTTP towards Label Studio and media servers: `requests` with retries, time limits and Label Studio's tokens."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.retry import Retry

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

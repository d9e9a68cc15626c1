"""HTTP Basic authentication of the requests Label Studio sends."""

from __future__ import annotations

import hmac

from werkzeug.datastructures import Authorization

from ls_backend.settings import Settings

OPEN_PATHS = frozenset({"/", "/health", "/webhook"})
"""Health checks of containers carry no credentials, and Label Studio sends none to its webhooks."""


def is_allowed(path: str, authorization: Authorization | None, settings: Settings) -> bool:
    """Whether a request may be served: the path is open, authentication is off, or the credentials are right."""
    if settings.auth_disabled or path in OPEN_PATHS:
        return True
    if authorization is None or authorization.type != "basic":
        return False
    pairs = (
        (authorization.username or "", settings.basic_auth_user),
        (authorization.password or "", settings.basic_auth_pass.get_secret_value()),
    )
    # Both are always compared, in constant time, so that timing tells nothing about either.
    matches = [hmac.compare_digest(given.encode(), expected.encode()) for given, expected in pairs]
    return all(matches)

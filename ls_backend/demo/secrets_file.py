"""Passwords and tokens of one demo: made once, kept in a file only the user can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ls_backend.demo.errors import DemoError

EMAIL = "demo@example.com"
BACKEND_USER = "label-studio"


@dataclass(frozen=True)
class DemoSecrets:
    """Label Studio's administrator and the backend's Basic auth. ``token`` has 40 hexadecimal digits."""

    email: str
    password: str
    token: str
    backend_user: str
    backend_password: str

    @classmethod
    def load_or_create(cls, path: Path) -> DemoSecrets:
        """Read the file, or make new secrets and write it with mode 600.

        Raises:
            DemoError: the file is damaged, or cannot be read or written.
        """
        try:
            if path.is_file():
                return cls._parse(path)
            made = cls(
                EMAIL, secrets.token_urlsafe(12), secrets.token_hex(20), "label-studio", secrets.token_urlsafe(24)
            )
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(made), file, indent=2)
        except OSError as error:
            raise DemoError(f"{path} cannot be read or written: {error.strerror}") from error
        return made

    @classmethod
    def _parse(cls, path: Path) -> DemoSecrets:
        names = {field.name for field in fields(cls)}
        try:
            values = json.loads(path.read_text())
        except ValueError:
            values = None
        if not isinstance(values, dict) or set(values) != names or not all(isinstance(v, str) for v in values.values()):
            raise DemoError(
                f"{path} is damaged: expected a JSON object of strings with the keys {', '.join(sorted(names))}. "
                "Restore it, or delete the whole folder to begin anew"
            )
        return cls(**values)

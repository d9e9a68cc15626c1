"""Small real weights for tests: a folder laid out as a mirror of the model zoo, beside the project."""

from __future__ import annotations

import os

from tests.clips import REPOSITORY

MIRROR = REPOSITORY.parent / "shared" / "weights"


def has_shared_weights() -> bool:
    """Whether the mirror is beside the project. With ``CI`` set it must be.

    Raises:
        FileNotFoundError: ``CI`` is set and the mirror is missing.
    """
    if MIRROR.is_dir():
        return True
    if os.environ.get("CI"):
        raise FileNotFoundError(f"CI is set, so real weights are expected at {MIRROR}, but they are missing")
    return False

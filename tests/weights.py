"""Small real weights for tests: a folder laid out as a mirror of the model zoo, beside the project."""

from __future__ import annotations

from tests.clips import REPOSITORY, is_beside_the_project

MIRROR = REPOSITORY.parent / "shared" / "weights"


def has_shared_weights() -> bool:
    """Whether the mirror is beside the project; see `tests.clips.is_beside_the_project`."""
    return is_beside_the_project(MIRROR, "real weights")

"""One method for all tests here, as in a process."""

from __future__ import annotations

import pytest

from pipeline.methods.base import Method
from tests.built_methods import built


@pytest.fixture(scope="package")
def method() -> Method:
    return built()

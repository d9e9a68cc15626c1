"""One method for all tests here, as in a process."""

from __future__ import annotations

import pytest

from pipeline.methods import build_method
from pipeline.methods.base import Method


@pytest.fixture(scope="package")
def method() -> Method:
    return build_method(
        "i_pt", segmenter="classical", box_tracker="opencv_template", device="cpu", embedding_ram_mib=256
    )

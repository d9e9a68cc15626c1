"""A real method for the rules of a session, with a segmenter that learns nothing: what is red is the object."""

from __future__ import annotations

import pytest

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Method
from pipeline.methods.i_pt import IPt, IPtSettings
from pipeline.trackers.boxes.mask_box import MaskBox
from pipeline.trackers.points.lucas_kanade import LucasKanade
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter


@pytest.fixture(scope="module")
def method() -> Method:
    settings = IPtSettings(use_memory=False, refinement_iterations=0)
    return IPt(RecordingSegmenter(), LucasKanade(), MaskBox(), EmbeddingCache(64), settings)

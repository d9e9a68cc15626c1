"""OSTrack around its network equals the official tracker's recording; see record_ostrack.py."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.trackers.boxes.base import BoxQuery
from pipeline.trackers.boxes.ostrack import OsTrack
from tests.parity.record_ostrack import BOXES_XYWH_PX, N_FRAMES, RECORDING, ScriptedNetwork, frames
from tests.pipeline.frame_sources import ArrayFrames


@pytest.mark.parametrize("sequence", range(len(BOXES_XYWH_PX)))
def test_inputs_and_boxes_equal_the_official_trackers(sequence: int) -> None:
    recorded = np.load(RECORDING)
    network = ScriptedNetwork()
    x, y, width, height = BOXES_XYWH_PX[sequence]
    query = BoxQuery(0, (x, y, x + width, y + height))
    tracks = OsTrack(network).track(ArrayFrames(frames()), query, range(N_FRAMES))
    boxes = recorded["boxes_xywh_px"][sequence]
    np.testing.assert_allclose(tracks.boxes_xyxy_px[:, :2], boxes[:, :2], atol=1e-4)
    np.testing.assert_allclose(tracks.boxes_xyxy_px[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-4)
    # What the network sees follows from the box before, so a last digit of the box may turn a pixel of the crop.
    np.testing.assert_allclose(np.array(network.given), recorded["given"][sequence], atol=1e-4)

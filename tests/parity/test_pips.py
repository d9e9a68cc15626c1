"""How pieces are linked equals the recording of the official code; see record_pips.py."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.trackers.points.base import PointQueries
from pipeline.trackers.points.pips import Pips
from tests.parity.record_pips import N_FRAMES, RECORDING, SEEDS, START_XY_PX, ScriptedNetwork, frames, padded
from tests.pipeline.frame_sources import ArrayFrames


@pytest.mark.parametrize("row", range(len(SEEDS)))
def test_inputs_and_tracks_equal_the_official_codes(row: int) -> None:
    recorded = np.load(RECORDING)
    network = ScriptedNetwork(SEEDS[row])
    queries = PointQueries(0, np.array([START_XY_PX], np.float32))
    tracks = Pips(network, long_side_px=640).track(ArrayFrames(frames()), queries, range(N_FRAMES))
    np.testing.assert_allclose(tracks.tracks_xy_px[:, 0], recorded["tracks_xy_px"][row], atol=1e-4)
    np.testing.assert_allclose(padded(network.given), recorded["given"][row], atol=1e-4)

"""Cells, keys and values lie where the frame has them, whatever a segmenter's resolution and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.masks import NO_OBJECT_LOGIT
from pipeline.memory.key_grid import KeyGrid
from pipeline.segmenters.base import Segmenter
from pipeline.segmenters.sam import SamSegmenter
from pipeline.types import BoolMask
from tests.built_methods import lite_segmenter
from tests.tiny_sam import build_tiny_sam


def grid_of(segmenter: Segmenter, size_hw_px: tuple[int, int], cells: int = 32) -> tuple[KeyGrid, torch.Tensor]:
    frame = np.random.default_rng(0).integers(0, 255, (*size_hw_px, 3), dtype=np.uint8)
    embedding = segmenter.embed(frame)
    return KeyGrid.of(segmenter, embedding, size_hw_px, cells), segmenter.key_features(embedding)


@pytest.fixture(scope="module")
def sam() -> SamSegmenter:
    return SamSegmenter(build_tiny_sam(), name="tiny")


@pytest.mark.parametrize(
    ("size_hw_px", "grid_hw"),
    [((480, 854), (18, 32)), ((854, 480), (32, 18)), ((200, 200), (32, 32)), ((40, 400), (3, 32))],
)
def test_sams_padding_has_no_cells(sam: SamSegmenter, size_hw_px: tuple[int, int], grid_hw: tuple[int, int]) -> None:
    grid, features = grid_of(sam, size_hw_px)
    assert grid.grid_hw == grid_hw
    keys = grid.keys(features)
    assert keys.shape == (256, grid.n_cells)
    torch.testing.assert_close(torch.linalg.vector_norm(keys, dim=0), torch.ones(grid.n_cells))
    enlarged = grid.enlarged(np.ones(grid.n_cells, np.float32))
    assert enlarged.shape == (256, 256)
    assert (enlarged[: grid.covered_hw[0], : grid.covered_hw[1]] == 1).all()
    assert (enlarged == NO_OBJECT_LOGIT).sum() == 256 * 256 - grid.covered_hw[0] * grid.covered_hw[1]


@pytest.mark.parametrize("size_hw_px", [(480, 854), (854, 480), (120, 160)])
@pytest.mark.parametrize("kind", ["lite", "sam"])
def test_low_resolution_cells_know_where_they_lie(kind: str, size_hw_px: tuple[int, int], sam: SamSegmenter) -> None:
    grid, _ = grid_of(sam if kind == "sam" else lite_segmenter(), size_hw_px)
    rows, columns = grid.covered_hw
    for centres_px, length_px in ((grid.x_px[:columns], size_hw_px[1]), (grid.y_px[:rows], size_hw_px[0])):
        expected = (np.arange(len(centres_px)) + 0.5) * length_px / len(centres_px) - 0.5
        np.testing.assert_allclose(centres_px, expected, atol=0.02 * length_px)
        assert (np.diff(centres_px) >= 0).all()


def test_fewer_features_than_cells_are_taken_as_they_are() -> None:
    grid, features = grid_of(lite_segmenter(), (64, 80), cells=100)
    assert grid.grid_hw == features.shape[1:] == (8, 10)


def test_keys_show_the_whole_frame() -> None:
    """Also where a segmenter's keys are finer than its features."""
    segmenter, frame = lite_segmenter(), np.full((240, 320, 3), 60, np.uint8)
    frame[:, 160:] = np.random.default_rng(0).integers(0, 255, (240, 160, 3), dtype=np.uint8)
    embedding = segmenter.embed(frame)
    grid = KeyGrid.of(segmenter, embedding, (240, 320), 16)
    keys = grid.keys(segmenter.key_features(embedding)).reshape(-1, *grid.grid_hw)
    assert float((keys[:, :, 2] * keys[:, :, 5]).sum(0).min()) > 0.3
    assert float((keys[:, :, 2] * keys[:, :, -3]).sum(0).max()) < 0


def test_shares_are_parts_of_cells_and_come_back_where_the_mask_was() -> None:
    segmenter, size_hw_px = lite_segmenter(), (480, 854)
    grid, _ = grid_of(segmenter, size_hw_px)
    mask: BoolMask = np.zeros(size_hw_px, np.bool_)
    mask[96:300, 250:600] = True
    shares = grid.shares(mask)
    assert shares.shape == (grid.n_cells,)
    assert float(shares.mean()) == pytest.approx(mask.mean(), abs=1e-3)
    back = grid.enlarged(shares.numpy() - 0.5) > 0
    ys, xs = np.nonzero(back)
    corners = grid.x_px[xs.min()], grid.y_px[ys.min()], grid.x_px[xs.max()], grid.y_px[ys.max()]
    np.testing.assert_allclose(corners, (250, 96, 600, 300), atol=16)


def test_only_cells_around_a_mask_are_asked_and_all_where_there_is_none() -> None:
    segmenter, size_hw_px = lite_segmenter(), (480, 854)
    grid, _ = grid_of(segmenter, size_hw_px)
    logits = np.full(grid.low_res_hw, -3.0, np.float32)
    assert grid.around(logits).all()
    logits[120:360, 213:427] = 3.0
    where = grid.around(logits).reshape(grid.grid_hw)
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    # The mask's longer side is 240 of 480 rows: 0.3 of that, and 0.04 of 854 columns, make 106 more on every side.
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (0, 17, 4, 19)
    assert where[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()

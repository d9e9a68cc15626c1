"""Samples for training: planes and their ranges, corrective clicks, evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.lite.decoder import N_PLANES, Plane
from pipeline.segmenters.lite.embedding import CELL_PX
from tools.train_lite import samples as module
from tools.train_lite.samples import KINDS, Sampler, correct, depth, put_evidence, spoilt

SIDE_PX = 64


class QuietGenerator(np.random.Generator):
    """Never lets anything happen that has a chance."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        """As large as can be."""
        return 0.999


def square(low: int, high: int) -> np.ndarray:
    """A mask (SIDE_PX, SIDE_PX)."""
    mask = np.zeros((SIDE_PX, SIDE_PX), np.bool_)
    mask[low:high, low:high] = True
    return mask


def test_samples_have_planes_of_the_right_size_and_range(pairs_folder: Path) -> None:
    for sample in Sampler(pairs_folder, 0).batch(40, SIDE_PX):
        assert (sample.crop.shape, sample.crop.dtype) == ((SIDE_PX, SIDE_PX, 3), np.dtype(np.uint8))
        assert (sample.planes.shape, sample.planes.dtype) == ((N_PLANES, SIDE_PX, SIDE_PX), np.dtype(np.float32))
        assert (sample.truth.shape, sample.truth.dtype) == ((SIDE_PX, SIDE_PX), np.dtype(np.bool_))
        assert set(np.unique(sample.planes[Plane.VALID])) <= {0.0, 1.0}
        assert np.abs(sample.planes).max() <= 1
        for plane in (Plane.POSITIVE, Plane.NEGATIVE):
            assert sample.planes[plane].min() >= 0
        asked = sample.planes.any(axis=(1, 2))[: Plane.REGION_COLOURS].any()
        assert asked or sample.references, "nothing says what is asked"


@pytest.mark.parametrize(
    ("kind", "filled", "empty"),
    [
        ("box", {Plane.BOX}, {Plane.PREVIOUS, Plane.EVIDENCE}),
        ("box_clicks", {Plane.BOX}, {Plane.PREVIOUS, Plane.EVIDENCE}),
        ("click", {Plane.POSITIVE}, {Plane.BOX, Plane.PREVIOUS, Plane.EVIDENCE}),
        ("propagated", set(), {Plane.BOX, Plane.EVIDENCE}),
        ("recalled", set(), {Plane.BOX, Plane.PREVIOUS, Plane.POSITIVE, Plane.NEGATIVE, Plane.EVIDENCE}),
        ("carried", {Plane.PREVIOUS}, {Plane.EVIDENCE}),
    ],
)
def test_each_kind_fills_its_planes(
    pairs_folder: Path, kind: str, filled: set[Plane], empty: set[Plane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KINDS", {kind: 1.0})
    for sample in Sampler(pairs_folder, 0).batch(8, SIDE_PX):
        drawn = {plane for plane in Plane if sample.planes[plane].any()}
        assert filled <= drawn
        assert not drawn & empty
        assert bool(sample.references) == (kind in ("propagated", "recalled"))
        for reference in sample.references:
            assert reference.shares.shape == reference.shown.shape == (SIDE_PX // CELL_PX,) * 2
            assert reference.shares.max() > 0, "the memory knows nothing of the object"


def test_the_kinds_are_shares() -> None:
    assert sum(KINDS.values()) == pytest.approx(1)


def test_a_seed_fixes_the_samples(pairs_folder: Path) -> None:
    first, again, other = (Sampler(pairs_folder, seed).sample(SIDE_PX) for seed in (3, 3, 4))
    assert (first.planes == again.planes).all()
    assert not np.array_equal(first.planes, other.planes)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(12, 24))
@settings(max_examples=40, deadline=None)
def test_a_spoilt_mask_is_a_mask_of_the_same_size(seed: int, low: int, size: int) -> None:
    found = spoilt(square(low, low + size), np.random.default_rng(seed))
    assert found.shape == (SIDE_PX, SIDE_PX)
    assert set(np.unique(found)) <= {0, 1}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_corrective_clicks_lie_in_errors(seed: int) -> None:
    truth, found = square(10, 40), square(20, 55)
    planes = np.zeros((N_PLANES, SIDE_PX, SIDE_PX), np.float32)
    planes[Plane.VALID] = 1
    correct(planes, found.astype(np.float32), truth, np.random.default_rng(seed), keep=1.0)
    assert (planes[Plane.PREVIOUS] == 2 * found.astype(np.float32) - 1).all()
    clicked = {plane: planes[plane] > 0 for plane in (Plane.POSITIVE, Plane.NEGATIVE)}
    assert clicked[Plane.POSITIVE].any() or clicked[Plane.NEGATIVE].any()
    for plane, errors in ((Plane.POSITIVE, truth & ~found), (Plane.NEGATIVE, found & ~truth)):
        assert (clicked[plane] & errors).any() == clicked[plane].any()


def test_the_depth_counts_the_edge_of_the_frame_as_outside() -> None:
    found = depth(np.ones((5, 9), np.bool_))
    assert found.argmax() in range(2 * 9 + 2, 2 * 9 + 7)
    assert found[0].max() < found[2].max()


def test_evidence_covers_the_cells_that_a_memory_names(pairs_folder: Path) -> None:
    sample = Sampler(pairs_folder, 0).sample(SIDE_PX)
    sample.planes[Plane.VALID] = 1
    readout = np.zeros((SIDE_PX // CELL_PX,) * 2, np.float32)
    readout[:, : readout.shape[1] // 2] = 1
    put_evidence(sample, readout, QuietGenerator())
    evidence = sample.planes[Plane.EVIDENCE]
    np.testing.assert_array_equal(evidence[:, : SIDE_PX // 2 - CELL_PX], 1)
    np.testing.assert_array_equal(evidence[:, SIDE_PX // 2 + CELL_PX :], -1)


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train_lite data"):
        Sampler(tmp_path, 0)

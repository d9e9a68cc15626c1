"""Composed pairs: sizes, ids, the same for the same seed; textures of any size; cut-outs that move."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.train_lite.conftest import backgrounds
from tools.train_lite import compose as module
from tools.train_lite.compose import Composer, Look, Pair, compose
from tools.train_lite.shapes import CANVAS_PX, moving_shape
from tools.train_lite.textures import HEIGHT_PX, WIDTH_PX, Textures

SIDES = st.integers(1, 60)


def test_pairs_have_frames_and_ids_of_one_size(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        for frame in range(2):
            assert pair.frame_rgb(frame).shape == (HEIGHT_PX, WIDTH_PX, 3)
            for grouped in (False, True):
                ids = pair.object_ids(frame, grouped=grouped)
                assert (ids.shape, ids.dtype) == ((HEIGHT_PX, WIDTH_PX), np.dtype(np.uint8))
                assert ids.max() <= max(module.N_ACTORS)


def test_pairs_show_objects_that_change_between_their_frames(pairs: Sequence[Pair]) -> None:
    first, second = (np.stack([pair.object_ids(frame, grouped=False) for pair in pairs]) for frame in (0, 1))
    assert (first > 0).any(axis=(1, 2)).all()
    assert (first != second).any(axis=(1, 2)).all()


def test_a_group_holds_whole_objects(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        labels, groups = (pair.object_ids(0, grouped=grouped) for grouped in (False, True))
        assert ((labels > 0) == (groups > 0)).all()
        for object_id in np.unique(labels[labels > 0]):
            assert len(np.unique(groups[labels == object_id])) == 1


def test_a_seed_fixes_the_pairs(assets: Path, pairs: Sequence[Pair]) -> None:
    assert Composer(assets, seed=1).pair() == pairs[0]
    assert Composer(assets, seed=2).pair() != pairs[0]


def test_shards_are_written_once(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS_PER_SHARD", 1)
    compose(assets, tmp_path, seed=1, n_shards=2)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["pairs_1_0000.pkl", "pairs_1_0001.pkl"]
    assert all(isinstance(pickle.loads(file.read_bytes())[0], Pair) for file in files)
    monkeypatch.setattr(module, "Composer", None)
    compose(assets, tmp_path, seed=1, n_shards=2)


@given(st.integers(0, 2**32 - 1), SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_textures_have_the_size_that_is_asked_for(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    found = Textures(backgrounds(np.random.default_rng(0)), rng).texture(height, width)
    assert (found.shape, found.dtype) == ((height, width, 3), np.dtype(np.float32))
    assert found.min() >= 0
    assert found.max() <= 255


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_look_keeps_colours_finite_and_alpha_in_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = rng.random((30, 40)).round().astype(np.float32)
    colour = (255 * rng.random((30, 40, 3)) * alpha[..., None]).astype(np.float32)
    behind = (255 * rng.random((30, 40, 3))).astype(np.float32)
    look = Look.draw(rng)
    colours, share = look.applied(colour, alpha, behind)
    assert np.isfinite(colours).all()
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-5
    assert look.kernel is None or look.kernel.sum() == pytest.approx(1, abs=1e-5)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_shapes_cover_a_part_of_their_canvas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    textures = Textures(backgrounds(np.random.default_rng(0)), rng)
    pictures = moving_shape(rng, textures.texture)
    assert len(pictures) == 2
    for picture in pictures:
        assert (picture.shape, picture.dtype) == ((CANVAS_PX, CANVAS_PX, 4), np.dtype(np.uint8))
        assert 0 < (picture[..., 3] > 127).mean() < 1

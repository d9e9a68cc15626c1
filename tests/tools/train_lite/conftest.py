"""A few made-up pictures, pairs composed of them, and a trunk of random weights."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model_zoo.lite.trunk import Trunk
from tools.train_lite.assets import CutOut, Picture
from tools.train_lite.compose import Composer, Pair
from tools.train_lite.textures import Background

N_PAIRS = 5


def ellipse(rng: np.random.Generator, height: int, width: int) -> Picture:
    """A BGRA picture of coloured noise in an ellipse."""
    picture = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
    alpha: Picture = np.zeros((height, width), np.uint8)
    cv2.ellipse(alpha, (width // 2, height // 2), (width // 2 - 3, height // 2 - 3), 0, 0, 360, 255, -1)
    picture[..., 3] = alpha
    return picture


def backgrounds(rng: np.random.Generator) -> list[Background]:
    """Two pictures of noise, one of them coarse."""
    coarse = cv2.resize(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8), (640, 400))
    return [(1.0, "coarse", np.asarray(coarse, np.uint8)), (2.0, "fine", rng.integers(0, 256, (300, 500, 3), np.uint8))]


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `assets.collect` writes it: one cut-out of a kind, some of them with two pictures."""
    folder, rng = tmp_path_factory.mktemp("assets"), np.random.default_rng(0)
    kinds = ("drawn", "emoji", "photo", "person", "animal", "rider", "machine", "building", "nature")
    cut_outs = [
        CutOut(kind, f"{kind} {n}", tuple(ellipse(rng, 100 + 10 * n, 120) for _ in range(1 + n % 2)))
        for n, kind in enumerate(kinds)
    ]
    (folder / "cutouts.pkl").write_bytes(pickle.dumps(cut_outs))
    (folder / "backgrounds.pkl").write_bytes(pickle.dumps(backgrounds(rng)))
    return folder


@pytest.fixture(scope="session")
def pairs(assets: Path) -> Sequence[Pair]:
    """Some pairs of one seed."""
    composer = Composer(assets, seed=1)
    return [composer.pair() for _ in range(N_PAIRS)]


@pytest.fixture(scope="session")
def pairs_folder(pairs: Sequence[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two shards, as `compose.compose` writes it."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pairs_1_0000.pkl").write_bytes(pickle.dumps(pairs[:3]))
    (folder / "pairs_1_0001.pkl").write_bytes(pickle.dumps(pairs[3:]))
    return folder


@pytest.fixture(scope="session")
def trunk() -> Trunk:
    """A trunk of random weights."""
    torch.manual_seed(0)
    return Trunk().eval()

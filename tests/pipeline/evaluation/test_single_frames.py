"""Masks of single frames from prompts alone, and what corrective clicks do to them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.datasets import ClipFiles, find_clips, read_truth
from pipeline.evaluation.single_frames import CORRECTIONS, KINDS, prompts_by_kind, score_single_frames
from pipeline.methods.choice import MethodChoice
from pipeline.types import PointPrompt
from tests.built_methods import built
from tests.pipeline.evaluation.davis_folder import write_rendered_clip

N_FRAMES = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    data = tmp_path_factory.mktemp("davis")
    write_rendered_clip(data, "two", N_FRAMES)
    (found,) = find_clips(data)
    return found


@pytest.mark.parametrize("name", ["i_pt", "idpro", "civos"])
def test_single_frames(clip: ClipFiles, name: str) -> None:
    truth = read_truth(clip)
    truth.labels[2][truth.labels[2] == 2] = 0
    method = built(MethodChoice(name, "lite"))
    (score,) = score_single_frames(clip, truth, method, [2, N_FRAMES], seed=1)
    assert (score.frame_index, score.object_id) == (2, 1)
    assert tuple(score.iou) == (*KINDS, *CORRECTIONS)
    assert score.iou["box_clicks"] > 0.5
    prompts = prompts_by_kind(truth.mask(0, 1), np.random.default_rng(0))
    (box,), (same_box, *clicks), (click,) = (prompts[kind] for kind in KINDS)
    assert box == same_box
    assert [each.positive for each in clicks if isinstance(each, PointPrompt)] == [True] * 8 + [False]
    assert isinstance(click, PointPrompt)
    assert click.positive

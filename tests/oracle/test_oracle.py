"""The oracle answers prompts as segment-anything does, through the project's own segmenter, and its scenes are true."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.memory import crstm
from pipeline.segmenters.base import MemoryReadout, ObjectPrompts, PromptBatch, Segmentation
from pipeline.session.session import Session
from pipeline.trackers.points.base import PointQueries
from pipeline.trackers.points.lucas_kanade import LucasKanade
from pipeline.types import BoolMask
from tests.oracle.methods import iou, ious, mask_prompt, masks_of, oracle_method
from tests.oracle.model import CHANNELS, GRID, LOW_RES, oracle_segmenter
from tests.oracle.scenes import SCENES, SIZE_HW_PX, scene

SEGMENTER = oracle_segmenter()
CLICK = ObjectPrompts(np.array([[60, 96]], np.float32), np.array([True]))
AGAINST = ObjectPrompts(np.array([[10, 10]], np.float32), np.array([False]))


def asked(name: str, prompts: ObjectPrompts, frame_index: int = 0, **options: object) -> tuple[Segmentation, BoolMask]:
    """The answer, and the mask that scores best."""
    embedding = SEGMENTER.embed(scene(name).images[frame_index])
    found = SEGMENTER.segment(embedding, PromptBatch((prompts,)), **options)  # type: ignore[arg-type]
    best = int(found.predicted_iou[0].argmax())
    return found, SEGMENTER.to_full_size(embedding, found.low_res_logits[0, best]) > 0


def true_logits(name: str, frame_index: int = 0, object_id: int = 1) -> np.ndarray:
    shown = scene(name)
    mask = np.where(shown.masks[object_id][frame_index], 4.0, -4.0).astype(np.float32)
    return SEGMENTER.to_low_res(SEGMENTER.embed(shown.images[frame_index]), mask)


def test_shapes_and_keys_are_as_of_segment_anything() -> None:
    found, _ = asked("moves", CLICK)
    assert found.low_res_logits.shape == (1, 1, LOW_RES, LOW_RES)
    embedding = SEGMENTER.embed(scene("moves").images[0])
    query = found.queries[0]
    np.testing.assert_array_equal(query.cells.all_keys.T, SEGMENTER.features(embedding).flatten(1))
    assert query.keys.shape == (CHANNELS, query.cells.n_cells)
    assert query.cells.n_cells < GRID**2
    assert found.predicted_iou[0, 0] > 0.8


@pytest.mark.parametrize("prompts", [CLICK, ObjectPrompts(box_xyxy_px=(24.0, 60.0, 98.0, 134.0))])
def test_a_click_or_a_box_finds_a_plain_object(prompts: ObjectPrompts) -> None:
    _, mask = asked("moves", prompts)
    assert iou(mask, scene("moves").masks[1][0]) > 0.9


def test_of_two_alike_the_one_with_the_click_or_in_the_box_is_found() -> None:
    truth = scene("alike").masks[1][0]
    click = ObjectPrompts(np.array([[60, 60], [196, 136]], np.float32), np.array([True, False]))
    box = ObjectPrompts(click.points_xy_px[:1], click.positive[:1], (30.0, 30.0, 90.0, 90.0))
    for prompts in (click, box):
        assert iou(asked("alike", prompts)[1], truth) > 0.85


def test_negatives_alone_give_something_wrong_and_large_with_a_high_score() -> None:
    found, mask = asked("moves", AGAINST)
    assert found.predicted_iou[0, 0] > 0.9
    occluder = ObjectPrompts(np.array([[60, 96]], np.float32), np.array([False]))
    _, mask = asked("moves", occluder)
    assert mask.mean() > 0.7


def test_negatives_correct_an_earlier_mask() -> None:
    both = true_logits("two_coloured")
    on_blue = ObjectPrompts(np.array([[95, 96]], np.float32), np.array([False]))
    _, mask = asked("two_coloured", on_blue, mask_input=[both])
    truth = scene("two_coloured").masks[1][0]
    red = truth & (np.arange(SIZE_HW_PX[1]) < 68)
    assert iou(mask, red) > iou(mask, truth)
    assert not mask[96, 95]


def test_one_click_on_two_colours_is_ambiguous_and_gives_three_proposals() -> None:
    red, truth = ObjectPrompts(np.array([[44, 96]], np.float32), np.array([True])), scene("two_coloured").masks[1][0]
    found, _ = asked("two_coloured", red, multimask=True)
    part, whole, more = (each > 0 for each in found.low_res_logits[0])
    assert part.sum() < whole.sum() < more.sum()
    embedding = SEGMENTER.embed(scene("two_coloured").images[0])
    assert iou(SEGMENTER.to_full_size(embedding, found.low_res_logits[0, 1]) > 0, truth) > 0.9
    near_border = ObjectPrompts(np.array([[27, 96]], np.float32), np.array([True]))
    again, _ = asked("two_coloured", near_border, multimask=True)
    assert found.predicted_iou[0].argmax() == 0
    assert again.predicted_iou[0].argmax() == 1


def test_the_mask_follows_what_was_read_from_memory() -> None:
    anchor = SEGMENTER.embed(scene("two_coloured").images[0])
    query = asked("two_coloured", CLICK)[0].queries[0]
    entry = SEGMENTER.memorise(anchor, query, true_logits("two_coloured"))
    truth = scene("two_coloured").masks[1][10]
    spot = ObjectPrompts(np.array([[np.nonzero(truth)[1].min() + 12, 96]], np.float32), np.array([True]))
    found, part = asked("two_coloured", spot, 10)
    values = crstm.read(entry.keys, entry.values, found.queries[0].keys, 20)
    readout = MemoryReadout(found.queries[0], values, 0.2)
    _, mask = asked("two_coloured", spot, 10, mask_input=[found.low_res_logits[0, 0]], readout=[readout])
    assert iou(mask, truth) > iou(part, truth) + 0.1


@pytest.mark.parametrize("name", SCENES)
def test_scenes_show_every_object_once_per_pixel_and_points_can_be_tracked(name: str) -> None:
    shown = scene(name)
    for masks in zip(*shown.masks.values(), strict=True):
        assert np.sum(masks, axis=0).max() <= 1
    ys, xs = np.nonzero(shown.masks[1][0])
    middle = np.array([[xs.mean(), ys.mean()]], np.float32)
    tracks = LucasKanade().track(shown.frames, PointQueries(0, middle), range(6))
    x, y = tracks.tracks_xy_px[5, 0]
    assert tracks.visible[5, 0]
    assert shown.masks[1][5][int(y), int(x)]


def test_objects_leave_hide_and_come_back() -> None:
    for name in ("leaves", "hidden"):
        visible = scene(name).visible()
        assert visible[0]
        assert visible[-1]
        assert not all(visible)
    assert all(all(scene(name).visible()) for name in SCENES if name not in ("leaves", "hidden", "crosses"))


def test_a_method_runs_on_it_in_milliseconds_and_the_same_every_time() -> None:
    shown, runs = scene("moves"), []
    for _ in range(2):
        session, started = Session(shown.frames, oracle_method("sam_pt")), time.monotonic()
        list(session.run_round([mask_prompt(shown, 0)], object_ids=[1]))
        runs.append(masks_of(session))
        assert time.monotonic() - started < 0.5 * len(shown.images)
    assert np.mean(ious(session, shown)) > 0.9
    assert all((runs[0][frame] == runs[1][frame]).all() for frame in runs[0])

"""Lazy: uncertainty is watched on the way; corrections, wishes for help and the memory follow from it (thesis, 6.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_zoo.lite.network import load_lite
from model_zoo.store import ModelStore
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Anchor, Estimate, ObjectRound
from pipeline.methods.choice import MethodChoice, build_method
from pipeline.methods.concurrent.lazy_video import LazyVideo
from pipeline.methods.concurrent.settings import ConcurrentSettings
from pipeline.methods.concurrent.video import PassState
from pipeline.methods.idpro import IdPro
from pipeline.methods.lazy import Lazy, LazySettings, _warn_uncalibrated
from pipeline.segmenters.base import FloatMap, PromptBatch, Segmentation, Segmenter
from pipeline.segmenters.lite.segmenter import LiteSegmenter
from pipeline.session.session import Session
from pipeline.types import BoolMask, FrameRGB, MaskPrompt, RunLengthMask
from pipeline.uncertainty import UncertaintyThresholds
from tests.built_methods import lite_segmenter
from tests.oracle.methods import iou
from tests.oracle.scenes import Body, Scene, rendered
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import Frame, RecordingSegmenter

MASK: BoolMask = np.zeros((80, 100), np.bool_)
MASK[20:60, 30:70] = True
OTHER: BoolMask = np.zeros_like(MASK)
OTHER[64:76, 4:24] = True
NEVER = math.inf


def contrasts(*logits: float, other: float = 6.0) -> list[FrameRGB]:
    """Frames on which `RecordingSegmenter` finds `MASK` with these logits, `OTHER` with those, and -8 elsewhere."""
    frames = []
    for logit in logits:
        image = np.full((*MASK.shape, 3), 90, np.uint8)
        image[..., 1] = 170
        for mask, found in ((MASK, logit), (OTHER, other)):
            image[mask] = (100 + round(10 * found), 100, 90)
        frames.append(image)
    return frames


@dataclass
class Refining(RecordingSegmenter):
    """Answers a person's or the method's own clicks with logits ``factor`` times as strong, shifted to the right."""

    factor: float = 1.0
    shift_px: int = 0
    adapted: list[int] = field(default_factory=list)

    def segment(self, embedding: Frame, prompts: PromptBatch, **given: Any) -> Segmentation:
        found = super().segment(embedding, prompts, **given)
        if prompts.objects[0].tracked:
            return found
        logits = np.roll(found.low_res_logits * np.float32(self.factor), self.shift_px // 2, -1)
        return Segmentation(logits, found.predicted_iou, found.queries)

    def adapt(self, appearance: Any, embedding: Frame, low_res_logits: FloatMap) -> Any:  # noqa: ARG002
        self.adapted.append(1)
        return appearance


def opened(segmenter: Segmenter, images: list[FrameRGB], **settings: Any) -> LazyVideo:
    return Lazy(segmenter, EmbeddingCache(256), LazySettings(**settings)).open(ArrayFrames(images))


def started(video: LazyVideo, masks: Sequence[BoolMask] = (MASK,)) -> list[PassState]:
    tasks = [ObjectRound(i, 1, (Anchor(0, mask),), frozenset()) for i, mask in enumerate(masks, start=1)]
    memory = video.begin_round(tasks)
    return [video.start_pass(task.object_id, task.anchors[0], memory) for task in tasks]


def walked(video: LazyVideo, n_frames: int, masks: Sequence[BoolMask] = (MASK,)) -> list[list[Estimate]]:
    passes = started(video, masks)
    return [video.step(frame, passes, None) for frame in range(1, n_frames)]


def clicks_of(segmenter: RecordingSegmenter) -> list[int]:
    """Of every call with prompts that bind, how many objects it had."""
    return [len(call.prompts) for call in segmenter.calls if not call.prompts[0].tracked]


@pytest.mark.parametrize(
    ("settings", "helped", "corrected"),
    [
        ({}, [], [2, 3]),
        ({"tau_u": 0.35}, [3], [2]),
        ({"tau_u": 0.2}, [2, 3], []),
        ({"tau_u": 0.35, "tau_p": 0.3}, [3], []),
        ({"tau_u": NEVER, "tau_p": 0.3}, [], [3]),
        ({"tau_u": NEVER, "tau_p": NEVER}, [], []),
        ({"tau_u": 0.35, "pseudo_corrections": False}, [3], []),
    ],
)
def test_rising_uncertainty_leads_to_corrections_and_requests(
    settings: dict[str, Any], helped: list[int], corrected: list[int]
) -> None:
    # The masked entropy along the pass is 0.01, 0.26, 0.65 and 0.01.
    segmenter, images = RecordingSegmenter(), contrasts(6, 6, 1.35, 0.3, 6)
    video = opened(segmenter, images, **settings)
    passes, wanted, own = started(video), [], []
    for frame in range(1, len(images)):
        n_before = len(clicks_of(segmenter))
        (estimate,) = video.step(frame, passes, None)
        wanted += [frame] * estimate.wants_help
        own += [frame] * (len(clicks_of(segmenter)) > n_before)
    assert (wanted, own) == (helped, corrected)


def test_uncertainty_and_its_change_are_told() -> None:
    first, second, third = (each for (each,) in walked(opened(RecordingSegmenter(), contrasts(6, 6, 1.35, 0.3)), 4))
    assert first.uncertainty is not None
    assert second.uncertainty is not None
    assert third.uncertainty is not None
    assert first.uncertainty < 0.1 < second.uncertainty < 0.5 < third.uncertainty
    assert first.uncertainty_change is None
    assert second.uncertainty_change == pytest.approx(second.uncertainty - first.uncertainty)
    assert third.uncertainty_change == pytest.approx(third.uncertainty - second.uncertainty)


@pytest.mark.parametrize("uses_mask", [False, True])
def test_the_refiner_gets_one_click_inside_and_the_mask_only_if_it_wants_one(uses_mask: bool) -> None:
    segmenter = RecordingSegmenter(uses_mask_prior=uses_mask)
    walked(opened(segmenter, contrasts(6, 6, 1.35), prompted_refinements=0), 3)
    call = next(call for call in segmenter.calls if not call.prompts[0].tracked)
    (prompts,) = call.prompts
    assert prompts.positive.tolist() == [True]
    assert prompts.box_xyxy_px is None
    x_px, y_px = prompts.points_xy_px[0]
    assert MASK[int(y_px), int(x_px)]
    assert not call.has_mask_input
    assert (call.has_mask_prior, call.multimask) == (uses_mask, not uses_mask)


def test_several_objects_are_corrected_in_one_call() -> None:
    segmenter = RecordingSegmenter()
    images = [*contrasts(6, 6), *contrasts(1.35, other=1.3)]
    walked(opened(segmenter, images, tau_p=0.05, prompted_refinements=0), 3, [MASK, OTHER])
    assert set(clicks_of(segmenter)) == {2}


@pytest.mark.parametrize(
    ("factor", "shift_px", "taken"),
    [(3.0, 0, True), (0.5, 0, False), (3.0, 6, True), (3.0, 30, False)],
    ids=["surer", "less sure", "surer and nearly there", "surer but elsewhere"],
)
def test_a_correction_is_taken_if_it_is_surer_and_agrees(factor: float, shift_px: int, taken: bool) -> None:
    segmenter = Refining(factor=factor, shift_px=shift_px)
    images = contrasts(6, 6, 1.35, 1.35)
    images[2][60:, :] = images[3][60:, :] = (90, 170, 90)
    plain, corrected = (walked(opened(segmenter, images, pseudo_corrections=own), 4) for own in (False, True))
    (before,), (after,) = plain[1], corrected[1]
    assert (before.logits.tobytes() != after.logits.tobytes()) == taken
    assert before.uncertainty is not None
    assert after.uncertainty is not None
    assert (after.uncertainty < before.uncertainty - 0.1) == taken
    # The rise is that of what was found, before and after a correction.
    assert after.uncertainty_change == before.uncertainty_change
    assert corrected[2][0].uncertainty_change == plain[2][0].uncertainty_change


def test_what_was_corrected_is_carried_on() -> None:
    segmenter = Refining(factor=3.0, shift_px=6)
    video = opened(segmenter, contrasts(6, 6, 1.35))
    (pass_,) = started(video)
    for frame in (1, 2):
        (estimate,) = video.step(frame, [pass_], None)
    carried = pass_.flow.to(2)
    assert carried is not None
    # Masks are carried at a reduced size, so that their border moves by a pixel or so.
    mask = estimate.logits > 0
    assert ((carried > 0) & mask).sum() / ((carried > 0) | mask).sum() > 0.9


@pytest.mark.parametrize(("tau_m", "remembered"), [(0.5, [1, 2, 4]), (NEVER, [1, 2, 3, 4]), (0.2, [1, 4])])
def test_uncertain_frames_are_not_remembered(tau_m: float, remembered: list[int]) -> None:
    segmenter = Refining()
    settings = {"memory_policy": "fifo", "memory_slots": 9, "interval_frames": 1}
    video = opened(segmenter, contrasts(6, 6, 1.35, 0.3, 6), tau_m=tau_m, **settings)
    (pass_,) = started(video)
    for frame in range(1, 5):
        video.step(frame, [pass_], None)
    assert sorted(pass_.memory.readable) == remembered
    assert len(segmenter.adapted) == len(remembered)


def test_each_way_compares_with_its_own_last_frame() -> None:
    images = contrasts(6, 6, 1.35, 1.35, 6)
    video = opened(RecordingSegmenter(), images, tau_p=NEVER, tau_u=NEVER)
    (forward,) = started(video)
    backward = video.start_pass(1, Anchor(4, MASK), {1: None})
    changes = {}
    for frame, pass_ in ((1, forward), (3, backward), (2, forward), (2, backward)):
        (estimate,) = video.step(frame, [pass_], None)
        changes[frame, pass_ is forward] = estimate.uncertainty_change
    assert changes[1, True] is None
    assert changes[3, False] is None
    assert (changes[2, True] or 0.0) > 0.2
    assert changes[2, False] == pytest.approx(0.0, abs=0.02)


def behind_a_pillar() -> Scene:
    """An object that passes behind a pillar of almost its own colour."""
    return rendered(
        [
            Body(lambda t: (60 + 136 * t, 96, 24, 24), (205, 65, 65)),
            Body(lambda _: (128, 96, 30, 30), (190, 78, 78), rectangle=True, is_object=False),
        ],
        24,
    )


class Calibrated(LiteSegmenter):
    """Brings thresholds of its own, which fit the scene above."""

    uncertainty_thresholds = UncertaintyThresholds(0.02, 0.018, 0.8)


@pytest.mark.parametrize(("settings", "asks"), [({}, True), ({"tau_u": 0.5, "tau_p": 0.2}, False)])
def test_with_the_segmenters_own_thresholds_help_is_asked_for_before_the_object_is_lost(
    settings: dict[str, float], asks: bool
) -> None:
    """The thesis' thresholds, for another segmenter, are never reached in this scene."""
    scene = behind_a_pillar()
    segmenter = Calibrated(load_lite())
    video = Lazy(segmenter, EmbeddingCache(256), LazySettings(**settings)).open(scene.frames)  # type: ignore[arg-type]
    (pass_,) = started(video, [scene.masks[1][0]])
    estimates = [video.step(frame, [pass_], None)[0] for frame in range(1, len(scene.images))]
    ious = [iou(each.logits > 0, scene.masks[1][each.frame_index]) for each in estimates]
    calls = [each.frame_index for each in estimates if each.wants_help]
    lost = next(each.frame_index for each, value in zip(estimates, ious, strict=True) if value < 0.5)
    assert [frame < lost for frame in calls][:1] == [True] * asks


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, (0.04, 0.02, 0.8)),
        ({"tau_u": 0.01}, (0.01, 0.01, 0.8)),
        ({"tau_p": 0.1}, (0.1, 0.1, 0.8)),
        ({"tau_u": NEVER, "tau_m": 0.3}, (NEVER, 0.02, 0.3)),
    ],
)
def test_thresholds_left_out_are_the_segmenters_and_give_way(
    given: dict[str, float], used: tuple[float, float, float]
) -> None:
    thresholds = LazySettings(**given).thresholds(UncertaintyThresholds(0.04, 0.02, 0.8))  # type: ignore[arg-type]
    assert astuple(thresholds) == used


def test_without_calibrated_thresholds_it_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn_uncalibrated.cache_clear()
    for _ in range(2):
        opened(RecordingSegmenter(), contrasts(6))
    assert caplog.text.count("no calibrated thresholds for the segmenter recording") == 1
    caplog.clear()
    _warn_uncalibrated.cache_clear()
    opened(RecordingSegmenter(), contrasts(6), tau_u=0.5, tau_p=0.2)
    opened(Calibrated(load_lite()), contrasts(6))
    assert caplog.text == ""


@pytest.mark.parametrize("segmenter", ["recording", "lite"])
def test_without_thresholds_it_is_idpro_with_the_same_memory(segmenter: str) -> None:
    images, masks = moving_square(n_frames=9)

    def masks_by(lazy: bool) -> list[bytes]:
        part: Segmenter = RecordingSegmenter() if segmenter == "recording" else lite_segmenter()
        parts: tuple[Segmenter, EmbeddingCache[Any]] = part, EmbeddingCache(256)
        off = LazySettings(tau_p=NEVER, tau_u=NEVER, tau_m=NEVER)
        shared = {each.name: getattr(off, each.name) for each in fields(ConcurrentSettings)}
        method = Lazy(*parts, off) if lazy else IdPro(*parts, ConcurrentSettings(**shared))
        session = Session(ArrayFrames(images), method)
        prompts = [MaskPrompt(1, frame, RunLengthMask.encode(masks[frame])) for frame in (0, 6)]
        list(session.run_round(prompts, object_ids=[1]))
        return [result.mask.counts for result in session.results(1)]

    assert masks_by(lazy=True) == masks_by(lazy=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau_p": 0.6, "tau_u": 0.5}, r"0 <= tau_p <= tau_u, but got 0\.6 and 0\.5"),
        ({"tau_p": math.nan}, "tau_p must be 0 or more, but got nan"),
        ({"tau_m": -0.1}, "tau_m must be 0 or more"),
        ({"pseudo_agreement": 2}, r"pseudo_agreement must be in \[0, 1\]"),
        ({"memory_policy": "magic"}, "known are fifo, readmem"),
        ({"tau_x": 1}, "unknown option tau_x of method lazy; known are"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    choice = MethodChoice("lazy", "lite", options=options)
    with pytest.raises(ValueError, match=message):
        build_method(choice, store=ModelStore(tmp_path), device="cpu", embeddings=EmbeddingCache(1))

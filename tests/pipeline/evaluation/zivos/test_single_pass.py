"""A single pass with a person who is called: a real method with a quick segmenter, scored on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.evaluation.metrics import boundary_accuracy, region_similarity
from pipeline.evaluation.zivos.annotator import Corrections, InitialPrompt, centre_click
from pipeline.evaluation.zivos.report import clip_entry, figures, zivos_report
from pipeline.evaluation.zivos.single_pass import PassScore, corrections_at_random, run_pass, same_number_at_random
from pipeline.methods.base import Method
from pipeline.methods.lazy import Lazy, LazySettings
from pipeline.segmenters.base import PromptBatch, Segmentation
from pipeline.streaming.session import ClickMeans, OnlineSession
from pipeline.types import BoolMask, FrameRGB, MaskPrompt, Prompt, RunLengthMask
from tests.built_methods import built
from tests.pipeline.frame_sources import ArrayFrames
from tests.pipeline.methods.recording_segmenter import Call, Frame, RecordingSegmenter

N_FRAMES = 12
BROKEN, HIDDEN = 4, (3, 9)
SIZE_HW_PX = (80, 100)
CONTRASTS = (6, 6, 6, 0.6, 6, 6, 0.8, 6, 0.5, 6, 0.4, 6)
"""Logits with which `Clicked` finds what is red on each frame: it is unsure where they are low."""


@dataclass
class Clicked(RecordingSegmenter):
    """Finds what is red; where a person clicks, a square of 20 pixels around the click."""

    def segment(self, embedding: Frame, prompts: PromptBatch, **given: Any) -> Segmentation:
        found = super().segment(embedding, prompts, **given)
        for row, each in enumerate(prompts.objects):
            if len(each.points_xy_px) and not each.tracked:
                x, y = (round(float(v) / 2) for v in each.points_xy_px[0])
                found.low_res_logits[row] = -6
                found.low_res_logits[row, :, max(0, y - 5) : y + 5, max(0, x - 5) : x + 5] = 6
        return found


@dataclass(frozen=True)
class SmallClip:
    """Two red squares: frame 4 cannot be read, object 1 is hidden on frames 3 and 9, object 2 comes with frame 2."""

    frames: ArrayFrames
    labels: NDArray[np.uint8]
    name: str = "small"
    object_ids: tuple[int, ...] = (1, 2)

    def mask(self, frame_index: int, object_id: int) -> BoolMask:
        return np.asarray(self.labels[frame_index] == object_id)


@pytest.fixture(scope="module")
def clip() -> SmallClip:
    labels = np.zeros((N_FRAMES, *SIZE_HW_PX), np.uint8)
    labels[:, 20:60, 30:70] = 1
    labels[2:, 64:76, 4:24] = 2
    labels[list(HIDDEN)] *= labels[list(HIDDEN)] == 2
    images: list[FrameRGB] = []
    for of_frame, contrast in zip(labels, CONTRASTS, strict=True):
        image = np.full((*SIZE_HW_PX, 3), (90, 170, 90), np.uint8)
        image[of_frame > 0] = (100 + round(10 * contrast), 100, 90)
        images.append(image)
    return SmallClip(ArrayFrames(images, frozenset({BROKEN})), labels)


@pytest.fixture(scope="module")
def asking() -> Method:
    """Asks where the uncertainty rises much."""
    return Lazy(Clicked(), EmbeddingCache(64), LazySettings(tau_u=0.2, tau_p=0.2))


@pytest.fixture(scope="module")
def requested(clip: SmallClip, asking: Method) -> PassScore:
    return run_pass(clip, asking, InitialPrompt.MASK)


def by_hand(clip: SmallClip, method: Method) -> dict[int, dict[int, tuple[BoolMask, BoolMask, bool]]]:
    """The same protocol in plain loops: by object and frame the mask found, the final one, and whether it was asked."""
    session, begun = OnlineSession(method), set[int]()
    notes: dict[int, dict[int, tuple[BoolMask, BoolMask, bool]]] = {1: {}, 2: {}}
    nothing = np.zeros(SIZE_HW_PX, np.bool_)
    for t in range(N_FRAMES):
        image = None if t == BROKEN else clip.frames.frames[t]
        new = [] if image is None else [i for i in (1, 2) if i not in begun and clip.mask(t, i).any()]
        given: list[Prompt] = [MaskPrompt(i, t, RunLengthMask.encode(clip.mask(t, i))) for i in new]
        begun |= set(new)
        before = session.feed(image, given)
        found = {result.object_id: result.mask.decode() for result in before.results}
        requested = {request.object_id for request in before.requests} - set(new)
        clicks = [centre_click(clip.mask(t, i), i, t) for i in sorted(requested) if clip.mask(t, i).any()]
        after = session.correct(clicks) if clicks else before
        final = {result.object_id: result.mask.decode() for result in after.results}
        for i in begun:
            notes[i][t] = (found.get(i, nothing), final.get(i, nothing), i in requested)
    return notes


def test_a_pass_is_what_plain_loops_make_of_it(clip: SmallClip, asking: Method, requested: PassScore) -> None:
    notes = by_hand(clip, asking)
    assert [each.object_id for each in requested.objects] == [1, 2]
    assert [each.first_frame for each in requested.objects] == [0, 2]
    assert requested.n_unreadable == 1
    for each in requested.objects:
        frames = range(each.first_frame, N_FRAMES)
        truths = [clip.mask(t, each.object_id) for t in frames]
        expected = [notes[each.object_id][t] for t in frames]
        found_iou = [region_similarity(found, true) for (found, _, _), true in zip(expected, truths, strict=True)]
        iou = [region_similarity(final, true) for (_, final, _), true in zip(expected, truths, strict=True)]
        f = [boundary_accuracy(final, true) for (_, final, _), true in zip(expected, truths, strict=True)]
        assert each.found_iou == pytest.approx(found_iou)
        assert each.iou == pytest.approx(iou)
        assert each.f == pytest.approx(f)
        assert each.calls == tuple(t for t in frames if notes[each.object_id][t][2])
        assert each.answered == tuple(t for t in each.calls if clip.mask(t, each.object_id).any())
        assert each.present.tolist() == [bool(true.any()) for true in truths]
        assert each.scored.tolist() == [False] + [True] * (len(iou) - 1)
    assert [len(each.calls) > len(each.answered) > 0 for each in requested.objects] == [True, False]
    assert any((each.iou != each.found_iou).any() for each in requested.objects), "a click changes a mask"
    assert 0 < sum(requested.part_seconds.values()) <= requested.seconds * 2


def test_a_missing_frame_is_an_empty_mask_and_asks_for_nothing(requested: PassScore) -> None:
    for each in requested.objects:
        assert each.iou[BROKEN - each.first_frame] == 0
        assert np.isnan(each.uncertainty[BROKEN - each.first_frame])
        assert BROKEN not in each.calls


def test_without_corrections_nobody_is_called_and_masks_are_those_found(clip: SmallClip, asking: Method) -> None:
    alone = run_pass(clip, asking, InitialPrompt.CLICKS, Corrections.NONE)
    for each in alone.objects:
        assert (each.calls, each.answered) == ((), ())
        assert each.found_iou == pytest.approx(each.iou)
        assert each.scored.all(), "a click is not the truth, so its frame counts"


def test_random_corrections_are_as_many_at_other_frames(clip: SmallClip, asking: Method, requested: PassScore) -> None:
    schedule = same_number_at_random(requested, seed=3)
    assert schedule == same_number_at_random(requested, seed=3)
    score = run_pass(clip, asking, InitialPrompt.MASK, Corrections.RANDOM, schedule)
    for each, asked in zip(score.objects, requested.objects, strict=True):
        on_schedule = schedule[each.object_id]
        usable = [t for t in range(each.first_frame + 1, N_FRAMES) if clip.mask(t, each.object_id).any()]
        assert len(on_schedule) == min(len(asked.calls), len(usable))
        assert on_schedule <= set(usable)
        assert set(each.calls) == set(each.answered) == on_schedule - {BROKEN}


def test_a_given_number_of_random_corrections(clip: SmallClip) -> None:
    schedule = corrections_at_random(clip, 3, seed=0)
    assert {i: len(frames) for i, frames in schedule.items()} == {1: 3, 2: 3}
    assert not schedule[1] & {0, *HIDDEN}
    assert min(schedule[2]) > 2


def test_a_method_that_cannot_work_online_is_refused(clip: SmallClip) -> None:
    with pytest.raises(ValueError, match="lazy"):
        run_pass(clip, built(), InitialPrompt.MASK)


def test_what_a_click_means_is_passed_on(clip: SmallClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a click that makes a new mask is shown to the segmenter by itself."""
    segmenter = Clicked()
    method = Lazy(segmenter, EmbeddingCache(64), LazySettings(tau_u=0.2, tau_p=0.2))
    monkeypatch.setattr("pipeline.evaluation.zivos.single_pass.timed_method", lambda untimed, _: untimed)

    def clicks(means: ClickMeans) -> int:
        segmenter.calls.clear()
        run_pass(clip, method, InitialPrompt.MASK, click_means=means)
        return sum(_is_clicked(call) for call in segmenter.calls)

    assert clicks(ClickMeans.NEW_MASK) > clicks(ClickMeans.WHERE)


def _is_clicked(call: Call) -> bool:
    return any(len(each.points_xy_px) and not each.tracked for each in call.prompts)


def test_figures_are_means_over_the_objects_of_all_clips(requested: PassScore) -> None:
    one, two = requested.objects
    first, second = replace(requested, objects=(one,)), replace(requested, objects=(two,), seconds=7.0)
    found = figures([first, second], 10.0)
    j = np.mean([one.iou[1:].mean(), two.iou[1:].mean()])
    f = np.mean([one.f[1:].mean(), two.f[1:].mean()])
    assert (found["j"], found["f"], found["jf"]) == pytest.approx((j, f, (j + f) / 2))
    assert found["robustness"]["0.5"] == pytest.approx(np.mean([(o.iou[1:] >= 0.5).mean() for o in (one, two)]))
    assert found["noc"] == len(one.calls) + len(two.calls)
    assert found["idi_s"] == pytest.approx((12 + 10) / (found["noc"] + 2) / 10.0)
    assert found["aci_sum"] == pytest.approx(2 * found["aci"])
    assert found["seconds_per_frame"] == pytest.approx((requested.seconds + 7.0) / 2 / N_FRAMES)
    by_part = {part: 2 * seconds / (2 * N_FRAMES) for part, seconds in requested.part_seconds.items()}
    assert found["seconds_per_frame_by_part"] == pytest.approx(by_part)


def test_figures_of_nothing_are_none() -> None:
    found = figures([], 24.0)
    assert found["noc"] == found["answered"] == found["spearman_objects"] == found["aci_sum"] == 0
    empty = ("j", "f", "jf", "idi_s", "aci", "spearman_median", "spearman_quartiles", "seconds_per_frame")
    assert found["spearman_of_score_median"] is None
    assert {key: found[key] for key in empty} == dict.fromkeys(empty)
    assert set(found["robustness"].values()) == {None}


def test_the_document_holds_every_frame(requested: PassScore) -> None:
    entry = clip_entry({"requested": requested}, 24.0, {1: 1, 2: 9}, SIZE_HW_PX)
    settings = {"method": "lazy", "segmenter": "lite", "seed": 0, "frames_per_s": 24.0}
    runs = [{"requested": requested}]
    document = zivos_report(runs, [entry], ["requested"], settings, device="cpu", complete=True)
    assert (document["frames"], document["objects"]) == (N_FRAMES, 2)
    assert document["passes"]["requested"] == figures([requested], 24.0)
    first, second = entry["passes"]["requested"]["objects"]
    assert second["object_id"] == 9, "the clip's own number"
    assert (len(first["iou"]), len(second["iou"])) == (N_FRAMES, N_FRAMES - 2)
    assert first["uncertainty"][BROKEN] is None
    assert first["calls"] == list(requested.objects[0].calls)

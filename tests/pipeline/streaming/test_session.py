"""`OnlineSession`: one pass without future frames, requests for help, and constant memory."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_zoo.store import ModelStore
from pipeline.embeddings.cache import EmbeddingCache
from pipeline.methods.base import Method
from pipeline.methods.choice import MethodChoice, build_method, online_methods
from pipeline.methods.concurrent.settings import ConcurrentSettings
from pipeline.methods.idpro import IdPro
from pipeline.methods.lazy import Lazy, LazySettings
from pipeline.session.session import Session
from pipeline.streaming.session import ClickMeans, OnlineFrame, OnlineSession
from pipeline.types import BoolMask, BoxPrompt, FrameRGB, MaskPrompt, PointPrompt, Prompt, RunLengthMask
from pipeline.uncertainty import dilated
from tests.built_methods import lite_segmenter
from tests.clips import real_or_rendered
from tests.pipeline.frame_sources import ArrayFrames, moving_square
from tests.pipeline.methods.recording_segmenter import RecordingSegmenter
from tests.pipeline.methods.test_lazy import MASK, contrasts

N_FRAMES = 10
IMAGES, MASKS = moving_square(n_frames=N_FRAMES)
NEVER = math.inf


def given(frame_index: int, object_id: int = 1, mask: BoolMask | None = None) -> MaskPrompt:
    return MaskPrompt(object_id, frame_index, RunLengthMask.encode(MASKS[frame_index] if mask is None else mask))


def click(frame_index: int, object_id: int = 1, *, positive: bool = True) -> PointPrompt:
    ys, xs = np.nonzero(MASKS[frame_index])
    return PointPrompt(object_id, frame_index, float(xs.mean()), float(ys.mean()), positive)


def idpro(**settings: Any) -> IdPro:
    return IdPro(RecordingSegmenter(), EmbeddingCache(64), ConcurrentSettings(**settings))


def lazy(**settings: Any) -> Lazy:
    return Lazy(RecordingSegmenter(), EmbeddingCache(64), LazySettings(**settings))


def fed(session: OnlineSession, images: Sequence[FrameRGB | None], prompts: Sequence[Prompt] = ()) -> list[OnlineFrame]:
    """All frames fed, the prompts with theirs."""
    found = []
    for image in images:
        now = session.n_frames
        found.append(session.feed(image, [prompt for prompt in prompts if prompt.frame_index == now]))
    return found


def iou(mask: RunLengthMask, truth: BoolMask) -> float:
    found = mask.decode()
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("name", online_methods())
def test_one_pass_gives_the_masks_of_a_session(name: str, tmp_path: Path) -> None:
    def method() -> Method:
        choice = MethodChoice(name, "lite")
        return build_method(choice, store=ModelStore(tmp_path), device="cpu", embeddings=EmbeddingCache(256))

    session = Session(ArrayFrames(IMAGES), method())
    list(session.run_round([given(0)], object_ids=[1]))
    frames = fed(OnlineSession(method()), IMAGES, [given(0)])
    assert [frame.frame_index for frame in frames] == list(range(N_FRAMES))
    assert [frame.results[0].mask for frame in frames] == [result.mask for result in session.results(1)]
    assert [frame.results[0].prompted for frame in frames] == [True] + [False] * (N_FRAMES - 1)
    assert all(0.0 <= (frame.results[0].uncertainty or 0.0) <= 1.0 for frame in frames)
    assert frames[-1].results[0].uncertainty is not None


def test_objects_may_start_on_any_frame() -> None:
    session = OnlineSession(idpro())
    box = BoxPrompt(7, 5, (30.0, 35.0, 80.0, 85.0))
    frames = fed(session, IMAGES, [given(2, 3), box])
    assert [[result.object_id for result in frame.results] for frame in frames] == (
        [[]] * 2 + [[3]] * 3 + [[3, 7]] * (N_FRAMES - 5)
    )
    assert session.object_ids == (3, 7)


def test_masks_do_not_overlap_and_prompted_objects_come_first() -> None:
    session = OnlineSession(idpro())
    left, right = MASKS[0].copy(), MASKS[0].copy()
    left[:, 50:], right[:, :45] = False, False
    frames = fed(session, IMAGES[:4], [given(0, 1, left), given(0, 2, right)])
    for frame in frames:
        one, two = (result.mask.decode() for result in frame.results)
        assert not (one & two).any()
    after = session.correct([given(3, 2, MASKS[3])])
    one, two = (result.mask.decode() for result in after.results)
    assert (two == MASKS[3]).all()
    assert not (one & two).any()


def test_a_missing_frame_has_no_mask() -> None:
    images: list[FrameRGB | None] = [None, *IMAGES[1:3], None, None, *IMAGES[5:]]
    frames = fed(OnlineSession(lazy()), images, [given(1)])
    assert [len(frame.results) for frame in frames] == [0, 1, 1, 0, 0] + [1] * (N_FRAMES - 5)
    assert all(iou(frame.results[0].mask, MASKS[frame.frame_index]) > 0.9 for frame in frames if frame.results)


@pytest.mark.parametrize("means", ClickMeans)
def test_further_prompts_correct_the_mask_of_a_single_click(means: ClickMeans) -> None:
    segmenter = RecordingSegmenter()
    session = OnlineSession(Lazy(segmenter, EmbeddingCache(64)), click_means=means)
    fed(session, IMAGES[:3], [given(0)])
    segmenter.calls.clear()
    session.correct([click(2)])
    segmenter.calls.clear()
    session.correct([click(2, positive=False)])
    first = segmenter.calls[0]
    assert first.has_mask_input
    assert first.prompts[0].positive.tolist() == [True, False]


def test_a_single_click_may_make_a_new_mask() -> None:
    segmenter = RecordingSegmenter()
    session = OnlineSession(Lazy(segmenter, EmbeddingCache(64)), click_means=ClickMeans.NEW_MASK)
    fed(session, IMAGES[:3], [given(0)])
    segmenter.calls.clear()
    session.correct([click(2)])
    assert not segmenter.calls[0].has_mask_input
    assert segmenter.calls[0].multimask


def test_a_click_on_the_mask_confirms_it() -> None:
    segmenter = RecordingSegmenter()
    session = OnlineSession(Lazy(segmenter, EmbeddingCache(64)))
    found = fed(session, IMAGES[:3], [given(0)])[2].results[0]
    segmenter.calls.clear()
    confirmed = session.correct([click(2)]).results[0]
    assert not segmenter.calls
    assert (confirmed.mask, confirmed.prompted, found.prompted) == (found.mask, True, False)
    assert iou(session.feed(IMAGES[3]).results[0].mask, MASKS[3]) > 0.9


def test_a_click_beside_the_mask_says_where_the_object_is() -> None:
    """The object jumps away; what was learnt of it finds it where the click is, and follows it from there."""
    session = OnlineSession(Lazy(lite_segmenter(), EmbeddingCache(64), LazySettings(tau_p=NEVER, tau_u=NEVER)))
    fed(session, IMAGES[:5], [given(0)])
    jumped, there = np.roll(IMAGES[5], (25, 60), axis=(0, 1)), np.roll(MASKS[5], (25, 60), axis=(0, 1))
    ys, xs = np.nonzero(there)
    lost = session.feed(jumped).results[0].mask
    aside = PointPrompt(1, 5, float(xs.mean()) + 4.5, float(ys.mean()) - 3.5)
    again = session.correct([aside]).results[0]
    assert iou(lost, there) < 0.5
    assert iou(again.mask, there) > 0.85
    assert again.prompted
    further = session.feed(np.roll(IMAGES[6], (25, 60), axis=(0, 1))).results[0].mask
    assert iou(further, np.roll(MASKS[6], (25, 60), axis=(0, 1))) > 0.85


def test_a_click_where_the_method_finds_nothing_makes_a_new_mask() -> None:
    """What the person clicked is object, whatever the method remembers."""
    session = OnlineSession(Lazy(lite_segmenter(), EmbeddingCache(64), LazySettings(tau_p=NEVER, tau_u=NEVER)))
    fed(session, IMAGES[:3], [given(0)])
    empty = np.full_like(IMAGES[3], 128)
    empty[20:60, 90:130] = (250, 20, 20)
    found = session.feed(empty).results[0]
    answer = session.correct([PointPrompt(1, 3, 110.0, 40.0)]).results[0]
    assert not found.mask.decode()[40, 110]
    assert answer.mask.decode()[40, 110]


def test_later_frames_continue_from_a_correction() -> None:
    session = OnlineSession(idpro())
    fed(session, IMAGES[:5], [given(0)])
    half = MASKS[4].copy()
    half[60:] = False
    (corrected,) = session.correct([given(4, mask=half)]).results
    assert (corrected.mask.decode() == half).all()
    assert corrected.prompted
    (pass_,) = session._video._passes  # type: ignore[attr-defined]
    session._frames.add(IMAGES[5])
    carried = pass_.flow.to(5) > 0
    assert iou(RunLengthMask.encode(carried), np.roll(half, 3, axis=1)) > 0.85
    # The segmenter learnt from both prompted frames; what it is told of an object is how many there were.
    assert pass_.appearance == 2


def test_a_correction_replaces_the_found_mask_in_memory() -> None:
    session = OnlineSession(lazy(interval_frames=1, memory_slots=9), click_means=ClickMeans.NEW_MASK)
    fed(session, IMAGES[:4], [given(0)])
    (pass_,) = session._video._passes  # type: ignore[attr-defined]
    memory = session._video._memory  # type: ignore[attr-defined]
    assert sorted(pass_.memory.readable) == [1, 2, 3]
    found, held_bytes = pass_.memory.readable[3], session.held_bytes
    # After a single click the pass remembers the new mask, but it is not learned as a prompted frame.
    session.correct([click(3)])
    assert sorted(pass_.memory.readable) == [1, 2, 3]
    assert pass_.memory.readable[3] is not found
    assert [memory.holds(1, frame) for frame in range(4)] == [True, False, False, False]
    # More than that: the frame is one of the prompted ones, which are learnt from.
    session.correct([given(3)])
    assert sorted(pass_.memory.readable) == [1, 2]
    assert [memory.holds(1, frame) for frame in range(4)] == [True, False, False, True]
    assert session.held_bytes > held_bytes


def test_only_the_newest_clicked_frame_is_remembered() -> None:
    session = OnlineSession(lazy(memory_slots=0), click_means=ClickMeans.NEW_MASK)
    (pass_,) = (session.feed(IMAGES[0], [given(0)]), list(session._video._passes))[1]  # type: ignore[attr-defined]
    for frame_index in (1, 2, 3):
        session.feed(IMAGES[frame_index])
        session.correct([click(frame_index)])
        assert sorted(pass_.memory.readable) == [frame_index]


def test_a_request_ends_with_its_answer() -> None:
    session = OnlineSession(lazy())
    frames = fed(session, contrasts(6, 6, 0.2), [given(0, mask=MASK)])
    assert [len(frame.requests) for frame in frames] == [0, 0, 1]
    (request,) = frames[2].requests
    assert (request.object_id, request.frame_index) == (1, 2)
    assert request.change >= 0.5
    assert request.uncertainty == frames[2].results[0].uncertainty
    assert dilated(MASK)[int(request.y_px), int(request.x_px)]
    assert session.correct([]).requests == (request,)
    assert session.correct([PointPrompt(1, 2, 50.0, 40.0)]).requests == ()


def test_idpro_never_requests_help() -> None:
    frames = fed(OnlineSession(idpro()), contrasts(6, 6, 0.2), [given(0, mask=MASK)])
    assert not any(frame.requests for frame in frames)


@pytest.mark.parametrize("name", ["i_pt", "sam_pt", "sam_pd", "civos"])
def test_methods_that_cannot_work_online_are_refused(name: str, tmp_path: Path) -> None:
    choice = MethodChoice(name, "lite")
    method = build_method(choice, store=ModelStore(tmp_path), device="cpu", embeddings=EmbeddingCache(1))
    with pytest.raises(ValueError, match=r"cannot follow a video while it arrives; .* are lazy, idpro"):
        OnlineSession(method)


@pytest.mark.parametrize(
    ("image", "prompts", "message"),
    [
        (IMAGES[1], [click(0)], r"on frames 0 arrived, but only the frame 1 can be prompted now"),
        (IMAGES[1], [click(2)], r"on frames 2 arrived, but only the frame 1"),
        (IMAGES[1], [PointPrompt(1, 1, 500.0, 3.0)], "outside the image"),
        (IMAGES[1], [given(1, mask=np.ones((5, 5), np.bool_))], "is 5x5 px, but the video is 160x120 px"),
        (IMAGES[1][:-1], [], "frame 1 is 160x119 px, but the video is 160x120 px"),
        (IMAGES[1][..., 0], [], r"must be \(H, W, 3\) uint8, but got \(120, 160\)"),
        (IMAGES[1].astype(np.float32), [], "but got .* float32"),
        (None, [click(1)], "frame 1 is missing, so nothing can be prompted on it"),
    ],
)
def test_invalid_frames_and_prompts_are_refused_without_effect(image: Any, prompts: list[Prompt], message: str) -> None:
    session = OnlineSession(idpro())
    session.feed(IMAGES[0], [given(0)])
    with pytest.raises(ValueError, match=message):
        session.feed(image, prompts)
    assert session.n_frames == 1
    assert iou(session.feed(IMAGES[1]).results[0].mask, MASKS[1]) > 0.9


def test_invalid_corrections_are_refused() -> None:
    session = OnlineSession(idpro())
    with pytest.raises(ValueError, match="before the first frame"):
        session.correct([click(0)])
    fed(session, IMAGES[:2])
    with pytest.raises(ValueError, match="on frames 0 arrived, but only the frame 1"):
        session.correct([click(0)])
    session.feed(None)
    with pytest.raises(ValueError, match="frame 2 is missing"):
        session.correct([click(2)])
    assert session.object_ids == ()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [({"prompted_kept": 0}, "at least 1 prompted frame"), ({"prompted_mib": 0}, "more than 0 MiB")],
)
def test_invalid_bounds_are_refused(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnlineSession(idpro(), **bounds)


def test_the_first_and_the_newest_prompted_frames_are_kept() -> None:
    session = OnlineSession(idpro(), prompted_kept=2)
    fed(session, IMAGES, [given(frame) for frame in (1, 3, 4, 6, 8)])
    memory = session._video._memory  # type: ignore[attr-defined]
    assert [frame for frame in range(N_FRAMES) if memory.holds(1, frame)] == [1, 6, 8]
    assert session._frames.kept == (1, 6, 8)


def test_prompted_frames_are_bounded() -> None:
    image_mib = IMAGES[0].nbytes / 2**20
    session = OnlineSession(idpro(), prompted_kept=4, prompted_mib=2.5 * image_mib)
    fed(session, IMAGES, [given(0, 2), *(given(frame) for frame in (1, 3, 4, 6, 8))])
    assert session._frames.kept == (1, 8)
    assert session._frames.kept_bytes <= 2.5 * image_mib * 2**20
    # An object whose prompted frames are all gone goes on, and can be prompted again.
    assert len(session.correct([given(9, 2)]).results) == 2


@pytest.mark.parametrize("means", ClickMeans)
def test_nothing_grows_with_the_number_of_frames(means: ClickMeans) -> None:
    cache = EmbeddingCache[Any](64)
    method = Lazy(RecordingSegmenter(), cache, LazySettings(tau_m=NEVER))
    session = OnlineSession(method, click_means=means)
    images, masks = moving_square(n_frames=20, size_hw_px=(48, 64), step_px=1, side_px=16)
    held: dict[int, tuple[int, int, int]] = {}
    for frame_index in range(321):
        turn = frame_index % 38
        now = turn if turn < 20 else 38 - turn
        missing = frame_index % 50 == 49
        session.feed(None if missing else images[now], [given(0, mask=masks[0])] if frame_index == 0 else ())
        if frame_index % 10 == 5:
            ys, xs = np.nonzero(masks[now])
            session.correct([PointPrompt(1, frame_index, float(xs.mean()), float(ys.mean()))])
        if frame_index in (80, 320):
            gc.collect()
            method.segmenter.calls.clear()  # type: ignore[attr-defined]
            method.segmenter.learnt_from.clear()  # type: ignore[attr-defined]
            held[frame_index] = session.held_bytes, len(cache), len(gc.get_objects())
    (early_bytes, early_embeddings, early_objects), (late_bytes, late_embeddings, late_objects) = held.values()
    assert late_bytes <= early_bytes * 1.02
    assert late_embeddings == early_embeddings <= 7
    assert late_objects <= early_objects * 1.01


def test_a_real_clip_is_followed_and_corrected(tmp_path: Path) -> None:
    clip = real_or_rendered("bmx-trees", tmp_path)
    session = OnlineSession(Lazy(lite_segmenter(), EmbeddingCache(256), LazySettings(tau_p=NEVER, tau_u=NEVER)))
    for frame_index in range(6):
        start = [given(0, mask=clip.mask(0))] if frame_index == 0 else []
        found = session.feed(clip.frames.frame(frame_index), start)
    before = iou(found.results[0].mask, clip.mask(5))
    after = iou(session.correct([given(5, mask=clip.mask(5))]).results[0].mask, clip.mask(5))
    assert after == 1.0
    assert before < after
    (following,) = session.feed(clip.frames.frame(6)).results
    assert iou(following.mask, clip.mask(6)) > 0.5

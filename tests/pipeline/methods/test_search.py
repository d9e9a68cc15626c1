"""A lost object is found where the frame looks like it, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.embeddings.cache import EmbeddingCache
from pipeline.memory import shared
from pipeline.methods.base import Anchor
from pipeline.methods.common.decoding import Decoded, Decoder, DecodeRequest, ObjectMemory
from pipeline.methods.common.search import LIMIT_MIB, STRONG, Looks, ObjectSearch, Reappearance
from pipeline.methods.common.video_state import VideoState
from pipeline.segmenters.base import ObjectPrompts
from tests.oracle.methods import iou
from tests.oracle.model import oracle_segmenter
from tests.oracle.scenes import Scene, scene


class Searched:
    """A search on a scene, with the truth of some frames; counts how often the segmenter was asked."""

    def __init__(self, shown: Scene, *frames: int, object_id: int = 1) -> None:
        self.shown, self.asked = shown, 0
        self.state = VideoState(shown.frames, oracle_segmenter(), EmbeddingCache(64), 1)
        self.decoder = Decoder(self.state.segmenter, 1, None)
        self.search = ObjectSearch(self.state)
        self.search.remember(1, [Anchor(frame, shown.masks[object_id][frame]) for frame in frames])

    def find(self, frame_index: int) -> tuple[np.ndarray | None, float, float]:
        """The mask found, its score, and how surely there is none."""
        embedding = self.state.embedding(frame_index)

        def ask(prompts: ObjectPrompts) -> Decoded:
            self.asked += 1
            return self.decoder.decode(embedding, [DecodeRequest(prompts, ObjectMemory.nothing())])[0]

        found, absent = self.search.find(1, frame_index, embedding, ask)
        if found is None:
            return None, 0.0, absent
        return self.state.full_size(frame_index, found.low_res_logits) > 0, found.score, absent


@pytest.mark.parametrize(("name", "frame_index"), [("moves", 20), ("two_coloured", 25), ("leaves", 52), ("hidden", 30)])
def test_an_object_is_found_anywhere_on_a_frame(name: str, frame_index: int) -> None:
    mask, score, _ = Searched(scene(name), 0).find(frame_index)
    assert mask is not None
    assert iou(mask, scene(name).masks[1][frame_index]) > 0.85
    assert score >= STRONG


@pytest.mark.parametrize("name", ["leaves", "hidden"])
def test_nothing_is_found_where_it_is_not_to_be_seen(name: str) -> None:
    searched = Searched(scene(name), 0)
    for frame_index in [index for index, visible in enumerate(scene(name).visible()) if not visible]:
        mask, _, absent = searched.find(frame_index)
        assert mask is None
        assert absent > 0.5
    assert searched.asked == 0


def test_a_part_that_only_comes_back_is_too_small_and_then_found() -> None:
    shown = scene("leaves")
    searched = Searched(shown, 0)
    back = max(index for index, visible in enumerate(shown.visible()) if not visible) + 1
    found = [searched.find(index)[0] is not None for index in range(back, back + 10)]
    assert not found[0]
    assert all(found[6:])


def test_what_looks_like_the_object_but_is_not_is_never_taken_for_it() -> None:
    """The other one of two alike was in view when the object was shown."""
    shown = scene("alike")
    searched = Searched(shown, 0)
    mask, _, _ = searched.find(20)
    assert mask is None


def test_a_frame_on_which_a_person_saw_nothing_counts_against_what_is_there() -> None:
    shown = scene("moves")
    searched = Searched(shown, 0)
    assert searched.find(20)[0] is not None
    nothing = np.zeros_like(shown.masks[1][0])
    searched.search.remember(1, [Anchor(0, shown.masks[1][0]), Anchor(10, nothing)])
    assert searched.find(20)[0] is None


def test_an_object_never_seen_is_surely_not_there() -> None:
    shown = scene("leaves")
    gone = shown.visible().index(False)
    for frames in ((), (gone,)):
        assert Searched(shown, *frames).find(0)[2] == 1.0


def test_the_memory_is_bounded_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = Searched(scene("moves"), *range(10))
    assert 0 < searched.search.held_bytes < LIMIT_MIB * 2**20
    searched.search.forget(1)
    assert searched.search.held_bytes == 0
    reads: list[Any] = []
    affinity = shared.affinity
    monkeypatch.setattr(shared, "affinity", lambda m, q: reads.append(m.shape) or affinity(m, q))
    searched.search.remember(1, [Anchor(frame, scene("moves").masks[1][frame]) for frame in range(10)])
    searched.find(20)
    assert len(reads) == 1
    assert reads[0][1] <= 4 * 16 * 12


def judged(name: str, frame_index: int) -> tuple[Reappearance, np.ndarray]:
    """A judge of a frame of a scene that knows the first one, and the true mask (h, w)."""
    searched = Searched(scene(name), 0)
    logits = np.where(scene(name).masks[1][frame_index], 4.0, -4.0).astype(np.float32)
    low_res = searched.state.low_res(frame_index, logits) > 0
    return searched.search.judge(1, frame_index, searched.state.embedding(frame_index)), low_res


@pytest.mark.parametrize("name", ["moves", "deforms", "two_coloured", "alike"])
def test_the_memory_contradicts_a_mask_on_the_background_and_never_the_true_one(name: str) -> None:
    judge, mask = judged(name, 12)
    assert not judge.contradicts(mask)
    beside = np.zeros_like(mask)
    beside[2:10, 2:14] = True
    assert judge.contradicts(beside)
    assert not judge.recognises(beside)


def test_keys_that_tell_nothing_apart_contradict_nothing() -> None:
    judge, mask = judged("moves", 12)
    beside = np.zeros_like(mask)
    beside[2:10, 2:14] = True
    frame = torch.ones_like(judge.keys) / judge.keys.shape[0] ** 0.5
    same = Looks({0: frame}, judge.looks.values)
    assert not Reappearance(same, frame, judge.grid).contradicts(beside)


def test_looks_that_change_stay_known_through_frames_that_surely_show_the_object() -> None:
    searched = Searched(scene("moves"), 0)
    embedding = searched.state.embedding(5)
    judge = searched.search.judge(1, 5, embedding)
    logits = np.where(scene("moves").masks[1][5], 4.0, -4.0).astype(np.float32)
    before = searched.search.held_bytes
    searched.search.remember_seen(1, 5, judge, np.zeros((64, 64), np.bool_))
    assert searched.search.held_bytes == before
    searched.search.remember_seen(1, 5, judge, searched.state.low_res(5, logits) > 0)
    assert searched.search.held_bytes > before
    assert 5 in searched.search.judge(1, 6, searched.state.embedding(6)).looks.values
    searched.search.remember(1, [Anchor(0, scene("moves").masks[1][0])])
    assert searched.search.held_bytes == before

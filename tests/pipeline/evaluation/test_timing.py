"""Seconds by part and embeddings by frame, measured from outside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.timing import (
    PARTS,
    EmbeddingLog,
    LoggedSegmenter,
    Stopwatch,
    TimedFrames,
    TimedPart,
    timed_method,
)
from pipeline.memory.bank import MemoryBank
from pipeline.methods.base import Method
from pipeline.methods.choice import MethodChoice
from pipeline.methods.concurrent.memory import ConcurrentMemory
from pipeline.segmenters.lite.segmenter import LiteSegmenter
from pipeline.session.session import Session
from pipeline.types import BoxPrompt, FrameRGB, MaskPrompt, RunLengthMask
from tests.built_methods import built
from tests.pipeline.frame_sources import ArrayFrames, moving_square

STEP_S = 0.02


def test_an_inner_part_stops_the_clock_of_the_outer_one() -> None:
    stopwatch = Stopwatch()
    with stopwatch.part("track"):
        time.sleep(STEP_S)
        with stopwatch.part("decode"):
            time.sleep(3 * STEP_S)
        time.sleep(STEP_S)
    with pytest.raises(KeyError), stopwatch.part("decode"):
        raise KeyError
    seconds = stopwatch.seconds
    assert tuple(seconds) == PARTS
    assert seconds["decode"] >= 3 * STEP_S
    assert 2 * STEP_S <= seconds["track"] < seconds["decode"]
    assert seconds["embed"] == seconds["segment"] == seconds["other"] == 0.0


@dataclass(frozen=True)
class Sleeper:
    name: str = "sleeper"

    def embed(self, value: int) -> int:
        time.sleep(STEP_S)
        return value + 1

    def segment(self, value: int) -> int:
        return self.embed(value) * 2


def test_a_timed_part_behaves_as_the_part_itself() -> None:
    stopwatch = Stopwatch()
    part = TimedPart(Sleeper(), lambda name: "embed" if name == "embed" else "segment", stopwatch)
    assert isinstance(part, Sleeper)
    assert part.name == "sleeper"
    assert part.embed(1) == 2
    assert part.segment(1) == 4
    assert stopwatch.seconds["embed"] >= STEP_S
    assert stopwatch.seconds["segment"] >= STEP_S
    with pytest.raises(AttributeError, match="nothing"):
        _ = part.nothing


def test_a_round_of_a_real_method_is_split_into_its_parts(method: Method) -> None:
    images, masks = moving_square()
    stopwatch = Stopwatch()
    frames = ArrayFrames(images)
    ys, xs = masks[0].nonzero()
    box = BoxPrompt(1, 0, (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)))
    started_s = time.perf_counter()
    with stopwatch.part("other"):
        session = Session(TimedFrames(frames, stopwatch), timed_method(method, stopwatch))
        timed = list(session.run_round([box], object_ids=[1]))
    elapsed_s = time.perf_counter() - started_s
    assert min(stopwatch.seconds[part] for part in PARTS) > 0.0
    assert sum(stopwatch.seconds.values()) == pytest.approx(elapsed_s, abs=0.02)
    plain = Session(ArrayFrames(images), method)
    assert timed == list(plain.run_round([box], object_ids=[1]))


@pytest.mark.parametrize("name", ["i_pt", "idpro", "civos", "lazy"])
def test_what_the_memory_stores_and_reads_is_a_part_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spent_s = []

    def slowed(owner: type, method_name: str) -> None:
        plain = getattr(owner, method_name)

        def slow(*arguments: Any, **named: Any) -> Any:
            time.sleep(STEP_S)
            spent_s.append(STEP_S)
            return plain(*arguments, **named)

        monkeypatch.setattr(owner, method_name, slow)

    for owner in (MemoryBank, ConcurrentMemory):
        slowed(owner, "read")
        slowed(owner, "store")
    slowed(LiteSegmenter, "memorise")
    images, masks = moving_square(4)
    given = MaskPrompt(1, 0, RunLengthMask.encode(masks[0]))
    stopwatch = Stopwatch()
    with stopwatch.part("other"):
        session = Session(ArrayFrames(images), timed_method(built(MethodChoice(name, "lite")), stopwatch))
        list(session.run_round([given], object_ids=[1]))
    assert len(spent_s) >= len(images) - 1
    assert stopwatch.seconds["memory"] >= sum(spent_s)


FRAMES, _ = moving_square(3)


class Encoder:
    name = "encoder"

    def embed(self, frame_rgb: FrameRGB) -> float:
        return float(frame_rgb.mean())


def test_embeddings_are_counted_by_what_the_frames_show() -> None:
    log = EmbeddingLog()
    assert (log.n_calls, log.most_per_frame) == (0, 0)
    for index in (0, 1, 0, 2, 0):
        log.add(FRAMES[index].copy(), 0.0, 1.0)
    assert (log.n_calls, log.most_per_frame) == (5, 3)


@pytest.mark.parametrize(
    ("spans_s", "busy_s"),
    [
        ([], 0.0),
        ([(1.0, 2.0), (3.0, 5.0)], 3.0),
        ([(3.0, 5.0), (1.0, 4.0)], 4.0),
        ([(1.0, 9.0), (2.0, 3.0)], 8.0),
        ([(-5.0, 1.0), (9.0, 12.0), (20.0, 30.0)], 2.0),
    ],
    ids=["none", "one after the other", "overlapping threads", "one inside another", "cut at both ends"],
)
def test_time_in_which_any_embedding_was_made_counts_once(spans_s: list[tuple[float, float]], busy_s: float) -> None:
    log = EmbeddingLog()
    for begin_s, end_s in spans_s:
        log.add(FRAMES[0], begin_s, end_s)
    assert log.busy_s(0.0, 10.0) == pytest.approx(busy_s)


def test_a_logged_segmenter_behaves_as_the_segmenter_itself() -> None:
    log = EmbeddingLog()
    segmenter = LoggedSegmenter(Encoder(), log)
    assert isinstance(segmenter, Encoder)
    assert segmenter.name == "encoder"
    assert segmenter.embed(FRAMES[0]) == pytest.approx(np.mean(FRAMES[0]))
    assert log.n_calls == 1
    assert 0.0 < log.busy_s(0.0, 1e9) < 1.0
    with pytest.raises(AttributeError, match="nothing"):
        _ = segmenter.nothing

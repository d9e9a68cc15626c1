"""Where the seconds of a run go. Parts are wrapped from outside, so that no method knows it is being measured."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.methods.base import Method
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameSource

PARTS = ("decode", "embed", "track", "segment", "other")
"""Reading frames; the segmenter's ``embed``; both trackers; all else of the segmenter; all else of the method."""


class Stopwatch:
    """Seconds by part. A part that runs inside another one stops the outer one's clock meanwhile.

    Threads are timed each on their own; parts that run side by side may add up to more than the wall clock.
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._lock = threading.Lock()
        self._local = threading.local()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds so far by part."""
        with self._lock:
            return dict(self._seconds)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside for a part, one of `PARTS`."""
        stack: list[str] = self._local.__dict__.setdefault("stack", [])
        self._lap(stack)
        stack.append(name)
        try:
            yield
        finally:
            self._lap(stack)
            stack.pop()

    def _lap(self, stack: list[str]) -> None:
        now_s = time.perf_counter()
        if stack:
            with self._lock:
                self._seconds[stack[-1]] += now_s - self._local.since_s
        self._local.since_s = now_s


class TimedFrames:
    """A `FrameSource` around another whose reading counts as decoding."""

    def __init__(self, frames: FrameSource, stopwatch: Stopwatch) -> None:
        self._frames, self._stopwatch = frames, stopwatch

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """See `FrameSource.size_hw_px`."""
        with self._stopwatch.part("decode"):
            return self._frames.size_hw_px

    def frame(self, frame_index: int) -> FrameRGB:
        """See `FrameSource.frame`."""
        with self._stopwatch.part("decode"):
            return self._frames.frame(frame_index)


class TimedPart:
    """Stands for a segmenter or tracker: its methods are timed, everything else is passed through."""

    def __init__(self, inner: Any, part_of: Callable[[str], str], stopwatch: Stopwatch) -> None:
        self._inner, self._part_of, self._stopwatch = inner, part_of, stopwatch

    @property
    def __class__(self) -> Any:
        """The wrapped part's class, so that a method may ask what it was given."""
        return type(self._inner)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError("the class of a timed part is that of the part")

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value) or isinstance(value, type):
            return value

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._stopwatch.part(self._part_of(name)):
                return value(*args, **kwargs)

        return timed


def timed_method(method: Method, stopwatch: Stopwatch) -> Method:
    """The same method with its segmenter and trackers timed, as far as it has them.

    A method is a frozen dataclass; its fields ``segmenter``, ``point_tracker`` and ``box_tracker`` are wrapped, others
    (the embedding cache too) are shared with the original.
    """
    parts: dict[str, Callable[[str], str]] = {
        "segmenter": lambda name: "embed" if name == "embed" else "segment",
        "point_tracker": lambda _: "track",
        "box_tracker": lambda _: "track",
    }
    untimed: Any = method
    fields = {field.name for field in dataclasses.fields(untimed)}
    present = {name: getattr(untimed, name) for name in parts if name in fields}
    wrapped = {name: TimedPart(part, parts[name], stopwatch) for name, part in present.items() if part is not None}
    timed: Method = dataclasses.replace(untimed, **wrapped)
    return timed


SAMPLE_STEP_PX = 8


def fingerprint(frame_rgb: FrameRGB) -> bytes:
    """Tells the frames of a clip apart by a sample of their pixels, which costs next to nothing."""
    return frame_rgb[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX].tobytes()


class EncoderWatch:
    """Counts embeddings by frame and keeps the times in which an encoder was at work, in whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[bytes] = Counter()
        self._spans_s: list[tuple[float, float]] = []

    @property
    def n_calls(self) -> int:
        """Embeddings made."""
        with self._lock:
            return self._calls.total()

    @property
    def most_per_frame(self) -> int:
        """Embeddings of the frame that was embedded most often; 0 where none was."""
        with self._lock:
            return max(self._calls.values(), default=0)

    def add(self, frame_rgb: FrameRGB, begin_s: float, end_s: float) -> None:
        """Note one embedding and its time by `time.perf_counter`."""
        with self._lock:
            self._calls[fingerprint(frame_rgb)] += 1
            self._spans_s.append((begin_s, end_s))

    def busy_s(self, begin_s: float, end_s: float) -> float:
        """Seconds of a span in which at least one embedding was being made."""
        busy_s, reached_s = 0.0, begin_s
        with self._lock:
            spans_s = sorted(self._spans_s)
        for first_s, last_s in spans_s:
            first_s, last_s = max(first_s, reached_s), min(last_s, end_s)
            if last_s > first_s:
                busy_s += last_s - first_s
                reached_s = last_s
        return busy_s


class WatchedSegmenter:
    """Stands for a segmenter: its ``embed`` is watched, everything else is passed through."""

    def __init__(self, inner: Any, watch: EncoderWatch) -> None:
        self._inner, self._watch = inner, watch

    @property
    def __class__(self) -> Any:
        """The segmenter's class, so that a method may ask what it was given."""
        return type(self._inner)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError("the class of a watched segmenter is that of the segmenter")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, frame_rgb: FrameRGB) -> Any:
        """See `pipeline.segmenters.base.Segmenter`."""
        begin_s = time.perf_counter()
        embedding = self._inner.embed(frame_rgb)
        self._watch.add(frame_rgb, begin_s, time.perf_counter())
        return embedding

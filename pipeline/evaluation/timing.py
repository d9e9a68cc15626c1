"""Where the seconds of a run go. Parts are wrapped from outside, so that no method knows it is being measured."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.methods.base import Method
from pipeline.types import FrameRGB
from pipeline.video.frames import FrameSource, frame_identity

SAMPLE_STEP_PX = 8
PARTS = ("decode", "embed", "track", "segment", "memory", "other")
"""Reading frames; the segmenter's ``embed``; both trackers; the rest of the segmenter, but for what it stores in the
memory; storing in the memory and reading it; the rest of the method."""


class Stopwatch:
    """Seconds by part. While a part runs inside another one, only the inner one is timed.

    Each thread is timed by itself: parts that run at the same time may add up to more than the wall clock.
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
        """Time the block as a part, one of `PARTS`."""
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
    """A `FrameSource` that times another one; reading its frames counts as decoding."""

    def __init__(self, frames: FrameSource, stopwatch: Stopwatch) -> None:
        self._frames, self._stopwatch, self._run = frames, stopwatch, uuid.uuid4().hex

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size_hw_px(self) -> tuple[int, int]:
        """See `FrameSource.size_hw_px`."""
        with self._stopwatch.part("decode"):
            return self._frames.size_hw_px

    def identity(self, frame_index: int) -> str | None:
        """The identity that the source knows, made one of this object alone: no embedding of another run is used."""
        known = frame_identity(self._frames, frame_index)
        return None if known is None else f"{self._run}|{known}"

    def frame(self, frame_index: int) -> FrameRGB:
        """See `FrameSource.frame`."""
        with self._stopwatch.part("decode"):
            return self._frames.frame(frame_index)


class StandIn:
    """Stands for a segmenter or tracker: everything that a subclass does not define is the part's own."""

    def __init__(self, part: Any) -> None:
        self._part = part

    @property
    def __class__(self) -> Any:
        """The part's class, so that `isinstance` tells a method what it was given."""
        return type(self._part)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError("the class of a stand-in is that of the part it stands for")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class TimedPart(StandIn):
    """Times all methods of a segmenter, tracker or memory."""

    def __init__(self, part: Any, name_of_part: Callable[[str], str], stopwatch: Stopwatch) -> None:
        """Nothing is timed yet.

        Args:
            part: segmenter, tracker or memory.
            name_of_part: by a method's name, which of `PARTS` its seconds belong to.
            stopwatch: gets the seconds.
        """
        super().__init__(part)
        self._name_of_part, self._stopwatch = name_of_part, stopwatch

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if not callable(value) or isinstance(value, type):
            return value

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._stopwatch.part(self._name_of_part(name)):
                return value(*args, **kwargs)

        return timed


def timed_method(method: Method, stopwatch: Stopwatch) -> Method:
    """A copy of a method whose segmenter, trackers and memory are timed.

    A method is a frozen dataclass. Its fields ``segmenter``, ``point_tracker`` and ``box_tracker`` are wrapped where it
    has them, and so is what its field ``new_memory`` makes; all others, the embedding cache too, are shared with the
    original.
    """
    names_of_parts: dict[str, Callable[[str], str]] = {
        "segmenter": lambda name: {"embed": "embed", "memorise": "memory"}.get(name, "segment"),
        "point_tracker": lambda _: "track",
        "box_tracker": lambda _: "track",
    }
    untimed: Any = method
    fields = {field.name for field in dataclasses.fields(untimed)}
    parts = {name: getattr(untimed, name) for name in names_of_parts if name in fields}
    wrapped: dict[str, Any] = {
        name: TimedPart(part, names_of_parts[name], stopwatch) for name, part in parts.items() if part is not None
    }
    if "new_memory" in fields:
        new_memory = untimed.new_memory
        wrapped["new_memory"] = lambda *arguments: TimedPart(new_memory(*arguments), lambda _: "memory", stopwatch)
    timed: Method = dataclasses.replace(untimed, **wrapped)
    return timed


def fingerprint(frame_rgb: FrameRGB) -> bytes:
    """A sample of the pixels, which tells the frames of a clip apart and is quick to take."""
    return frame_rgb[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX].tobytes()


class EmbeddingLog:
    """Which frames were embedded, and when; any thread may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[bytes] = Counter()
        self._spans_s: list[tuple[float, float]] = []

    @property
    def n_calls(self) -> int:
        """Number of embeddings."""
        with self._lock:
            return self._calls.total()

    @property
    def most_per_frame(self) -> int:
        """Embeddings of the frame that was embedded most often; 0 where none was."""
        with self._lock:
            return max(self._calls.values(), default=0)

    def add(self, frame_rgb: FrameRGB, begin_s: float, end_s: float) -> None:
        """Add one embedding, with its beginning and end by `time.perf_counter`."""
        with self._lock:
            self._calls[fingerprint(frame_rgb)] += 1
            self._spans_s.append((begin_s, end_s))

    def busy_s(self, begin_s: float, end_s: float) -> float:
        """Seconds between two times in which at least one embedding was being computed."""
        busy_s, reached_s = 0.0, begin_s
        with self._lock:
            spans_s = sorted(self._spans_s)
        for first_s, last_s in spans_s:
            first_s, last_s = max(first_s, reached_s), min(last_s, end_s)
            if last_s > first_s:
                busy_s += last_s - first_s
                reached_s = last_s
        return busy_s


class LoggedSegmenter(StandIn):
    """Adds every embedding of a segmenter to a log."""

    def __init__(self, segmenter: Any, log: EmbeddingLog) -> None:
        super().__init__(segmenter)
        self._log = log

    def embed(self, frame_rgb: FrameRGB) -> Any:
        """See `pipeline.segmenters.base.Segmenter`."""
        begin_s = time.perf_counter()
        embedding = self._part.embed(frame_rgb)
        self._log.add(frame_rgb, begin_s, time.perf_counter())
        return embedding

"""The objects of a video that arrives: which of their prompted frames stay known, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.methods.base import Anchor, ObjectRound
from pipeline.segmenters.base import ObjectPrompts
from pipeline.session.propagation import AccumulatedUncertainty
from pipeline.streaming.frames import OnlineFrames
from pipeline.types import RunLengthMask


@dataclass
class OnlineObject:
    """One object: its prompted frames by index, how often it was prompted, the way it goes, and the doubt on it.

    ``sure`` is the last mask of it that was prompted, or found without a wish for help; None if there is none.
    """

    object_id: int
    prompted: dict[int, tuple[RunLengthMask, ObjectPrompts]] = field(default_factory=dict)
    n_rounds: int = 0
    way: Any = None
    doubt: AccumulatedUncertainty = field(default_factory=AccumulatedUncertainty)
    sure: RunLengthMask | None = None

    def found(self, mask: RunLengthMask, *, wants_help: bool) -> None:
        """Note what was found of it on a frame."""
        if mask.area_px and not wants_help:
            self.sure = mask

    def task(self, *, but: int | None = None) -> ObjectRound:
        """What a method is told of the prompted frames, all or all but one."""
        anchors = [
            Anchor(frame_index, mask.decode(), prompts)
            for frame_index, (mask, prompts) in sorted(self.prompted.items())
            if frame_index != but
        ]
        return ObjectRound(self.object_id, self.n_rounds, tuple(anchors), frozenset())


class OnlineObjects:
    """All objects by id. Prompted frames stay in bounds: the newest always, of the others what there is room for.

    Of an object's prompted frames the first and the newest ``kept`` stay. Where the images of all these are more than
    ``limit_mib``, the oldest go that are no object's first, and then first ones.
    """

    def __init__(self, frames: OnlineFrames, kept: int, limit_mib: float) -> None:
        if kept < 1:
            raise ValueError(f"at least 1 prompted frame must be kept beside the first one, but got {kept}")
        if not limit_mib > 0:
            raise ValueError(f"the bound of prompted frames must be more than 0 MiB, but got {limit_mib}")
        self._frames, self._kept, self._limit_bytes = frames, kept, int(limit_mib * 2**20)
        self._objects: dict[int, OnlineObject] = {}

    @property
    def by_id(self) -> Mapping[int, OnlineObject]:
        """The objects."""
        return self._objects

    @property
    def held_bytes(self) -> int:
        """Memory of the masks of prompted frames."""
        prompted = [mask for each in self._objects.values() for mask, _ in each.prompted.values()]
        sure = [each.sure for each in self._objects.values() if each.sure is not None]
        return sum(len(mask.counts) for mask in (*prompted, *sure))

    def prompt(self, object_id: int, frame_index: int, mask: RunLengthMask, prompts: ObjectPrompts) -> OnlineObject:
        """An object was prompted on the newest frame; it begins with that if it is new."""
        each = self._objects.setdefault(object_id, OnlineObject(object_id))
        each.n_rounds += 1
        each.doubt = AccumulatedUncertainty()
        each.prompted[frame_index] = mask, prompts
        each.found(mask, wants_help=False)
        self._frames.keep(frame_index)
        return each

    def trim(self, newest: int) -> Iterator[int]:
        """Drop what there is no room for; yields the frames that nobody knows any more."""
        for each in self._objects.values():
            for frame_index in sorted(each.prompted)[1 : -self._kept]:
                del each.prompted[frame_index]
        yield from self._let_go_unused()
        while self._frames.kept_bytes > self._limit_bytes:
            firsts = {min(each.prompted) for each in self._objects.values() if each.prompted}
            leaving = sorted((frame for frame in self._frames.kept if frame != newest), key=lambda f: (f in firsts, f))
            if not leaving:
                break
            for each in self._objects.values():
                each.prompted.pop(leaving[0], None)
            yield from self._let_go_unused()

    def _let_go_unused(self) -> Iterator[int]:
        used = {frame_index for each in self._objects.values() for frame_index in each.prompted}
        for frame_index in set(self._frames.kept) - used:
            self._frames.let_go(frame_index)
            yield frame_index

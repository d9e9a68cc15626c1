"""Rounds of interaction over one video: prompts in, masks of every frame out, improved by every correction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from pipeline.methods.base import ConcurrentVideo, Method, PerObjectVideo
from pipeline.prompting import check_prompts
from pipeline.session import next_frame
from pipeline.session.concurrent import ConcurrentPropagation
from pipeline.session.mask_store import MaskStore
from pipeline.session.next_frame import Suggestion
from pipeline.session.object_state import FrameMask, ObjectState
from pipeline.session.per_object import PerObjectPropagation
from pipeline.session.propagation import Propagation
from pipeline.types import FrameResult, Prompt
from pipeline.video.frames import FrameSource, RecentFrames

_LOCK_POLL_S = 0.05


def _never() -> bool:
    return False


def propagation_for(store: MaskStore, video: PerObjectVideo | ConcurrentVideo) -> Propagation:
    """The propagation that fits a method's open video."""
    if isinstance(video, ConcurrentVideo):
        return ConcurrentPropagation(store, video)
    return PerObjectPropagation(store, video)


class Session:
    """The state of one video. Rounds exclude each other; every other method may be called meanwhile by any thread.

    The mask of a prompted frame changes only through prompts on that frame, except for pixels that prompts of another
    object take. All masks are kept compressed: run lengths, and a few KiB of probabilities per object and frame.
    """

    def __init__(self, frames: FrameSource, method: Method) -> None:
        self._frames = RecentFrames(frames)
        self._store = MaskStore(self._frames)
        self._video = method.open(self._frames)
        self._propagation = propagation_for(self._store, self._video)
        self._round_lock = threading.Lock()

    @property
    def frame_errors(self) -> Mapping[int, str]:
        """Reasons by index of the frames that could not be read; they have no mask, the others do."""
        return MappingProxyType(self._frames.errors)

    def object_ids(self) -> tuple[int, ...]:
        """All objects that have or had prompts."""
        with self._store.lock:
            return tuple(sorted(self._store.objects))

    def prompts(self, object_id: int) -> tuple[Prompt, ...]:
        """The prompts of an object by frame; empty for an unknown object."""
        with self._store.lock:
            state = self._store.objects.get(object_id)
            return () if state is None else state.all_prompts

    def results(self, object_id: int) -> tuple[FrameResult, ...]:
        """The current masks of an object, by frame; empty for an unknown object. No two objects share a pixel."""
        return self._read(object_id, ObjectState.result)

    def raw_results(self, object_id: int) -> tuple[FrameResult, ...]:
        """As `results`, but before overlaps with other objects are resolved."""
        return self._read(object_id, ObjectState.raw_result)

    def _read(self, object_id: int, read: Callable[[ObjectState, int], FrameResult]) -> tuple[FrameResult, ...]:
        with self._store.lock:
            state = self._store.objects.get(object_id)
            return () if state is None else tuple(read(state, frame_index) for frame_index in sorted(state.masks))

    @property
    def held_bytes(self) -> int:
        """Memory of this session without the shared embeddings, in bytes: masks and recently read frames."""
        return self._store.held_bytes() + self._frames.held_bytes + self._video.held_bytes

    def stale_frames(self, object_id: int) -> tuple[int, ...]:
        """Frames of an object that are not finished, because their round still runs or was cancelled."""
        with self._store.lock:
            state = self._store.objects.get(object_id)
            return () if state is None else tuple(sorted(state.stale))

    def suggestions(self, n: int = 5) -> tuple[Suggestion, ...]:
        """The frames whose correction is expected to improve the most; see `pipeline.session.next_frame.suggestions`.

        Does not wait for a running round: it uses the current masks.
        """
        return next_frame.suggestions(self._store, n)

    def saved(self) -> dict[int, ObjectState]:
        """A copy of the state of all objects by id, to be stored outside this process.

        All states are copied under one lock: a pixel that moves from one object to another is never in both.
        """
        with self._store.lock:
            return {object_id: state.copy() for object_id, state in self._store.objects.items()}

    def resume(self, objects: Iterable[ObjectState]) -> None:
        """Continue exactly where another session of this video stopped; replaces the state of these objects.

        Nothing is segmented: finished masks stay as they are, and the next `run_round` segments the stale frames.

        Raises:
            ValueError: a prompt or a mask is outside the clip or does not have its size.
        """
        objects = tuple(objects)
        for state in objects:
            self._check_saved(state)
        with self._round_lock, self._store.lock:
            for state in objects:
                self._video.forget(state.object_id)
                self._store.replace_object(state)
            self._store.limit_probabilities()

    def _check_saved(self, state: ObjectState) -> None:
        height_px, width_px = self._frames.size_hw_px
        check_prompts(state.all_prompts, len(self._frames), (height_px, width_px))
        for frame_index, mask in state.masks.items():
            size_hw_px = mask.raw.height_px, mask.raw.width_px
            if not 0 <= frame_index < len(self._frames) or size_hw_px != (height_px, width_px):
                raise ValueError(
                    f"the mask of object {state.object_id} on frame {frame_index} is {size_hw_px[1]}x{size_hw_px[0]} "
                    f"px, but the clip has {len(self._frames)} frames of {width_px}x{height_px} px"
                )

    def restore(
        self, prompts: Sequence[Prompt], results: Iterable[FrameResult], *, unreadable: Collection[int] = ()
    ) -> None:
        """Continue from the prompts and results of another session of this video, where its `saved` state is lost.

        The next `run_round` segments only what is missing. It segments prompted frames again, so that the object is
        learned from the same masks as before; beyond them propagation starts from the restored masks.

        Args:
            prompts: all of the other session's prompts, to be given to `run_round` too.
            results: masks it produced; those of prompted frames are ignored.
            unreadable: frames it could not read; they are not tried again.

        Raises:
            ValueError: a prompt is outside the clip or the image, or a result is of an object without prompts.
            FrameError: no frame of the video can be read.
        """
        check_prompts(prompts, len(self._frames), self._frames.size_hw_px)
        results, object_ids = tuple(results), {prompt.object_id for prompt in prompts}
        unexpected = sorted({result.object_id for result in results} - object_ids)
        if unexpected:
            raise ValueError(
                f"masks of objects {unexpected} arrived, but the prompts are of objects {sorted(object_ids)}"
            )
        with self._round_lock, self._store.lock:
            self._set_prompts(tuple(prompts), tuple(sorted(object_ids)))
            for object_id in object_ids:
                state = self._store.objects[object_id]
                state.stale -= set(unreadable) - set(state.prompts)
            for result in results:
                state = self._store.objects[result.object_id]
                if result.frame_index not in state.prompts:
                    state.masks[result.frame_index] = FrameMask.from_result(result)
                    state.stale.discard(result.frame_index)

    def run_round(
        self, prompts: Sequence[Prompt], *, object_ids: Collection[int], cancelled: Callable[[], bool] = _never
    ) -> Iterator[FrameResult]:
        """Set the current prompts of some objects and segment the frames that this affects.

        First come the masks of earlier rounds that are valid again because prompts were taken away, then prompted
        frames, then the others in the order of the propagation. A frame may come more than once. The round begins with
        the first ``next``; an iterator that is dropped early leaves stale frames for a later round.

        Args:
            prompts: the complete current set of prompts of every object in ``object_ids``.
            object_ids: the objects whose prompts these are; other objects keep theirs.
            cancelled: called between frames; when true the round stops, and a later round does the rest. It is called
                before the prompts are set, too: a round that is cancelled by then changes nothing.

        Raises:
            ValueError: a prompt is outside the clip or the image, or of an object not in ``object_ids``.
            FrameError: no frame of the video can be read.
        """
        unexpected = sorted({prompt.object_id for prompt in prompts} - set(object_ids))
        if unexpected:
            raise ValueError(
                f"prompts of objects {unexpected} arrived, but this round is of objects {sorted(object_ids)}"
            )
        check_prompts(prompts, len(self._frames), self._frames.size_hw_px)
        return self._round(tuple(prompts), tuple(sorted(set(object_ids))), cancelled)

    def _round(
        self, prompts: tuple[Prompt, ...], object_ids: tuple[int, ...], cancelled: Callable[[], bool]
    ) -> Iterator[FrameResult]:
        while not self._round_lock.acquire(timeout=_LOCK_POLL_S):
            if cancelled():
                return
        try:
            # A round that was cancelled before it began sets nothing: a newer round's prompts may be set already.
            if cancelled():
                return
            # All prompts are set before the first result is yielded: a caller that stops early has still given them.
            yield from self._set_prompts(prompts, object_ids)
            yield from self._propagation.run(cancelled)
        finally:
            self._round_lock.release()

    def _set_prompts(self, prompts: tuple[Prompt, ...], object_ids: tuple[int, ...]) -> list[FrameResult]:
        changed: list[FrameResult] = []
        for object_id in object_ids:
            own = [prompt for prompt in prompts if prompt.object_id == object_id]
            results, is_earlier = self._store.set_prompts(object_id, own, self._propagation.affected_frames)
            if is_earlier:
                self._video.forget(object_id)
            changed += results
        return changed

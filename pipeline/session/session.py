"""Rounds of interaction over one video: prompts in, masks of every frame out, better with every correction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from pipeline.methods.base import Method
from pipeline.prompting import check_prompts
from pipeline.session.frame_mask import Known
from pipeline.session.mask_store import Board
from pipeline.session.next_frame import Suggestion, ranked
from pipeline.session.object_state import ObjectState
from pipeline.session.propagation import rounds_for
from pipeline.session.saved_object import SavedObject
from pipeline.types import FrameResult, Prompt
from pipeline.video.frames import FrameSource
from pipeline.video.recent_frames import RecentFrames

_LOCK_POLL_S = 0.05


def _never() -> bool:
    return False


class Session:
    """The state of one video. Rounds exclude each other; `results` and the like may be called meanwhile by any thread.

    A prompted frame's mask changes only through prompts on that frame, but for pixels that another object's prompts
    take. Everything kept is compressed: run lengths and a few KiB of probabilities per object and frame.
    """

    def __init__(self, frames: FrameSource, method: Method) -> None:
        self._frames = RecentFrames(frames)
        self._board = Board(self._frames)
        self._video = method.open(self._frames)
        self._rounds = rounds_for(self._board, self._video)
        self._round_lock = threading.Lock()

    @property
    def frame_errors(self) -> Mapping[int, str]:
        """Reasons by index of the frames that could not be read; they have no mask, the others do."""
        return MappingProxyType(self._frames.errors)

    def object_ids(self) -> tuple[int, ...]:
        """All objects that have or had prompts."""
        with self._board.lock:
            return tuple(sorted(self._board.objects))

    def prompts(self, object_id: int) -> tuple[Prompt, ...]:
        """The prompts of an object by frame; empty for an unknown object."""
        with self._board.lock:
            state = self._board.objects.get(object_id)
            return () if state is None else state.all_prompts

    def results(self, object_id: int) -> tuple[FrameResult, ...]:
        """What is known of an object now, by frame; empty for an unknown object. No two objects share a pixel."""
        return self._read(object_id, ObjectState.result)

    def own_results(self, object_id: int) -> tuple[FrameResult, ...]:
        """As `results`, but before other objects took pixels of these masks."""
        return self._read(object_id, ObjectState.own_result)

    def _read(self, object_id: int, read: Callable[[ObjectState, int], FrameResult]) -> tuple[FrameResult, ...]:
        with self._board.lock:
            state = self._board.objects.get(object_id)
            return () if state is None else tuple(read(state, frame_index) for frame_index in sorted(state.known))

    @property
    def held_bytes(self) -> int:
        """Memory this session holds beside the shared embeddings, in bytes: masks and recently read frames."""
        return self._board.held_bytes() + self._frames.held_bytes + self._video.held_bytes

    def stale_frames(self, object_id: int) -> tuple[int, ...]:
        """Frames of an object that a cancelled round left unfinished."""
        with self._board.lock:
            state = self._board.objects.get(object_id)
            return () if state is None else tuple(sorted(state.stale))

    def suggestions(self, n: int = 5) -> tuple[Suggestion, ...]:
        """The frames whose correction is expected to mend the most, the best first; see `pipeline.session.next_frame`.

        Never waits for a round: it goes by what is known at this moment. Objects without prompts have none.
        """
        with self._board.lock:
            states = {i: state for i, state in self._board.objects.items() if state.prompts}
            chosen = ranked({i: self._board.outlook(state) for i, state in states.items()}, n)
            return tuple(self._board.suggestion(frame, object_id, gain) for frame, object_id, gain in chosen)

    def saved(self) -> dict[int, SavedObject]:
        """Everything known of all objects by id, to be kept beyond this process.

        It is of one moment: no pixel that just went from one object to another is in both.
        """
        with self._board.lock:
            return {object_id: state.saved() for object_id, state in self._board.objects.items()}

    def resume(self, objects: Iterable[SavedObject]) -> None:
        """Go on exactly where another session of this video was, in place of what this one knows of these objects.

        Nothing is segmented: what was finished stays as it was, and the next `run_round` does the rest.

        Raises:
            ValueError: a prompt or a mask is outside the clip or does not have its size.
        """
        objects = tuple(objects)
        for saved in objects:
            self._check_saved(saved)
        with self._round_lock, self._board.lock:
            for saved in objects:
                self._video.forget(saved.object_id)
                self._board.objects[saved.object_id] = ObjectState.resumed(saved, len(self._frames))
            self._board.drop_surplus()

    def _check_saved(self, saved: SavedObject) -> None:
        height_px, width_px = self._frames.size_hw_px
        check_prompts(saved.prompts, len(self._frames), (height_px, width_px))
        for frame_index, known in saved.known.items():
            size_hw_px = known.own.height_px, known.own.width_px
            if not 0 <= frame_index < len(self._frames) or size_hw_px != (height_px, width_px):
                raise ValueError(
                    f"the mask of object {saved.object_id} on frame {frame_index} is {size_hw_px[1]}x{size_hw_px[0]} "
                    f"px, but the clip has {len(self._frames)} frames of {width_px}x{height_px} px"
                )

    def restore(
        self, prompts: Sequence[Prompt], results: Iterable[FrameResult], *, unreadable: Collection[int] = ()
    ) -> None:
        """Go on where another session of this video stopped: the next `run_round` segments only what is missing.

        Prompted frames are segmented again, so that the object is learned from the same masks as before; beyond them
        propagation starts from the restored masks. For masks without what `saved` adds to them.

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
        strangers = sorted({result.object_id for result in results} - object_ids)
        if strangers:
            raise ValueError(
                f"masks of objects {strangers} arrived, but the prompts are of objects {sorted(object_ids)}"
            )
        with self._round_lock, self._board.lock:
            self._take_prompts(tuple(prompts), tuple(sorted(object_ids)))
            for object_id in object_ids:
                state = self._board.objects[object_id]
                state.stale -= set(unreadable) - set(state.prompts)
            for result in results:
                state = self._board.objects[result.object_id]
                if result.frame_index not in state.prompts:
                    state.known[result.frame_index] = Known.restored(result)
                    state.stale.discard(result.frame_index)

    def run_round(
        self, prompts: Sequence[Prompt], *, object_ids: Collection[int], cancelled: Callable[[], bool] = _never
    ) -> Iterator[FrameResult]:
        """Take the current prompts of some objects and segment what they change.

        Masks of earlier rounds that come back because prompts were taken away come first, then prompted frames, then
        the others in the order of the propagation. A frame may come more than once. The round begins with the first
        ``next``; a round that is dropped half-way leaves stale frames.

        Args:
            prompts: the complete current set of prompts of every object in ``object_ids``.
            object_ids: the objects whose prompts these are; other objects keep theirs.
            cancelled: asked between frames; when true the round stops and the rest stays stale for a later round.

        Raises:
            ValueError: a prompt is outside the clip or the image, or of an object not in ``object_ids``.
            FrameError: no frame of the video can be read.
        """
        strangers = sorted({prompt.object_id for prompt in prompts} - set(object_ids))
        if strangers:
            raise ValueError(
                f"prompts of objects {strangers} arrived, but this round is of objects {sorted(object_ids)}"
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
            # All prompts are taken before anything is handed out: who stops listening has still given them.
            yield from self._take_prompts(prompts, object_ids)
            yield from self._rounds.run(cancelled)
        finally:
            self._round_lock.release()

    def _take_prompts(self, prompts: tuple[Prompt, ...], object_ids: tuple[int, ...]) -> list[FrameResult]:
        changed: list[FrameResult] = []
        for object_id in object_ids:
            given = [prompt for prompt in prompts if prompt.object_id == object_id]
            results, taken_back = self._board.take_prompts(object_id, given, self._rounds.reach)
            if taken_back:
                self._video.forget(object_id)
            changed += results
        return changed

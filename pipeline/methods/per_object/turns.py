"""Several propagation passes that take turns, and get together what they need for the same frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pipeline.methods.base import Estimate, PropagationPass
from pipeline.methods.per_object.tracked_pass import Answer, DecodeNeed, Need, Steps


def take_turns(
    passes: Sequence[PropagationPass],
    steps: Sequence[Steps],
    answers: Callable[[Sequence[Need]], Sequence[Answer]],
) -> Iterator[tuple[int, Estimate]]:
    """Run passes to their ends: next is the pass with the fewest frames done, the first of several.

    The passes whose next frame is the same, in the same direction, go on with it.

    Args:
        passes: what is propagated.
        steps: of each pass.
        answers: gets needs of one kind for one frame, and gives one answer each.

    Yields:
        The position of a pass, and an estimate of it.
    """
    running = [_Running(position, *each) for position, each in enumerate(zip(passes, steps, strict=True))]
    for each in running:
        yield from each.resume(None)
    while True:
        waiting = [each for each in running if each.need is not None]
        if not waiting:
            return
        first = min(waiting, key=lambda each: each.n_done)
        together = [each for each in waiting if each.frame == first.frame]
        # What is not tracked yet cannot be decoded: passes that still need something else get it first.
        kind = next((type(each.need) for each in together if not isinstance(each.need, DecodeNeed)), DecodeNeed)
        together = [each for each in together if isinstance(each.need, kind)]
        found = answers([each.need for each in together if each.need is not None])
        for each, answer in zip(together, found, strict=True):
            yield from each.resume(answer)


class _Running:
    """A running pass; ``need`` is what it waits for, None after its end."""

    def __init__(self, position: int, given: PropagationPass, steps: Steps) -> None:
        self._position, self._frame_indices, self._steps = position, given.frame_indices, steps
        self.need: Need | None = None

    @property
    def n_done(self) -> int:
        """How many frames of the pass lie before the one it needs something for."""
        assert self.need is not None
        return self._frame_indices.index(self.need.frame_index)

    @property
    def frame(self) -> tuple[int, int]:
        """The frame that the pass needs something for, and the direction in which it goes."""
        assert self.need is not None
        return self.need.frame_index, self._frame_indices.step

    def resume(self, answer: Answer) -> Iterator[tuple[int, Estimate]]:
        """Run until the next need or the end."""
        step = self._next(answer)
        while isinstance(step, Estimate):
            yield self._position, step
            step = self._next(None)
        self.need = step

    def _next(self, answer: Answer) -> Estimate | Need | None:
        try:
            return self._steps.send(answer)
        except StopIteration:
            return None

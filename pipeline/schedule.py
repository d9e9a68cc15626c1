"""The order in which several propagation passes take turns, and when they share a step."""

from __future__ import annotations

from collections.abc import Sequence


def schedule(passes: Sequence[range]) -> list[tuple[int, list[int]]]:
    """The order of steps through several passes: next is the pass with the fewest frames done, the first of several.

    Passes that are next at the same frame and go in the same direction take the step together.

    Args:
        passes: the frames of each pass, in order.

    Returns:
        Frame index, and positions in ``passes``, of every step.
    """
    done = [0] * len(passes)
    steps: list[tuple[int, list[int]]] = []
    while True:
        unfinished = [position for position, each in enumerate(passes) if done[position] < len(each)]
        if not unfinished:
            return steps
        first = min(unfinished, key=lambda position: done[position])
        frame_index, direction = passes[first][done[first]], passes[first].step
        together = [n for n in unfinished if passes[n][done[n]] == frame_index and passes[n].step == direction]
        for position in together:
            done[position] += 1
        steps.append((frame_index, together))

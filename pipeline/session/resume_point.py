"""Where a round goes on that an earlier one left unfinished."""

from __future__ import annotations

from pipeline.methods.base import Anchor
from pipeline.session.object_state import ObjectState


def where_left_off(state: ObjectState, near: Anchor, order: range) -> tuple[Anchor, range]:
    """Where the way from an anchor goes on: its last mask that shows the object, and the frames after it."""
    n_done = next((n for n, frame_index in enumerate(order) if frame_index in state.stale), len(order))
    for n in reversed(range(n_done)):
        known = state.known.get(order[n])
        if known is not None and known.own.area_px:
            return Anchor(order[n], known.own.decode()), order[n + 1 :]
    return near, order

"""Two labels prompted on several frames in whatever order comes to the annotator's mind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.clips import Clip
from tests.e2e.editor import Editor
from tests.e2e.person import box_around, jaccard
from tests.e2e.workplace import LABELS, SCREENSHOTS, Workplace, masks_of

N_FRAMES = 8
OBJECT_IDS = {"obj1": 1, "obj2": 2}
ORDERS = [
    (("obj2", 6), ("obj1", 0), ("obj1", 3), ("obj2", 3), ("obj1", 6), ("obj2", 0)),
    pytest.param(
        (("obj1", 3), ("obj1", 6), ("obj2", 0), ("obj2", 6), ("obj1", 0), ("obj2", 3)), marks=pytest.mark.long
    ),
]
MEAN_J_WANTED = 0.8


@pytest.mark.parametrize("order", ORDERS)
def test_labels_and_frames_in_any_order(
    place: Workplace, clip: Clip, task_id: int, order: tuple[tuple[str, int], ...]
) -> None:
    editor = place.open_task(task_id)
    for label, frame_index in order:
        editor.go_to_frame(frame_index)
        done = editor.draw_box(label, *box_corners(clip, label, frame_index))
        assert not done.errors
    prompted = {(region["value"]["rectanglelabels"][0], region["item_index"]) for region in boxes(editor)}
    assert prompted == {(label, frame_index) for label in LABELS for frame_index in (0, 3, 6)}
    masks = {label: masks_of(editor.regions(), label) for label in LABELS}
    for label, by_frame in masks.items():
        assert sorted(by_frame) == list(range(N_FRAMES))
        j = [jaccard(mask, clip.mask(t, OBJECT_IDS[label])) for t, mask in by_frame.items()]
        assert np.mean(j) >= MEAN_J_WANTED, label
    for frame_index in range(N_FRAMES):
        assert not (masks["obj1"][frame_index] & masks["obj2"][frame_index]).any(), f"frame {frame_index}"
    known = place.known_to_backend(task_id)
    assert {(r["value"]["rectanglelabels"][0], r["item_index"]) for r in known if "x" in r["value"]} == prompted
    for label, by_frame in masks.items():
        for frame_index, mask in masks_of(known, label).items():
            np.testing.assert_array_equal(mask, by_frame[frame_index])
    editor.screenshot(SCREENSHOTS / f"two_labels_{task_id}.png")


def box_corners(clip: Clip, label: str, frame_index: int) -> tuple[float, float, float, float]:
    """Where a box is begun and ended: a drag that begins inside another box would move that one."""
    x0, y0, x1, y1 = box_around(clip.mask(frame_index, OBJECT_IDS[label]))
    (other,) = (number for name, number in OBJECT_IDS.items() if name != label)
    left, top, right, bottom = box_around(clip.mask(frame_index, other))
    corners = [(x0, y0, x1, y1), (x1, y1, x0, y0), (x0, y1, x1, y0), (x1, y0, x0, y1)]
    return next(drag for drag in corners if not (left <= drag[0] <= right and top <= drag[1] <= bottom))


def boxes(editor: Editor) -> list[dict[str, Any]]:
    """The boxes in the editor."""
    return [region for region in editor.regions() if region["type"] == "rectanglelabels"]

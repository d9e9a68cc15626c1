from __future__ import annotations

import numpy as np
import pytest

from pipeline.export.clip import ExportedClip
from pipeline.types import RunLengthMask

MASK = RunLengthMask.encode(np.ones((2, 3), dtype=np.bool_))


@pytest.mark.parametrize(
    ("sizes", "masks", "message"),
    [
        (((2, 3),), {}, "one size per frame, but got 1 sizes for 2 frames"),
        (((2, 3), (2, 3)), {0: {0: MASK}}, "start at 1"),
        (((2, 3), (2, 3)), {1: {2: MASK}}, "frame 2: the clip has 2 frames"),
        (((2, 3), (2, 3)), {1: {-1: MASK}}, "frame -1: the clip has 2 frames"),
        (((2, 3), (3, 2)), {1: {1: MASK}}, "frame is 2x3 px, but its mask is 3x2 px"),
    ],
)
def test_parts_that_do_not_fit_are_refused(sizes, masks, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        ExportedClip("clip", ("00000.jpg", "00001.jpg"), sizes, masks)


def test_objects_of_a_frame_come_in_order_of_their_ids() -> None:
    clip = ExportedClip("clip", ("a.jpg", "b.jpg"), ((2, 3), (2, 3)), {7: {1: MASK}, 2: {0: MASK, 1: MASK}})
    assert [object_id for object_id, _ in clip.decoded(1)] == [2, 7]
    assert [object_id for object_id, _ in clip.decoded(0)] == [2]
    assert clip.n_masks == 3

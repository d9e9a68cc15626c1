"""A box and two corrective clicks on another real clip: a dog that runs, seen by a camera that follows it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.clips import Clip, has_shared_clips, real_or_rendered
from tests.e2e.person import Click, box_around, correction
from tests.e2e.test_blackswan import j_of
from tests.e2e.workplace import SCREENSHOTS, Masks, Workplace, masks_of

MEAN_J_WANTED = 0.85
LABEL = "obj1"


@pytest.mark.parametrize("n_frames", [12, pytest.param(60, marks=pytest.mark.long)])
def test_a_box_and_two_clicks_label_every_frame(
    place: Workplace, n_frames: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clip = real_or_rendered("dog", tmp_path_factory.mktemp("dog"))
    n_frames = n_frames if has_shared_clips() else len(clip.image_paths)
    clip = Clip(clip.name, clip.image_paths[:n_frames], clip.labels[:n_frames])
    editor = place.open_task(place.import_clip(f"second-{clip.name}-{n_frames}", clip.image_paths))
    assert not editor.draw_box(LABEL, *box_around(clip.mask(0))).errors
    for _ in range(2):
        frame_index, click = largest_error(masks_of(editor.regions(), LABEL), clip)
        editor.go_to_frame(frame_index)
        assert not editor.click(LABEL, click.x, click.y, negative=not click.positive, through=True).errors
    masks = masks_of(editor.regions(), LABEL)
    assert sorted(masks) == list(range(n_frames))
    for frame_index in (0, n_frames // 2, n_frames - 1):
        editor.go_to_frame(frame_index)
        editor.screenshot(SCREENSHOTS / f"second-{clip.name}-{frame_index:05d}.png")
    j = j_of(masks, clip)
    print(f"{clip.name}: mean J {np.mean(j):.3f}, lowest {min(j):.3f} on frame {int(np.argmin(j))}")
    assert np.mean(j) >= MEAN_J_WANTED


def largest_error(masks: Masks, clip: Clip) -> tuple[int, Click]:
    """Frame and click for the largest region of the whole clip that is missing or too much."""
    wrong = [frame_index for frame_index, mask in masks.items() if (mask != clip.mask(frame_index)).any()]
    errors = [(frame_index, correction(masks[frame_index], clip.mask(frame_index))) for frame_index in wrong]
    return max(errors, key=lambda error: int(error[1].region.sum()))

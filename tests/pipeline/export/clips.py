"""Clips for the export tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pipeline.export.clip import ExportedClip
from pipeline.types import RunLengthMask
from tests.clips import Clip


def exported(clip: Clip, name: str | None = None) -> ExportedClip:
    """A test clip's ground truth as an exporter gets it."""
    masks: dict[int, dict[int, RunLengthMask]] = {}
    for object_id in range(1, int(clip.labels.max()) + 1):
        frames = {t: clip.mask(t, object_id) for t in range(len(clip.labels))}
        masks[object_id] = {t: RunLengthMask.encode(mask) for t, mask in frames.items() if mask.any()}
    n_frames, height_px, width_px = clip.labels.shape
    frame_names = tuple(path.name for path in clip.image_paths)
    return ExportedClip(name or clip.name, frame_names, ((height_px, width_px),) * n_frames, masks)


@st.composite
def random_clips(draw: st.DrawFn) -> ExportedClip:
    """Clips of up to five frames of any sizes with up to four objects whose masks overlap freely."""
    sizes = tuple(draw(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks: dict[int, dict[int, RunLengthMask]] = {}
    for object_id in draw(st.sets(st.integers(1, 255), max_size=4)):
        frames = {t: rng.random(size) < rng.random() for t, size in enumerate(sizes)}
        masks[object_id] = {t: RunLengthMask.encode(mask) for t, mask in frames.items() if mask.any()}
    return ExportedClip("random", tuple(f"{t:05d}.jpg" for t in range(len(sizes))), sizes, masks)

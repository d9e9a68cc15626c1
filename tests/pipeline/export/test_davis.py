from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from pipeline.export.clip import ExportedClip
from pipeline.export.davis import davis_palette, paint, write_davis
from pipeline.types import RunLengthMask
from tests.clips import real_or_rendered
from tests.pipeline.export.clips import exported, random_clips


@pytest.mark.parametrize("name", ["comp-bear-lucia", "libby"])
def test_real_masks_come_back_to_the_pixel(name: str, tmp_path: Path) -> None:
    clip = real_or_rendered(name, tmp_path)
    frames_done: list[None] = []
    summary = write_davis([exported(clip)], tmp_path / "out", on_frame=lambda: frames_done.append(None))
    files = sorted((tmp_path / "out" / "Annotations" / clip.name).iterdir())
    assert [file.stem for file in files] == [path.stem for path in clip.image_paths]
    for file, expected in zip(files, clip.labels, strict=True):
        with Image.open(file) as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), expected)
    assert summary.n_frames == len(frames_done) == len(files)
    assert summary.overlap_px == 0


@given(clip=random_clips())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_overlaps_go_to_the_higher_id_and_are_counted(clip: ExportedClip, tmp_path: Path) -> None:
    summary = write_davis([clip], tmp_path)
    covered_px = 0
    for frame_index, frame_name in enumerate(clip.frame_names):
        with Image.open(tmp_path / "Annotations" / clip.name / f"{Path(frame_name).stem}.png") as image:
            labels = np.asarray(image)
        expected = np.zeros(clip.frame_sizes_hw_px[frame_index], dtype=int)
        for object_id, by_frame in clip.masks.items():
            if frame_index in by_frame:
                expected = np.maximum(expected, object_id * by_frame[frame_index].decode())
        np.testing.assert_array_equal(labels, expected)
        covered_px += int(np.count_nonzero(labels))
    claimed_px = sum(mask.area_px for by_frame in clip.masks.values() for mask in by_frame.values())
    assert summary.overlap_px == claimed_px - covered_px


def test_the_palette_is_the_one_of_davis() -> None:
    colours = np.frombuffer(davis_palette(), dtype=np.uint8).reshape(256, 3)
    # The first colours as the files of the benchmark have them.
    assert colours[:6].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert colours[15].tolist() == [192, 128, 128]
    assert len(np.unique(colours, axis=0)) == 256


def test_one_byte_holds_no_higher_id_than_255(tmp_path: Path) -> None:
    mask = RunLengthMask.encode(np.ones((2, 2), dtype=np.bool_))
    with pytest.raises(ValueError, match="object id 256"):
        write_davis([ExportedClip("clip", ("0.jpg",), ((2, 2),), {256: {0: mask}})], tmp_path)
    labels, _ = paint(ExportedClip("clip", ("0.jpg",), ((2, 2),), {255: {0: mask}}), 0)
    assert (labels == 255).all()

"""A small mesh written, read, drawn and collected as cut-outs; what is no picture of a thing is left out."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.tools.train_lite.conftest import ellipse
from tools.train_lite.assets import CutOut, _cut, rendered
from tools.train_lite.g3d import TWO_SIDED, objects, read_g3d
from tools.train_lite.meshes import Light, between_frames, render_all, render_canvas, turn_matrix

SIDE_PX = 64
TEXTURE_RGB = (200, 40, 90)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one unit: a square plate of two triangles that grows over two key frames, and its texture."""
    folder = tmp_path / "package/factions/tribe/units/archer/models"
    folder.mkdir(parents=True)
    plate = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], "<f4")
    points, normals = np.stack([plate, 2 * plate]), np.tile(np.array([0, 0, 1], "<f4"), (2, 4, 1))
    texcoords = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], "<f4")
    triangles = np.array([0, 1, 2, 0, 2, 3], "<u4")
    header = b"G3D\x04" + struct.pack("<HB", 1, 0) + b"plate".ljust(64, b"\0")
    header += struct.pack("<3I8f2I", 2, 4, 6, *([0.5] * 7), 1.0, TWO_SIDED, 1) + b"plate.png".ljust(64, b"\0")
    data = header + b"".join(each.tobytes() for each in (points, normals, texcoords, triangles))
    (folder / "archer_walking.g3d").write_bytes(data)
    (folder / "archer_arrow.g3d").write_bytes(data)
    (folder / "archer_broken.g3d").write_bytes(b"G3D\x03")
    cv2.imwrite(str(folder / "plate.png"), np.full((8, 8, 3), TEXTURE_RGB[::-1], np.uint8))
    return tmp_path / "package"


def test_a_mesh_is_read_with_its_texture(package: Path) -> None:
    ((name, kind, (mesh,)),) = objects(package)
    assert (mesh.vertices.shape, mesh.normals.shape, mesh.triangles.shape) == ((2, 4, 3), (2, 4, 3), (2, 3))
    assert mesh.texture is not None
    assert tuple(mesh.texture[0, 0]) == (*TEXTURE_RGB, 255)
    assert mesh.two_sided
    assert (kind, name) == ("person", "megaglest/tribe/archer/archer_walking")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.g3d").write_bytes(b"G3D\x03\0\0\0")
    with pytest.raises(ValueError, match="not a G3D file of version 4"):
        read_g3d(tmp_path / "a.g3d")


def test_a_plate_seen_from_the_front_fills_its_canvas(package: Path) -> None:
    _, _, meshes = next(objects(package))
    light = Light(xyz=(0, 0, 1), rgb=(0, 0, 0), ambient_rgb=(1, 1, 1))
    canvas = render_canvas(meshes, 0.0, 0.0, 0.0, SIDE_PX, light)
    assert (canvas.shape, canvas.dtype) == ((SIDE_PX, SIDE_PX, 4), np.dtype(np.uint8))
    assert (canvas[..., 3] > 127).mean() == pytest.approx(0.94**2, abs=0.02)
    assert np.abs(canvas[SIDE_PX // 2, SIDE_PX // 2, :3].astype(int) - TEXTURE_RGB).max() <= 1


def test_views_are_drawn_and_collected(package: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "a", tmp_path / "b"):
        assert render_all(objects(package), out, seed=0, views_per_animation=2, frames_per_view=3) > 0
    assert (tmp_path / "a/cutouts_0000.pkl").read_bytes() == (tmp_path / "b/cutouts_0000.pkl").read_bytes()
    found = list(rendered(tmp_path / "a"))
    for cut_out in found:
        assert isinstance(cut_out, CutOut)
        assert cut_out.kind == "person"
        assert len({frame.shape for frame in cut_out.frames}) == 1
        assert len(cut_out.frames) == 3
    (tmp_path / "c").mkdir()
    (tmp_path / "c/cutouts_0000.pkl").write_bytes(pickle.dumps([{"name": "megaglest/a/b/b_hanged"}]))
    assert not list(rendered(tmp_path / "c"))


@given(arrays.arrays(np.float32, (3, 2, 3), elements=st.floats(-10, 10, width=32)), st.floats(0, 1), st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_lies_between_key_frames_stays_between_them(values: np.ndarray, time: float, cycle: bool) -> None:
    found = between_frames(values, time, cycle)
    assert (found >= values.min(0) - 1e-4).all()
    assert (found <= values.max(0) + 1e-4).all()
    np.testing.assert_allclose(between_frames(values, 0.0, cycle), values[0])


@given(st.floats(-7, 7), st.floats(-1.5, 1.5))
def test_turning_keeps_lengths(yaw_rad: float, pitch_rad: float) -> None:
    turn = turn_matrix(yaw_rad, pitch_rad)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(("height", "width", "fits"), [(200, 160, True), (900, 600, True), (30, 30, False)])
def test_cut_outs_are_trimmed_and_neither_tiny_nor_large(height: int, width: int, fits: bool, tmp_path: Path) -> None:
    picture = cv2.copyMakeBorder(ellipse(np.random.default_rng(0), height, width), 9, 9, 9, 9, cv2.BORDER_CONSTANT)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    found = _cut(tmp_path / "a.png")
    assert (found is not None) == fits
    if found is not None:
        assert max(found.shape[:2]) <= 320
        assert (found[..., 3] > 127).any(axis=0).all()


def test_what_fills_its_picture_is_no_cut_out(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((100, 100, 4), 255, np.uint8))
    assert _cut(tmp_path / "a.png") is None
    cv2.imwrite(str(tmp_path / "b.png"), np.full((100, 100, 3), 255, np.uint8))
    assert _cut(tmp_path / "b.png") is None

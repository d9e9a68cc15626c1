"""A clip drawn by the project itself: two textured, slowly deforming bodies cross over a drifting ground.

It needs no download, so the demo shows something at once, and its labels are exact, so tests can score masks on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_Plane = NDArray[np.float32]
"""(H, W) or (H, W, 3) float32; colours in [0, 1]."""

_TOUCHING = 0.13
"""Half the distance between the bodies' centres at which they just touch, as a share of the frame's width."""
_FAR_APART = 0.30
_TRAVEL_PER_FRAME = 0.0105
"""How far a body moves from one frame to the next, as a share of the width, where the clip is long enough to choose."""


@dataclass(frozen=True)
class SampleClip:
    """A rendered clip with its exact labels.

    ``frames`` is (T, H, W, 3) uint8 RGB; ``labels`` is (T, H, W) uint8: 0 background, 1 and 2 the objects as far as
    they are visible. Object 1 passes in front of object 2.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Body:
    """Shape and look of one object; lengths are shares of the frame's width."""

    radius: float
    lobes: int
    lobe_depth: float
    turns: float
    light_rgb: tuple[float, float, float]
    dark_rgb: tuple[float, float, float]
    stripes: float


@dataclass(frozen=True)
class _Pose:
    """Where a body is on one frame. ``progress`` runs from 0 to 1 over the clip."""

    x_px: float
    y_px: float
    progress: float


_FRONT = _Body(0.105, 5, 0.10, 0.16, (0.98, 0.62, 0.30), (0.80, 0.20, 0.14), 9.0)
_BACK = _Body(0.125, 3, 0.13, -0.12, (0.45, 0.86, 0.88), (0.08, 0.34, 0.62), 6.0)


def render_sample_clip(n_frames: int = 60, size_hw_px: tuple[int, int] = (480, 854), seed: int = 0) -> SampleClip:
    """Render the clip. The same arguments give the same pixels.

    In a short clip the bodies start closer to each other, so that they cross in any number of frames without jumping.

    Args:
        n_frames: T, at least 2.
        size_hw_px: height and width, each at least 32.
        seed: varies the textures and the noise; the motion stays.

    Raises:
        ValueError: ``n_frames`` or ``size_hw_px`` is too small.
    """
    if n_frames < 2 or min(size_hw_px) < 32:
        raise ValueError(f"expected at least 2 frames of at least 32x32 px, but got {n_frames} of {size_hw_px}")
    height_px, width_px = size_hw_px
    rng = np.random.default_rng(seed)
    margin_px = round(0.06 * width_px)
    ground = _ground(rng, (height_px + 2 * margin_px, width_px + 2 * margin_px))
    front_skin, back_skin = (_skin(rng, body, 2 * round(body.radius * width_px) + 8) for body in (_FRONT, _BACK))
    frames = np.empty((n_frames, height_px, width_px, 3), dtype=np.uint8)
    labels = np.zeros((n_frames, height_px, width_px), dtype=np.uint8)
    for frame_index in range(n_frames):
        progress = frame_index / (n_frames - 1)
        image = _drifted(ground, margin_px, progress, size_hw_px)
        front, back = _poses(n_frames, progress, size_hw_px)
        for object_id, body, skin, pose in ((2, _BACK, back_skin, back), (1, _FRONT, front_skin, front)):
            window = _window(body, pose, size_hw_px)
            mask = _paint(image[window], body, skin, _moved(pose, window), body.radius * width_px)
            labels[frame_index][window][mask] = object_id
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(0.012)
        frames[frame_index] = np.clip((image + noise) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return SampleClip(frames, labels)


def _poses(n_frames: int, progress: float, size_hw_px: tuple[int, int]) -> tuple[_Pose, _Pose]:
    """Front and back body: mirrored paths through the middle, each with a slight bow."""
    height_px, width_px = size_hw_px
    reach = float(np.clip(_TRAVEL_PER_FRAME * n_frames / 2, _TOUCHING, _FAR_APART))
    along = reach * (2 * progress - 1)
    bow = 0.05 * np.sin(2 * np.pi * progress)
    front = _Pose(width_px * (0.5 + along), height_px * (0.565 - bow), progress)
    back = _Pose(width_px * (0.5 - along), height_px * (0.445 - bow), progress)
    return front, back


def _value_noise(rng: np.random.Generator, size_hw_px: tuple[int, int], cell_px: float, octaves: int) -> _Plane:
    """Smooth noise in [0, 1], (H, W): random grids of ever finer cells, enlarged and summed."""
    height_px, width_px = size_hw_px
    total: _Plane = np.zeros(size_hw_px, dtype=np.float32)
    for octave in range(octaves):
        cell = max(cell_px / 2**octave, 1.0)
        grid = rng.random((int(height_px / cell) + 3, int(width_px / cell) + 3), dtype=np.float32)
        total += cv2.resize(grid, (width_px, height_px), interpolation=cv2.INTER_CUBIC).astype(np.float32) * 0.5**octave
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), dtype=np.float32)


def _blend(low_rgb: tuple[float, float, float], high_rgb: tuple[float, float, float], share: _Plane) -> _Plane:
    """(H, W, 3): from one colour to another by (H, W) ``share``."""
    low, high = np.array(low_rgb, np.float32), np.array(high_rgb, np.float32)
    return np.asarray(low + (high - low) * share[..., None], dtype=np.float32)


def _ground(rng: np.random.Generator, size_hw_px: tuple[int, int]) -> _Plane:
    """Mossy ground with pale pebbles, darker towards the corners, (H, W, 3)."""
    height_px, width_px = size_hw_px
    moss = _blend((0.16, 0.22, 0.15), (0.55, 0.58, 0.36), _value_noise(rng, size_hw_px, width_px / 9, 6))
    pebbles = _value_noise(rng, size_hw_px, width_px / 26, 2)
    pebble_share = np.clip((pebbles - 0.62) * 9, 0, 1) * np.float32(0.75)
    grain = 0.75 + 0.5 * _value_noise(rng, size_hw_px, max(width_px / 180, 2.0), 2)
    stone = _blend((0.46, 0.43, 0.40), (0.74, 0.71, 0.66), _value_noise(rng, size_hw_px, width_px / 40, 3))
    image = (moss + (stone - moss) * pebble_share[..., None]) * grain[..., None]
    ys, xs = np.mgrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j]
    vignette = 1.08 - 0.30 * (xs**2 + ys**2) / 2
    return np.asarray(image * vignette[..., None], dtype=np.float32)


def _skin(rng: np.random.Generator, body: _Body, side_px: int) -> _Plane:
    """The body's texture in its own turning coordinates, (side, side, 3): wavy stripes, speckles and fine grain."""
    size_hw_px = (side_px, side_px)
    ys, xs = np.mgrid[-1 : 1 : side_px * 1j, -1 : 1 : side_px * 1j]
    warp = _value_noise(rng, size_hw_px, side_px / 4, 3)
    stripes = 0.5 + 0.5 * np.sin(body.stripes * (xs + 0.35 * ys) + 5.0 * warp)
    speckles = np.clip((_value_noise(rng, size_hw_px, side_px / 12, 2) - 0.66) * 8, 0, 1)
    colour = _blend(body.dark_rgb, body.light_rgb, (stripes**1.5).astype(np.float32))
    colour = colour + (np.array((0.99, 0.95, 0.84), np.float32) - colour) * np.float32(0.7) * speckles[..., None]
    grain = 0.88 + 0.24 * _value_noise(rng, size_hw_px, max(side_px / 40, 2.0), 2)
    return np.asarray(colour * grain[..., None], dtype=np.float32)


def _drifted(ground: _Plane, margin_px: int, progress: float, size_hw_px: tuple[int, int]) -> _Plane:
    """What the slowly drifting camera sees of the ground, (H, W, 3)."""
    height_px, width_px = size_hw_px
    x_px = margin_px * (0.25 + 1.5 * progress)
    y_px = margin_px * (1.0 + 0.6 * np.sin(2 * np.pi * progress))
    shift = np.array([[1, 0, x_px], [0, 1, y_px]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(ground, shift, (width_px, height_px), flags=flags), dtype=np.float32)


def _window(body: _Body, pose: _Pose, size_hw_px: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that hold the body and its shadow; painting leaves the rest of the frame alone."""
    height_px, width_px = size_hw_px
    reach_px = 1.5 * body.radius * width_px
    rows = slice(max(0, int(pose.y_px - reach_px)), min(height_px, int(pose.y_px + reach_px) + 1))
    columns = slice(max(0, int(pose.x_px - reach_px)), min(width_px, int(pose.x_px + reach_px) + 1))
    return rows, columns


def _moved(pose: _Pose, window: tuple[slice, slice]) -> _Pose:
    """The pose in the window's own coordinates."""
    rows, columns = window
    return _Pose(pose.x_px - columns.start, pose.y_px - rows.start, pose.progress)


def _paint(image: _Plane, body: _Body, skin: _Plane, pose: _Pose, radius_px: float) -> NDArray[np.bool_]:
    """Draw the body with its soft shadow into ``image`` in place; returns its (H, W) bool mask."""
    height_px, width_px = image.shape[:2]
    grid = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    ys, xs = grid[0], grid[1]
    shadow = _coverage(body, pose, radius_px, xs - 0.10 * radius_px, ys - 0.16 * radius_px, 0.28 * radius_px)
    image *= (1 - np.float32(0.5) * shadow)[..., None]
    cover = _coverage(body, pose, radius_px, xs, ys, 1.2)
    dx, dy = (xs - np.float32(pose.x_px)) / np.float32(radius_px), (ys - np.float32(pose.y_px)) / np.float32(radius_px)
    lit = _lit(_turned(skin, dx, dy, 2 * np.pi * body.turns * pose.progress), dx, dy)
    image += (lit - image) * cover[..., None]
    return np.asarray(cover >= 0.5, dtype=np.bool_)


def _turned(skin: _Plane, dx: _Plane, dy: _Plane, angle: float) -> _Plane:
    """The skin's colours at (H, W) ``dx``, ``dy`` radii from the body's centre, (H, W, 3)."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    # The skin covers 1.15 radii, as far as the lobes reach.
    scale, half_side = np.float32(1 / 1.15), np.float32(skin.shape[0] / 2)
    u = ((cos * dx + sin * dy) * scale + 1) * half_side
    v = ((cos * dy - sin * dx) * scale + 1) * half_side
    colour = cv2.remap(skin, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(colour, dtype=np.float32)


def _lit(colour: _Plane, dx: _Plane, dy: _Plane) -> _Plane:
    """A dome lit from the upper left, with a small gloss."""
    dome = np.sqrt(np.clip(1.25 - dx**2 - dy**2, 0.05, None))
    light = np.clip((0.72 * dome - 0.40 * dx - 0.52 * dy) * 0.55 + 0.60, 0.35, 1.35)
    gloss = 0.35 * np.exp(-((dx + 0.36) ** 2 + (dy + 0.42) ** 2) / 0.035)
    return np.asarray(colour * light[..., None] + gloss[..., None], dtype=np.float32)


def _coverage(body: _Body, pose: _Pose, radius_px: float, xs: _Plane, ys: _Plane, softness_px: float) -> _Plane:
    """How much of each pixel the body covers, (H, W) in [0, 1]; its lobes turn and breathe with the clip."""
    dx, dy = xs - np.float32(pose.x_px), ys - np.float32(pose.y_px)
    turn = 2 * np.pi * body.turns * pose.progress
    around = np.arctan2(dy, dx) - np.float32(turn)
    breath = body.lobe_depth * (1 + 0.35 * np.sin(2 * np.pi * 1.5 * pose.progress))
    sway = 0.05 * np.cos(2 * around + 2 * np.pi * pose.progress)
    edge_px = radius_px * (1 + breath * np.cos(body.lobes * around) + sway - 0.06)
    inside_px = edge_px - np.hypot(dx, dy)
    return np.asarray(np.clip(inside_px / softness_px + 0.5, 0, 1), dtype=np.float32)

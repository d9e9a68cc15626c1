"""Cut-outs of moving people, animals and machines: the meshes of `g3d` and `pmd` drawn with numpy and OpenCV alone.

A cut-out is a short sequence of RGBA pictures of one object that moves a little, seen from one side.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from tools.train_lite.g3d import Floats, Ints, Mesh, Picture

SUPERSAMPLING = 2
DISTANCE_IN_RADII = 5.0  # from the camera to the object's middle
MIN_COVER = 0.04  # of the canvas
CANVAS_PX = 320
VIEWS_PER_FILE = 200


class Camera(NamedTuple):
    """Where the object lies in the picture: its middle, its reach, and what takes camera units to pixels."""

    centre: Floats
    radius: float
    scale: float
    shift: Floats


class Light(NamedTuple):
    """One far light (its direction as the camera sees it: x right, y up, z to the camera) and a glow all round."""

    xyz: Sequence[float] = (0.4, 0.7, 0.6)
    rgb: Sequence[float] = (0.8, 0.8, 0.8)
    ambient_rgb: Sequence[float] = (0.4, 0.4, 0.4)


def between_frames(values: Floats, time: float, cycle: bool) -> Floats:
    """Return (T, V, 3) values at a time in 0..1; a cycle leads from its last key frame back to its first."""
    count = len(values)
    place = (time % 1.0) * count if cycle else min(max(time, 0.0), 1.0) * (count - 1)
    first, part = int(place) % count, np.float32(place - int(place))
    following = (first + 1) % count if cycle else min(first + 1, count - 1)
    return np.asarray(values[first] * (1 - part) + values[following] * part, np.float32)


def turn_matrix(yaw_rad: float, pitch_rad: float) -> Floats:
    """Return the matrix that takes the object's axes (y up) to the camera's (x right, y up, z to the camera)."""
    cy, sy, cp, sp = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(pitch_rad), np.sin(pitch_rad)
    return np.array([[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]], dtype=np.float32)


def _project(points: Floats, camera: Camera, turn: Floats) -> Floats:
    """Return (V, 3): x and y in pixels (y down) and one over the distance from the camera."""
    seen = (points - camera.centre) @ turn.T
    near = 1.0 / (DISTANCE_IN_RADII - seen[:, 2] / camera.radius)
    xy = seen[:, :2] * (near * camera.scale)[:, None] * np.array([1, -1], np.float32) + camera.shift
    return np.column_stack([xy, near]).astype(np.float32)


def fit_camera(
    meshes: Sequence[Mesh], moments: Sequence[tuple[float, float]], pitch_rad: float, size_px: int, cycle: bool = True
) -> Camera:
    """Return a camera that holds the object whole at all moments (time, yaw), with a small margin."""
    poses = [np.concatenate([between_frames(m.vertices, time, cycle) for m in meshes]) for time, _ in moments]
    points = np.concatenate(poses)
    centre = ((points.min(0) + points.max(0)) / 2).astype(np.float32)
    radius = float(np.linalg.norm(points - centre, axis=1).max()) + 1e-6
    camera = Camera(centre, radius, 1.0, np.zeros(2, np.float32))
    turns = [turn_matrix(yaw, pitch_rad) for _, yaw in moments]
    xy = np.concatenate([_project(p, camera, turn)[:, :2] for p, turn in zip(poses, turns, strict=True)])
    low, high = xy.min(0), xy.max(0)
    scale = 0.94 * size_px / max(float((high - low).max()), 1e-9)
    return Camera(centre, radius, scale, (size_px / 2 - scale * (low + high) / 2).astype(np.float32))


def _spans(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Return for runs of integers (starts, counts), laid end to end: each one's run, and each one's value."""
    run = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)
    return run, np.arange(len(run)) - np.repeat(ends - counts - starts, counts)


def _fragments(corners: Floats, size: int) -> tuple[Ints, Ints, Ints]:
    """Return the pixels whose middles lie in the triangles (F, 3, 2): which triangle, row, column."""
    x, y = corners[..., 0], corners[..., 1]
    top = np.clip(np.ceil(y.min(1) - 0.5), 0, size).astype(np.int64)
    bottom = np.clip(np.ceil(y.max(1) - 0.5), 0, size).astype(np.int64)
    triangle, row = _spans(top, bottom - top)
    middle = (row + 0.5).astype(np.float32)
    left: Floats = np.full(len(row), np.inf, np.float32)
    right: Floats = np.full(len(row), -np.inf, np.float32)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        rise = y[:, b] - y[:, a]
        slope = np.where(rise == 0, 0, (x[:, b] - x[:, a]) / np.where(rise == 0, 1, rise))
        meets = (np.minimum(y[:, a], y[:, b])[triangle] <= middle) & (middle <= np.maximum(y[:, a], y[:, b])[triangle])
        at = x[:, a][triangle] + (middle - y[:, a][triangle]) * slope[triangle]
        left = np.where(meets, np.minimum(left, at), left)
        right = np.where(meets, np.maximum(right, at), right)
    start = np.ceil(np.clip(left, 0, size) - 0.5).astype(np.int64)
    stop = np.ceil(np.clip(right, 0, size) - 0.5).astype(np.int64)
    span, column = _spans(start, np.maximum(stop - start, 0))
    return triangle[span], row[span], column


def _sample(texture: Picture, uv: Floats) -> Floats:
    """Return the texture's RGBA (0..1) at (N, 2) places, with v pointing up, bilinear, repeated at its edges."""
    height, width = texture.shape[:2]
    padded = np.zeros(((len(uv) // 1024 + 1) * 1024, 2), np.float32)  # OpenCV takes no more than 32767 a side
    padded[: len(uv)] = uv - np.floor(uv)
    columns = (padded[:, 0] * width - 0.5).reshape(-1, 1024)
    rows = ((1 - padded[:, 1]) * height - 0.5).reshape(-1, 1024)
    found = cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found.reshape(-1, 4)[: len(uv)], np.float32) / np.float32(255)


def _has_holes(mesh: Mesh) -> bool:
    """Tell whether the texture's alpha cuts holes into the surface."""
    return mesh.texture is not None and not mesh.team_coloured and int(mesh.texture[..., 3].min()) < 128


class _Surface(NamedTuple):
    """All triangles of an object that face the camera, and what is needed at their corners."""

    corners: Floats  # (F, 3, 3): x, y, one over distance
    uv: Floats  # (F, 3, 2)
    normals: Floats  # (F, 3, 3), in the camera's axes
    mesh: Ints  # (F,): which mesh


def _surface(meshes: Sequence[Mesh], time: float, turn: Floats, camera: Camera, cycle: bool) -> _Surface:
    """Return the object's triangles as seen by the camera, without those turned away on one-sided meshes."""
    parts = []
    for number, mesh in enumerate(meshes):
        seen = _project(between_frames(mesh.vertices, time, cycle), camera, turn)[mesh.triangles]
        edges = seen[:, 1:, :2] - seen[:, :1, :2]
        area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
        keep = np.abs(area) > 1e-4 if mesh.two_sided else area < -1e-4
        normals = (between_frames(mesh.normals, time, cycle) @ turn.T)[mesh.triangles[keep]]
        uv = np.zeros((len(mesh.vertices[0]), 2), np.float32) if mesh.texcoords is None else mesh.texcoords
        parts.append((seen[keep], uv[mesh.triangles[keep]], normals, np.full(int(keep.sum()), number)))
    return _Surface(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _slopes(corners: Floats) -> Floats:
    """Return (F, 2, 2): how the weights of a triangle's second and third corner grow with x and with y."""
    (x1, y1), (x2, y2) = ((corners[:, k, :2] - corners[:, 0, :2]).T for k in (1, 2))
    area = x1 * y2 - y1 * x2
    return np.asarray(np.stack([y2, -x2, -y1, x1], axis=1).reshape(-1, 2, 2) / area[:, None, None], np.float32)


def _blend(values: Floats, triangle: Ints, shares: Floats) -> Floats:
    """Return (N, D): the corners' values (F, 3, D) mixed by the fragments' shares (N, 3)."""
    at = np.take(values.reshape(len(values), -1), triangle, axis=0).reshape(len(triangle), *values.shape[1:])
    return np.asarray(at[:, 0] * shares[:, :1] + at[:, 1] * shares[:, 1:2] + at[:, 2] * shares[:, 2:], np.float32)


def _shares(surface: _Surface, slopes: Floats, triangle: Ints, xy: Floats) -> Floats:
    """Return (N, 3): how much of each corner of its triangle a fragment at xy (N, 2) takes, in true perspective."""
    count = len(surface.mesh)
    table = np.concatenate([slopes.reshape(count, 4), surface.corners[:, 0, :2], surface.corners[..., 2]], axis=1)
    grow, start, near = np.split(np.take(table, triangle, axis=0), [4, 6], axis=1)
    x, y = xy[:, 0] - start[:, 0], xy[:, 1] - start[:, 1]
    second = grow[:, 0] * x + grow[:, 1] * y
    third = grow[:, 2] * x + grow[:, 3] * y
    first = (1 - second - third) * near[:, 0]
    second, third = second * near[:, 1], third * near[:, 2]
    total = first + second + third
    shares: Floats = np.clip(np.stack([first / total, second / total, third / total], axis=1), 0, 1)
    return shares


def _visible(surface: _Surface, meshes: Sequence[Mesh], size: int) -> tuple[Ints, Ints, Floats]:
    """Return the nearest fragment of each pixel that has one: pixel, triangle, and the shares of its corners."""
    triangle, row, column = _fragments(surface.corners[..., :2], size)
    slopes = _slopes(surface.corners)
    xy = np.stack([column, row], axis=1).astype(np.float32) + np.float32(0.5)
    # one over the distance changes evenly over the picture
    rise = surface.corners[:, 1:, 2] - surface.corners[:, :1, 2]
    growth = rise[:, :1] * slopes[:, 0] + rise[:, 1:] * slopes[:, 1]
    start = surface.corners[:, 0, 2] - (growth * surface.corners[:, 0, :2]).sum(1)
    plane = np.take(np.column_stack([growth, start]), triangle, axis=0)
    near = plane[:, 0] * xy[:, 0] + plane[:, 1] * xy[:, 1] + plane[:, 2]
    for number, mesh in enumerate(meshes):
        if mesh.texture is not None and _has_holes(mesh):
            chosen = np.flatnonzero(surface.mesh[triangle] == number)
            shares = _shares(surface, slopes, triangle[chosen], xy[chosen])
            alpha = _sample(mesh.texture, _blend(surface.uv, triangle[chosen], shares))[:, 3]
            near[chosen[alpha < 0.5]] = -1
    kept = np.flatnonzero(near > 0)
    key = (near[kept] * 2**30).astype(np.int64) << 32 | kept
    buffer = np.full(size * size, -1, np.int64)
    np.maximum.at(buffer, (row * size + column)[kept], key)
    pixel = np.flatnonzero(buffer >= 0)
    winner = buffer[pixel] & 0xFFFFFFFF
    return pixel, triangle[winner], _shares(surface, slopes, triangle[winner], xy[winner])


def _colours(
    surface: _Surface,
    meshes: Sequence[Mesh],
    triangle: Ints,
    shares: Floats,
    light: Light,
    team_rgb: Sequence[float],
) -> Floats:
    """Return (N, 3) lit colours in 0..1 of the visible fragments."""
    normals = _blend(surface.normals, triangle, shares)
    toward = np.asarray(light.xyz, np.float32) / np.float32(np.linalg.norm(light.xyz))
    length = np.sqrt(normals[:, 0] ** 2 + normals[:, 1] ** 2 + normals[:, 2] ** 2) + np.float32(1e-6)
    lit = (normals @ toward) / length
    lit = np.clip(np.where(normals[:, 2] < -0.2 * length, -lit, lit), 0, 1)  # the far side of a two-sided mesh
    shade = lit[:, None] * np.asarray(light.rgb, np.float32) + np.asarray(light.ambient_rgb, np.float32)
    uv = _blend(surface.uv, triangle, shares)
    owner = surface.mesh[triangle]
    colours = np.empty((len(triangle), 3), np.float32)
    for number, mesh in enumerate(meshes):
        chosen = np.flatnonzero(owner == number)
        if mesh.texture is None:
            colours[chosen] = mesh.diffuse
            continue
        rgba = _sample(mesh.texture, uv[chosen])
        if mesh.team_coloured:
            rgba[:, :3] = rgba[:, :3] * rgba[:, 3:] + np.asarray(team_rgb, np.float32) * (1 - rgba[:, 3:])
        colours[chosen] = rgba[:, :3]
    lit_colours: Floats = np.clip(colours * shade, 0, 1)
    return lit_colours


def render_canvas(
    meshes: Sequence[Mesh],
    time: float,
    yaw_rad: float,
    pitch_rad: float,
    size_px: int,
    light: Light,
    camera: Camera | None = None,
    team_rgb: Sequence[float] = (0.7, 0.1, 0.1),
    cycle: bool = True,
) -> Picture:
    """Return the object as (size_px, size_px, 4) RGBA with straight alpha; without a camera it fills the canvas."""
    camera = camera or fit_camera(meshes, [(time, yaw_rad)], pitch_rad, size_px, cycle)
    camera = camera._replace(scale=camera.scale * SUPERSAMPLING, shift=camera.shift * SUPERSAMPLING)
    size = size_px * SUPERSAMPLING
    surface = _surface(meshes, time, turn_matrix(yaw_rad, pitch_rad), camera, cycle)
    large = np.zeros((size * size, 4), np.float32)
    pixel, triangle, shares = _visible(surface, meshes, size)
    large[pixel, :3] = _colours(surface, meshes, triangle, shares, light, team_rgb)
    large[pixel, 3] = 1
    reduced = cv2.resize(large.reshape(size, size, 4), (size_px, size_px), interpolation=cv2.INTER_AREA)
    small = np.asarray(reduced, np.float32)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)


def trim(canvas: Picture) -> tuple[Picture, tuple[int, int]]:
    """Return the part of the canvas that holds the object (one pixel at least), and its left top corner (x, y)."""
    x, y, width, height = cv2.boundingRect((canvas[..., 3] > 0).astype(np.uint8))
    return canvas[y : y + max(height, 1), x : x + max(width, 1)], (x, y)


def recolour(texture: Picture, rng: np.random.Generator) -> Picture:
    """Return the texture in other colours: its hues turned, or its greys led through three random colours."""
    rgb = np.ascontiguousarray(texture[..., :3])
    if rng.random() < 0.6:
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + int(rng.integers(15, 165))) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.6), 0, 255)
        hsv[..., 2] = np.clip(hsv[..., 2] * rng.uniform(0.7, 1.4), 0, 255)
        new = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    else:
        ramp = np.sort(rng.uniform(0, 255, (3, 3)), axis=0) * 0.6 + rng.uniform(0, 255, (3, 3)) * 0.4
        table = np.stack([np.interp(np.arange(256), [20, 110, 220], ramp[:, c]) for c in range(3)], axis=-1)
        new = np.asarray(table.astype(np.uint8)[cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)])
    return np.dstack([new, texture[..., 3]])


def random_light(rng: np.random.Generator) -> Light:
    """Return a light from above or the side, warm or cold, with a glow of the other kind."""
    warmth = rng.uniform(-0.18, 0.18)
    strength, glow = rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.8)
    xyz = (rng.uniform(-1, 1), rng.uniform(0.1, 1.2), rng.uniform(0.1, 1.0))
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    return Light(xyz, tuple(strength * tint), tuple(glow * (2 - tint) ** 0.5))


def render_view(
    name: str, kind: str, meshes: list[Mesh], rng: np.random.Generator, frames: int
) -> dict[str, Any] | None:
    """Return one random view of an animation as a sequence of frames; None where too little is to be seen."""
    if rng.random() < 0.25:
        meshes = [m if m.texture is None else replace(m, texture=recolour(m.texture, rng)) for m in meshes]
    cycle = re.search(r"dying|die|destr|morph", name.rsplit("/")[-1]) is None
    pitch = np.radians(rng.uniform(5, 25) if rng.random() < 0.75 else rng.uniform(0, 45))
    light, team_rgb = random_light(rng), rng.uniform(0.05, 0.95, 3).tolist()
    drift = rng.choice([-1, 1]) * np.radians(rng.uniform(0, 15, frames))
    times = rng.uniform(0, 1 if cycle else 0.4) + np.cumsum(rng.uniform(0.03, 0.16) * rng.uniform(0.6, 1.4, frames))
    moments = list(zip(times.tolist(), (rng.uniform(0, 2 * np.pi) + np.cumsum(drift)).tolist(), strict=True))
    camera = fit_camera(meshes, moments, pitch, CANVAS_PX, cycle)
    pngs, offsets = [], []
    for time, yaw in moments:
        canvas = render_canvas(meshes, time, yaw, pitch, CANVAS_PX, light, camera, team_rgb, cycle)
        if canvas[..., 3].mean() < 255 * MIN_COVER:
            return None
        picture, offset = trim(canvas)
        pngs.append(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))[1].tobytes())
        offsets.append(offset)
    return {"name": name, "kind": kind, "frames": pngs, "offsets_xy": offsets}


def render_all(
    objects: Iterable[tuple[str, str, list[Mesh]]],
    out_dir: Path,
    seed: int,
    views_per_animation: int,
    frames_per_view: int,
) -> int:
    """Write sequences of pictures of all objects to out_dir/cutouts_0000.pkl and so on.

    Args:
        objects: Name, kind and meshes of each, as `g3d.objects` and `pmd.objects` yield them.
        out_dir: Where the files go; each is a list of dicts with name, kind, frames (PNG) and offsets_xy (in a canvas
            of CANVAS_PX squared, the same for all frames of a view).
        seed: The same seed gives the same pictures.
        views_per_animation: Of what moves; buildings, trees and rocks get a third of it, one at least.
        frames_per_view: Pictures in one sequence.

    Returns:
        How many views were written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    views: list[dict[str, Any]] = []
    written = 0
    for name, kind, meshes in objects:
        still = kind in ("building", "nature")
        for _ in range(max(1, views_per_animation // 3) if still else views_per_animation):
            view = render_view(name, kind, meshes, rng, frames_per_view)
            views += [view] if view else []
        while len(views) >= VIEWS_PER_FILE:
            written += _write(views[:VIEWS_PER_FILE], out_dir, written)
            views = views[VIEWS_PER_FILE:]
    return written + (_write(views, out_dir, written) if views else 0)


def _write(views: list[dict[str, Any]], out_dir: Path, written: int) -> int:
    """Write the views as the next file; return how many they are."""
    (out_dir / f"cutouts_{written // VIEWS_PER_FILE:04d}.pkl").write_bytes(pickle.dumps(views))
    return len(views)

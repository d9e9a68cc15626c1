"""Procedural cut-outs that move: people, animals, cycles and blobs from textured capsules and rings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]
TextureMaker = Callable[[int, int], Floats]
"""Takes height and width; gives BGR in [0, 255]."""
Point = NDArray[np.float64]
Ring = tuple[float, float, float]
"""Where on the root its middle is, 0 to 1; its radius; how thick it is."""

CANVAS_PX = 240
MIN_AREA_PX = 900


@dataclass(frozen=True)
class Limb:
    """A capsule chain that hangs at a parent: its angle and length are relative to that."""

    parent: int
    """Index of the limb at whose end it starts; -1 is the root."""
    at: float
    """Where on the parent it starts, 0 to 1."""
    angle: float
    """In radians, absolute for the root's children."""
    length: float
    radius: float
    end_radius: float
    material: int


def moving_shape(rng: np.random.Generator, texture: TextureMaker, n_frames: int = 2) -> list[Picture]:
    """``n_frames`` BGRA pictures (240, 240, 4) of one thing whose parts move between frames."""
    kind = rng.choice(4, p=[0.4, 0.28, 0.17, 0.15])
    makers = (_person, _animal, _cycle, _blob)
    limbs, rings = makers[kind](rng)
    colours = [texture(CANVAS_PX, CANVAS_PX) for _ in range(4)]
    swing = rng.uniform(0.05, 0.5)
    found = []
    offsets: NDArray[np.float64] = np.zeros(len(limbs))
    for _ in range(n_frames):
        found.append(_draw(limbs, rings, offsets, colours, rng.uniform(0, 6.28)))
        offsets = offsets + rng.normal(0, swing, len(limbs))
    return found


def _person(rng: np.random.Generator) -> tuple[list[Limb], list[Ring]]:
    """A body, a head, two arms and two legs in any pose, sometimes with something in a hand."""
    trunk, width = rng.uniform(45, 65), rng.uniform(11, 19)
    lean = -np.pi / 2 + rng.normal(0, 0.35)
    limbs = [Limb(-1, 0, lean, trunk, width, width * rng.uniform(0.9, 1.2), 0)]
    limbs.append(Limb(0, 1, lean + rng.normal(0, 0.2), 20, width * 0.5, width * 0.8, 1))
    for side in (-1, 1):
        arm = lean + np.pi + side * rng.uniform(-0.3, 2.4)
        limbs.append(Limb(0, 0.9, arm, trunk * 0.55, width * 0.45, width * 0.35, 0))
        limbs.append(Limb(len(limbs) - 1, 1, arm + rng.normal(0, 0.8), trunk * 0.5, width * 0.36, width * 0.25, 1))
        if rng.random() < 0.2:
            limbs.append(Limb(len(limbs) - 1, 1, rng.uniform(0, 6.3), rng.uniform(15, 70), 2.0, 1.2, 3))
    for side in (-1, 1):
        leg = np.pi / 2 + side * rng.uniform(0, 0.5) + rng.normal(0, 0.25)
        limbs.append(Limb(0, 0, leg, trunk * 0.75, width * 0.6, width * 0.45, 2))
        limbs.append(Limb(len(limbs) - 1, 1, leg + rng.normal(0, 0.4), trunk * 0.7, width * 0.45, width * 0.3, 2))
        limbs.append(Limb(len(limbs) - 1, 1, rng.choice([0.0, np.pi]), width * 0.9, width * 0.32, width * 0.25, 3))
    return limbs, []


def _animal(rng: np.random.Generator) -> tuple[list[Limb], list[Ring]]:
    """A horizontal body with legs, a neck, a head and often a tail."""
    length, width = rng.uniform(55, 95), rng.uniform(14, 28)
    tilt = rng.normal(0, 0.15)
    limbs = [Limb(-1, 0, tilt, length, width, width * rng.uniform(0.7, 1.1), 0)]
    for at in (0.05, 0.15, 0.85, 0.95):
        leg = np.pi / 2 + rng.normal(0, 0.3)
        radius = width * rng.uniform(0.25, 0.45)
        limbs.append(Limb(0, at, leg, width * rng.uniform(1, 2.2), radius, radius * 0.7, 0))
        shin, length = leg + rng.normal(0, 0.3), width * rng.uniform(0.7, 1.6)
        limbs.append(Limb(len(limbs) - 1, 1, shin, length, radius * 0.7, radius * 0.5, 1))
    neck = -rng.uniform(0.1, 1.4)
    limbs.append(Limb(0, 1, neck, width * rng.uniform(0.4, 2.5), width * 0.6, width * 0.4, 0))
    limbs.append(Limb(len(limbs) - 1, 1, rng.uniform(-0.3, 0.8), width * 0.9, width * 0.5, width * 0.3, 2))
    if rng.random() < 0.7:
        limbs.append(Limb(0, 0, np.pi + rng.normal(0, 0.7), width * rng.uniform(1, 3), width * 0.18, 1.2, 0))
    return limbs, []


def _cycle(rng: np.random.Generator) -> tuple[list[Limb], list[Ring]]:
    """Two rings and the struts of a frame, with or without a person on it."""
    base, radius = rng.uniform(60, 90), rng.uniform(20, 34)
    thick = rng.uniform(1.2, 4.5)
    limbs = [Limb(-1, 0, 0.0, base, thick, thick, 0)]
    for at, angle, length in ((0, -0.9, 45), (1, -2.1, 50), (0.5, -1.2, 40), (0.5, -0.6, 40), (0.5, -2.2, 35)):
        limbs.append(Limb(0, at, angle + rng.normal(0, 0.15), length, thick, thick, 0))
    if rng.random() < 0.6:
        width = rng.uniform(8, 13)
        limbs.append(Limb(0, 0.4, -1.3, 85, width * 0.4, width, 1))
        limbs.append(Limb(len(limbs) - 1, 0.5, -1.2 + rng.normal(0, 0.3), 45, width, width, 2))
        limbs.append(Limb(len(limbs) - 1, 1, -1.2, 16, width * 0.5, width * 0.85, 3))
        limbs.append(Limb(len(limbs) - 2, 0.9, 0.4 + rng.normal(0, 0.3), 40, width * 0.4, width * 0.3, 2))
    return limbs, [(0.0, radius, 2 * thick), (1.0, radius, 2 * thick)]


def _blob(rng: np.random.Generator) -> tuple[list[Limb], list[Ring]]:
    """A few thick capsules of any direction: fruit, bags, boats, furniture."""
    limbs = [Limb(-1, 0, rng.uniform(0, 6.3), rng.uniform(5, 80), rng.uniform(14, 45), rng.uniform(14, 45), 0)]
    for _ in range(int(rng.integers(0, 5))):
        parent = int(rng.integers(len(limbs)))
        length, radius = rng.uniform(10, 70), rng.uniform(2, 22)
        limbs.append(Limb(parent, rng.random(), rng.uniform(0, 6.3), length, radius, radius, int(rng.integers(4))))
    return limbs, []


def _draw(
    limbs: list[Limb],
    rings: list[Ring],
    offsets: NDArray[np.float64],
    colours: list[Floats],
    light: float,
) -> Picture:
    """Draw one pose in the middle of the canvas."""
    ends = _ends(limbs, offsets)
    points = np.array(ends).reshape(-1, 2)
    middle = (points.min(0) + points.max(0)) / 2
    scale = min(1.0, 0.42 * CANVAS_PX / max(1.0, float(np.abs(points - middle).max())))

    def place(point: Point) -> Point:
        return np.asarray((point - middle) * scale + CANVAS_PX / 2)

    colour: Floats = np.zeros((CANVAS_PX, CANVAS_PX, 3), np.float32)
    alpha: Floats = np.zeros((CANVAS_PX, CANVAS_PX), np.float32)
    for at, radius, thick in rings:
        a, b = ends[0]
        ring: Picture = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
        centre = [int(v) for v in place(a + (b - a) * at)]
        cv2.circle(ring, centre, int(radius * scale), 255, max(1, int(thick * scale)), cv2.LINE_AA)
        _paint(colour, alpha, ring, colours[3], light)
    order = sorted(range(len(limbs)), key=lambda i: (i * 7919) % 13)
    for index in order:
        limb, (a, b) = limbs[index], ends[index]
        mask = _capsule(place(a), place(b), limb.radius * scale, limb.end_radius * scale)
        _paint(colour, alpha, mask, colours[limb.material], light)
    return np.dstack([colour, 255 * alpha]).clip(0, 255).astype(np.uint8)


def _ends(limbs: list[Limb], offsets: NDArray[np.float64]) -> list[tuple[Point, Point]]:
    """Where each limb starts and ends, (2,) each, with its angle changed by its offset."""
    ends: list[tuple[Point, Point]] = []
    for limb, offset in zip(limbs, offsets, strict=True):
        start: Point = np.zeros(2)
        if limb.parent >= 0:
            a, b = ends[limb.parent]
            start = a + (b - a) * limb.at
        angle = limb.angle + offset * (1.0 if limb.parent >= 0 else 0.3)
        ends.append((start, start + limb.length * np.array([np.cos(angle), np.sin(angle)])))
    return ends


def _capsule(a: Point, b: Point, radius: float, end_radius: float) -> Picture:
    """A mask (CANVAS_PX, CANVAS_PX) in [0, 255] of a capsule that may be thicker at one end."""
    mask: Picture = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    along = (b - a) / (np.hypot(*(b - a)) + 1e-6)
    normal = np.array([-along[1], along[0]])
    corners = np.stack([a + normal * radius, b + normal * end_radius, b - normal * end_radius, a - normal * radius])
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    for point, r in ((a, radius), (b, end_radius)):
        centre = (round(point[0] * 16), round(point[1] * 16))
        cv2.circle(mask, centre, int(max(r, 0.7) * 16), 255, -1, cv2.LINE_AA, 4)
    return mask


def _paint(colour: Floats, alpha: Floats, mask: Picture, texture: Floats, light: float) -> None:
    """Paint a part over what is there, shaded as if it were round."""
    x, y, w, h = cv2.boundingRect(mask)
    if not w or not h:
        return
    part = slice(y, y + h), slice(x, x + w)
    share = mask[part].astype(np.float32) / 255
    depth = cv2.distanceTransform((mask[part] > 127).astype(np.uint8), cv2.DIST_L2, 3)
    top = float(depth.max()) + 1e-6
    height = cv2.GaussianBlur(np.sqrt(depth / top), (0, 0), max(0.6, 0.12 * top)) * top * 0.12
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(light) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(light)
    shaded = texture[part] * np.clip(1 - 0.7 * slope, 0.4, 1.6)[..., None]
    colour[part] = colour[part] * (1 - share)[..., None] + shaded * share[..., None]
    alpha[part] = np.maximum(alpha[part], share)

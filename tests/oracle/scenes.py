"""Small rendered videos with the true mask of every object on every frame, textured enough for point trackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import BoolMask, FrameRGB
from tests.pipeline.frame_sources import ArrayFrames

SIZE_HW_PX = (192, 256)
GROUND = (80, 125, 80)
RED, BLUE, YELLOW, GREY = (205, 65, 65), (65, 75, 205), (215, 190, 55), (130, 130, 130)
FAR_AWAY = -400.0

Path = Callable[[float], tuple[float, float, float, float]]
"""Centre x and y and half width and height in pixels, by time in [0, 1]."""


@dataclass(frozen=True)
class Body:
    """A textured ellipse, or rectangle, on a path; its right half may have a second colour. Later bodies are in front.

    A body that is no ``is_object`` hides others, and has no mask.
    """

    path: Path
    colour: tuple[int, int, int]
    second_colour: tuple[int, int, int] | None = None
    rectangle: bool = False
    is_object: bool = True


@dataclass(frozen=True)
class Scene:
    """Images, and per object (from 1, in the order of the bodies) a mask (H, W) bool per frame."""

    images: tuple[FrameRGB, ...]
    masks: dict[int, tuple[BoolMask, ...]]

    @property
    def frames(self) -> ArrayFrames:
        return ArrayFrames(list(self.images))

    def visible(self, object_id: int = 1) -> list[bool]:
        """Whether each frame shows the object."""
        return [bool(mask.any()) for mask in self.masks[object_id]]


def rendered(bodies: list[Body], n_frames: int, size_hw_px: tuple[int, int] = SIZE_HW_PX) -> Scene:
    """Render a scene; the same arguments always give the same pixels."""
    rng = np.random.default_rng(5)
    ground = np.float32(GROUND) + _texture(rng, size_hw_px)[..., None]
    textures = [_texture(rng, (128, 128)) for _ in bodies]
    images, masks = [], {k: [] for k in range(1, 1 + sum(body.is_object for body in bodies))}
    for time in np.linspace(0, 1, n_frames):
        image, covers = ground.copy(), []
        for body, texture in zip(bodies, textures, strict=True):
            covers.append(_paint(image, body, body.path(float(time)), texture))
        for row, cover in enumerate(covers):
            for later in covers[row + 1 :]:
                cover &= ~later
        for object_id, mask in enumerate([c for c, b in zip(covers, bodies, strict=True) if b.is_object], start=1):
            masks[object_id].append(mask)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return Scene(tuple(images), {object_id: tuple(each) for object_id, each in masks.items()})


def _texture(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    noise = cv2.GaussianBlur(rng.normal(0, 1, size_hw).astype(np.float32), (0, 0), 1.5)
    return noise / noise.std() * np.float32(18)


def _paint(image: NDArray[np.float32], body: Body, place: tuple[float, ...], texture: NDArray[np.float32]) -> BoolMask:
    """Paint a body into an image, and return where it is. Its texture moves and stretches with it."""
    x, y, half_w, half_h = place
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    u, v = (xs - np.float32(x)) / np.float32(half_w), (ys - np.float32(y)) / np.float32(half_h)
    mask = np.maximum(np.abs(u), np.abs(v)) <= 1 if body.rectangle else u**2 + v**2 <= 1
    pattern = cv2.remap(texture, 64 + u * 40, 64 + v * 40, cv2.INTER_LINEAR)
    first, second = np.float32(body.colour), np.float32(body.second_colour or body.colour)
    image[mask] = (np.where((u > 0)[..., None], second, first) + pattern[..., None])[mask]
    return np.asarray(mask)


def _line(x0: float, x1: float, y: float, half: float) -> Path:
    return lambda t: (x0 + (x1 - x0) * t, y, half, half)


def _away_and_back(t: float) -> tuple[float, float, float, float]:
    """Leaves at the right in the first third, comes back from the left in the last."""
    x = 160 + 400 * t if t < 1 / 3 else FAR_AWAY if t < 2 / 3 else -40 + 480 * (t - 2 / 3)
    return x, 96, 32, 28


SCENES: dict[str, tuple[int, list[Body]]] = {
    "moves": (24, [Body(_line(60, 192, 96, 32), RED)]),
    "deforms": (36, [Body(lambda t: (80 + 80 * t, 96, 24 + 24 * t, 44 - 20 * t), RED)]),
    "leaves": (60, [Body(_away_and_back, RED)]),
    "crosses": (36, [Body(_line(50, 206, 88, 28), RED), Body(_line(206, 50, 108, 28), BLUE)]),
    "hidden": (36, [Body(_line(40, 216, 96, 24), RED), Body(_line(128, 128, 96, 34), GREY, None, True, False)]),
    "shrinks": (30, [Body(lambda t: (100 + 48 * t, 96, 52 - 38 * t, 52 - 38 * t), RED)]),
    "alike": (30, [Body(_line(60, 120, 60, 24), RED), Body(_line(196, 136, 136, 24), RED)]),
    "two_coloured": (30, [Body(lambda t: (68 + 112 * t, 96, 44, 30), RED, BLUE)]),
    "fills": (12, [Body(_line(120, 136, 96, 180), RED)]),
}
"""Frames and bodies by name."""


@cache
def scene(name: str) -> Scene:
    """A scene by name; see `SCENES`.

    "moves"; "deforms"; "leaves" at the right for the middle third and comes back from the left; "crosses" (object 2 in
    front); is "hidden" behind a pillar for some frames; "shrinks"; two "alike" that come near each other; a
    "two_coloured" one, of which a click may mean a half or the whole; one that "fills" the frame.
    """
    n_frames, bodies = SCENES[name]
    return rendered(bodies, n_frames)

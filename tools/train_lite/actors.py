"""Actors of composed scenes: which cut-out is drawn, in which colours, and where it stands on both frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.train_lite.assets import CutOut
from tools.train_lite.shapes import moving_shape
from tools.train_lite.textures import HEIGHT_PX, WIDTH_PX, Floats, Picture, Textures

KIND_WEIGHTS = {
    "drawn": 1.4, "emoji": 1.2, "photo": 0.7, "shape": 2.6, "person": 2.4, "animal": 2.2, "rider": 1.4,
    "machine": 1.0, "building": 0.4, "nature": 0.5,
}  # fmt: skip
"""How often each kind of cut-out is chosen; those that are not there are left out."""
TEXTURED = {"drawn": 0.75, "emoji": 0.35}
"""How often a cut-out of a kind gets the texture of a photograph."""
RARELY_TEXTURED = 0.12
"""The same for the other kinds."""
THINGS_BEHIND = (0, 0, 0, 2, 4, 8)
"""How many things stand in a background; each is as likely."""
EVEN = 0.14
"""How often a cut-out becomes almost one colour, dark or bright, as a black swan or a white car."""


@dataclass(frozen=True)
class Actor:
    """A cut-out in a scene.

    Attributes:
        pictures: of both frames, each (h, w, 4) BGR in [0, 255] times alpha, and alpha in [0, 1].
        matrices: (2, 3), from pixels of the pictures to pixels of the frames.
        size_px: its longer side on the first frame.
        centres_xy: (2, 2), of both frames.
    """

    pictures: tuple[Floats, Floats]
    matrices: tuple[Floats, Floats]
    size_px: float
    centres_xy: NDArray[np.float64]

    def drawn(self, frame: int) -> Floats:
        """The frame's picture of the actor alone, (HEIGHT_PX, WIDTH_PX, 4), like ``pictures``."""
        picture, matrix = self.pictures[frame], self.matrices[frame]
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        if scale < 0.6:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.45 / scale), np.float32)
        return np.asarray(cv2.warpAffine(picture, matrix, (WIDTH_PX, HEIGHT_PX)), np.float32)


class Cast:
    """Makes actors from cut-outs, with the generator of the textures."""

    def __init__(self, cut_outs: Sequence[CutOut], textures: Textures) -> None:
        self.rng, self.textures = textures.rng, textures
        self.by_kind: dict[str, dict[str, list[CutOut]]] = {kind: {} for kind in KIND_WEIGHTS}
        for each in cut_outs:
            self.by_kind[each.kind].setdefault(each.source, []).append(each)
        self.kinds = [kind for kind, found in self.by_kind.items() if found or kind == "shape"]
        weights = np.array([KIND_WEIGHTS[kind] for kind in self.kinds])
        self.shares = weights / weights.sum()

    def actor(self, host: Actor | None, model: Actor | None, motion: float) -> Actor:
        """A thing in the scene: anywhere, riding on ``host``, or one that looks like ``model``.

        Args:
            host: what it rides on and moves with.
            model: whose pictures it has, often near by.
            motion: how much it moves; 1 is usual.
        """
        rng = self.rng
        pictures = model.pictures if model is not None else self._painted(*self._picked())
        size, centre = self._place(host, model)
        move = rng.normal(0, 0.25 * motion, 2) * size
        grow, turn = rng.normal(0, 0.12 * motion), rng.normal(0, 0.15 * motion)
        if host is not None:
            move = host.centres_xy[1] - host.centres_xy[0] + 0.2 * move
            grow *= 0.3
        start = rng.normal(0, 0.2) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
        flip = -1.0 if rng.random() < 0.5 else 1.0
        stretch, shear = float(np.exp(rng.normal(0, 0.15))), float(rng.normal(0, 0.12))
        matrices, centres = [], [centre, centre + move]
        for picture, angle, factor, at in (
            (pictures[0], start, 1.0, centres[0]),
            (pictures[1], start + turn, float(np.exp(grow)), centres[1]),
        ):
            height, width = picture.shape[:2]
            scale = factor * size / max(height, width)
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            linear = rotation @ np.array([[scale * stretch * flip, shear * scale], [0, scale / stretch]])
            offset = at - linear @ np.array([width / 2, height / 2])
            matrices.append(np.hstack([linear, offset[:, None]]).astype(np.float32))
        return Actor(pictures, (matrices[0], matrices[1]), size, np.array(centres))

    def furnish(self, wide: Floats) -> None:
        """Put a few things into a background (H, W, 3), in place: nothing that anybody will ask for."""
        rng = self.rng
        for _ in range(int(rng.choice(THINGS_BEHIND))):
            picture = self._painted(*self._picked())[0]
            scale = float(np.exp(rng.uniform(np.log(20), np.log(0.7 * wide.shape[0])))) / max(picture.shape[:2])
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how), np.float32)
            y, x = (int(rng.integers(size)) for size in wide.shape[:2])
            part = wide[y : y + small.shape[0], x : x + small.shape[1]]
            shown = small[: part.shape[0], : part.shape[1]]
            part *= 1 - shown[..., 3:]
            part += shown[..., :3]

    def _place(self, host: Actor | None, model: Actor | None) -> tuple[float, NDArray[np.float64]]:
        """The longer side in pixels, and the centre (2,) on the first frame."""
        rng = self.rng
        size = float(np.exp(rng.uniform(np.log(0.13 * HEIGHT_PX), np.log(1.15 * HEIGHT_PX))))
        centre = np.array([rng.uniform(0, WIDTH_PX), rng.uniform(0.1, 1) * HEIGHT_PX])
        if model is not None:
            size = model.size_px * float(np.exp(rng.normal(0, 0.2)))
            if rng.random() < 0.6:
                centre = model.centres_xy[0] + rng.normal(0, 0.8, 2) * size
        if host is not None:
            size = host.size_px * rng.uniform(0.4, 1.0)
            centre = host.centres_xy[0] + [rng.normal(0, 0.15) * size, -rng.uniform(0.0, 0.5) * host.size_px]
        return size, centre

    def _picked(self) -> tuple[tuple[Picture, Picture], str]:
        """A cut-out's BGRA pictures of two frames, and its kind."""
        rng = self.rng
        kind = str(rng.choice(self.kinds, p=self.shares))
        if kind == "shape":
            pictures = moving_shape(rng, self.textures.texture)
            return (pictures[0], pictures[1]), kind
        source = str(rng.choice(sorted(self.by_kind[kind])))
        frames = self.by_kind[kind][source][int(rng.integers(len(self.by_kind[kind][source])))].frames
        first = int(rng.integers(len(frames)))
        second = int(rng.integers(len(frames))) if rng.random() < 0.6 else first
        return (frames[first], frames[second]), kind

    def _even(self) -> tuple[Floats, float]:
        """A dark or bright colour (3,), and how much of a cut-out's own contrast is left."""
        rng = self.rng
        level = rng.uniform(8, 60) if rng.random() < 0.6 else rng.uniform(170, 245)
        return (level * np.exp(rng.normal(0, 0.12, 3))).astype(np.float32), float(rng.uniform(0.08, 0.45))

    def _painted(self, pictures: tuple[Picture, Picture], kind: str) -> tuple[Floats, Floats]:
        """BGRA pictures as `Actor.pictures`, in other colours; drawings often get the texture of photographs."""
        rng = self.rng
        first, second = (p.astype(np.float32) for p in pictures)
        height, width = first.shape[:2]
        textured = rng.random() < TEXTURED.get(kind, RARELY_TEXTURED)
        texture = self.textures.texture(height, width, (0.3, 1.5)) if textured else None
        strength, mode = rng.uniform(0.3, 1), rng.random()
        even = self._even() if rng.random() < EVEN else None
        state = rng.bit_generator.state
        found = []
        for picture in (first, second):
            colour, alpha = picture[..., :3], picture[..., 3:] / 255
            if texture is not None:
                fitted = cv2.resize(texture, (picture.shape[1], picture.shape[0]))
                grey = fitted.mean(2, keepdims=True) / (fitted.mean() + 1)
                shaded = colour * (1 - strength + strength * grey)
                colour = shaded if mode < 0.6 else colour * (1 - 0.7 * strength) + fitted * 0.7 * strength
            rng.bit_generator.state = state  # the same colours on both frames
            colour = self.textures.recoloured(colour)
            if even is not None:
                colour = np.asarray((even[0] + even[1] * (colour - colour.mean())).clip(0, 255), np.float32)
            found.append(np.dstack([colour * alpha, alpha]).astype(np.float32))
        return found[0], found[1]

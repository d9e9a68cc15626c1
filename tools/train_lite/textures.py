"""What fills scenes before anything moves in them: parts of backgrounds, random shapes, other colours, backdrops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]
Background = tuple[float, str, Picture]
"""Weight, name and BGR picture, see `assets.backgrounds`."""

WIDTH_PX, HEIGHT_PX = 512, 320
"""Of composed frames."""
BACKDROP_MARGIN = 1.25
"""A backdrop is larger than a frame by this, so that the camera can move over it."""
OBJECTS_BEHIND = (0, 0, 1, 2, 4, 6)
"""How many boxes of another texture lie on a backdrop; each is as likely."""


class Textures:
    """Draws textures at random. All randomness comes from the generator that it is given."""

    def __init__(self, backgrounds: Sequence[Background], rng: np.random.Generator) -> None:
        self.rng, self.backgrounds = rng, backgrounds
        weights = np.array([weight for weight, _, _ in backgrounds])
        self.shares = weights / weights.sum()

    def texture(self, height: int, width: int, zoom: tuple[float, float] = (0.4, 2.2)) -> Floats:
        """A part of a background with other colours.

        Args:
            height: in pixels.
            width: in pixels.
            zoom: range of how many pixels of the background a pixel shows.

        Returns:
            (height, width, 3) BGR in [0, 255].
        """
        rng = self.rng
        source = self.backgrounds[rng.choice(len(self.backgrounds), p=self.shares)][2]
        scale = float(np.exp(rng.uniform(*np.log(zoom))))
        h = min(source.shape[0], max(16, int(height * scale)))
        w = min(source.shape[1], max(16, int(width * scale)))
        y, x = rng.integers(source.shape[0] - h + 1), rng.integers(source.shape[1] - w + 1)
        part = source[y : y + h, x : x + w]
        if rng.random() < 0.5:
            part = np.ascontiguousarray(part[:, ::-1])
        how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        return self.recoloured(cv2.resize(part, (width, height), interpolation=how).astype(np.float32))

    def recoloured(self, picture: Floats) -> Floats:
        """A BGR picture (H, W, 3) in [0, 255] with other balance, brightness, saturation, contrast and, rarely, hue."""
        rng = self.rng
        if rng.random() < 0.7:
            picture = picture * np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.2)).astype(np.float32)
        if rng.random() < 0.4:
            grey = picture.mean(2, keepdims=True)
            picture = grey + (picture - grey) * np.float32(rng.uniform(0.1, 1.4))
        if rng.random() < 0.4:
            mean = picture.mean()
            picture = mean + (picture - mean) * np.float32(rng.uniform(0.5, 1.3))
        if rng.random() < 0.15:
            hsv = cv2.cvtColor(picture.clip(0, 255).astype(np.uint8), cv2.COLOR_BGR2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(int) + rng.integers(180)) % 180
            picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR).astype(np.float32)
        return np.asarray(picture.clip(0, 255), np.float32)

    def blob(self, centre_xy: tuple[float, float], radii_px: tuple[float, float]) -> Picture:
        """A mask (HEIGHT_PX, WIDTH_PX) in [0, 255] of a random round shape."""
        rng = self.rng
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radius = np.ones_like(t)
        for k in range(2, 7):
            radius = radius + 0.3 * rng.normal() / k * np.cos(k * t + rng.uniform(0, 6.3))
        radius, turn = radius.clip(0.2, 2), rng.uniform(0, 6.3)
        x, y = radii_px[0] * radius * np.cos(t), radii_px[1] * radius * np.sin(t)
        points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1) + centre_xy
        mask: Picture = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return mask

    def backdrop(self, motion: float, furnish: Callable[[Floats], None]) -> tuple[Floats, Floats]:
        """The backgrounds of two frames: one large picture under a camera that pans, turns and zooms.

        Args:
            motion: how much the camera moves; 1 is usual.
            furnish: puts things into the large picture, changing it in place.

        Returns:
            Twice (HEIGHT_PX, WIDTH_PX, 3) BGR in [0, 255].
        """
        rng = self.rng
        wide = self._wide(furnish)
        height, width = wide.shape[:2]
        found = []
        turn, zoom = 0.0, 1.0
        shift: NDArray[np.float64] = np.zeros(2)
        for _ in range(2):
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
            matrix[:, 2] = matrix[:, 2] + (np.array([WIDTH_PX - width, HEIGHT_PX - height]) / 2 + shift)
            moved = cv2.warpAffine(wide, matrix, (WIDTH_PX, HEIGHT_PX), borderMode=cv2.BORDER_REFLECT)
            found.append(np.asarray(moved, np.float32))
            turn, zoom = float(rng.normal(0, 3 * motion)), float(np.exp(rng.normal(0, 0.06 * motion)))
            shift = np.asarray(rng.normal(0, 25 * motion, 2))
        return found[0], found[1]

    def _wide(self, furnish: Callable[[Floats], None]) -> Floats:
        """A picture larger than a frame: a background, often with a ground and boxes of other textures."""
        rng = self.rng
        height, width = int(HEIGHT_PX * BACKDROP_MARGIN), int(WIDTH_PX * BACKDROP_MARGIN)
        wide = self.texture(height, width, (0.8, 2.6))
        if rng.random() < 0.3:
            ground = self.texture(height, width)
            line = int(rng.uniform(0.3, 0.8) * height)
            wide[line:] = ground[line:]
        for _ in range(int(rng.choice(OBJECTS_BEHIND))):
            h, w = (int(v) for v in np.exp(rng.uniform(np.log(12), np.log(200), 2)))
            y, x = int(rng.integers(height)), int(rng.integers(width))
            part = wide[y : y + h, x : x + w]
            if part.size:
                part[:] = self.texture(part.shape[0], part.shape[1])
        furnish(wide)
        if rng.random() < 0.4:
            wide = np.asarray(cv2.GaussianBlur(wide, (0, 0), rng.uniform(0.6, 4)), np.float32)
        return wide

"""Pairs of frames: cut-outs that move over moving backgrounds, with what hides, shades and blurs them."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.train_lite.actors import Actor, Cast
from tools.train_lite.textures import HEIGHT_PX, WIDTH_PX, Floats, Picture, Textures

PAIRS_PER_SHARD = 100
MIN_AREA_PX = 120
"""Actors of which less is to be seen are not drawn."""
N_ACTORS = {1: 0.16, 2: 0.24, 3: 0.24, 4: 0.17, 5: 0.12, 6: 0.07}
"""Shares of scenes with so many actors."""
MOTIONS = {0.3: 0.3, 1.0: 0.45, 2.0: 0.25}
"""Shares of scenes that move so much."""


@dataclass(frozen=True)
class Pair:
    """Two frames of one scene as encoded pictures.

    Attributes:
        frames: JPEG, (HEIGHT_PX, WIDTH_PX, 3).
        labels: PNG, (HEIGHT_PX, WIDTH_PX) object ids, 0 where there is none.
        groups: as ``labels``, with a rider and what it rides on as one object.
    """

    frames: tuple[bytes, bytes]
    labels: tuple[bytes, bytes]
    groups: tuple[bytes, bytes]

    def frame_rgb(self, frame: int) -> Picture:
        """The frame, (HEIGHT_PX, WIDTH_PX, 3)."""
        bgr = cv2.imdecode(np.frombuffer(self.frames[frame], np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(bgr, np.uint8)[..., ::-1]

    def object_ids(self, frame: int, *, grouped: bool) -> Picture:
        """The object ids, (HEIGHT_PX, WIDTH_PX), of ``groups`` or of ``labels``."""
        data = (self.groups if grouped else self.labels)[frame]
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


@dataclass(frozen=True)
class Scene:
    """Two frames in the making, changed in place: BGR float pictures (HEIGHT_PX, WIDTH_PX, 3) and their object ids."""

    canvases: tuple[Floats, Floats]
    labels: tuple[Picture, Picture]
    groups: tuple[Picture, Picture]

    @classmethod
    def on(cls, backdrops: tuple[Floats, Floats]) -> Scene:
        """A scene without actors."""
        empty: list[Picture] = [np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8) for _ in range(4)]
        return cls((backdrops[0].copy(), backdrops[1].copy()), (empty[0], empty[1]), (empty[2], empty[3]))

    def cover(self, frame: int, mask: Picture, texture: Floats) -> None:
        """Put something without an id in front: a mask (HEIGHT_PX, WIDTH_PX) in [0, 255] and its colours."""
        share = mask.astype(np.float32)[..., None] / 255
        canvas = self.canvases[frame]
        canvas *= 1 - share
        canvas += texture * share
        self.labels[frame][mask > 127] = 0
        self.groups[frame][mask > 127] = 0


@dataclass(frozen=True)
class Look:
    """How one actor is lit and blurred: the same on both frames.

    Attributes:
        harmonise: how far the mean and the spread of its colours move to those behind it, in [0, 1].
        gradient: (2, 2) logarithms of the light in its corners.
        blur_px: of a Gaussian blur; 0 for none.
        kernel: (n, n) of a motion blur, where there is no Gaussian blur.
        shadow: how dark its shadow is, in [0, 1]; 0 for none.
        reflection: how clear its reflection in the ground below it is, in [0, 1]; 0 for none.
        slant: pixels that the shadow leans for each pixel of height.
    """

    harmonise: tuple[float, float] | None
    gradient: Floats | None
    blur_px: float
    kernel: Floats | None
    shadow: float
    reflection: float
    slant: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """A random look."""
        kernel = _motion_blur(rng) if rng.random() < 0.15 else None
        return cls(
            harmonise=(rng.uniform(0, 0.85), rng.uniform(0, 0.6)) if rng.random() < 0.6 else None,
            gradient=rng.normal(0, 0.3, (2, 2)).astype(np.float32) if rng.random() < 0.5 else None,
            blur_px=rng.uniform(0.4, 1.6) if rng.random() < 0.4 else 0.0,
            kernel=kernel,
            shadow=rng.uniform(0.15, 0.7) if rng.random() < 0.35 else 0.0,
            reflection=rng.uniform(0.15, 0.6) if rng.random() < 0.1 else 0.0,
            slant=rng.normal(0, 0.5),
        )

    def applied(self, colour: Floats, alpha: Floats, behind: Floats) -> tuple[Floats, Floats]:
        """The colours (h, w, 3) times alpha, and the alpha (h, w), before what is behind (h, w, 3)."""
        height, width = alpha.shape
        if self.harmonise is not None:
            colour = _harmonised(colour, alpha, behind, *self.harmonise)
        if self.gradient is not None:
            light = cv2.resize(self.gradient, (width, height), interpolation=cv2.INTER_LINEAR)
            colour = np.asarray(colour * np.exp(light)[..., None], np.float32)
        return self._blurred(colour), self._blurred(alpha)

    def _blurred(self, picture: Floats) -> Floats:
        if self.blur_px:
            return np.asarray(cv2.GaussianBlur(picture, (0, 0), self.blur_px), np.float32)
        if self.kernel is not None:
            return np.asarray(cv2.filter2D(picture, -1, self.kernel), np.float32)
        return picture


class Composer:
    """Makes pairs. All randomness comes from one seed."""

    def __init__(self, assets: Path, seed: int) -> None:
        """Read the assets that `assets.collect` wrote."""
        self.rng = np.random.default_rng(seed)
        with (assets / "backgrounds.pkl").open("rb") as backgrounds, (assets / "cutouts.pkl").open("rb") as cut_outs:
            self.textures = Textures(pickle.load(backgrounds), self.rng)
            self.cast = Cast(pickle.load(cut_outs), self.textures)

    def pair(self) -> Pair:
        """Two frames of one scene."""
        rng = self.rng
        motion = float(rng.choice(list(MOTIONS), p=list(MOTIONS.values())))
        scene = Scene.on(self.textures.backdrop(motion, self.cast.furnish))
        actors: list[Actor] = []
        group_ids: list[int] = []
        for _ in range(int(rng.choice(list(N_ACTORS), p=list(N_ACTORS.values())))):
            last = actors[-1] if actors else None
            draw = rng.random()
            rides, resembles = last is not None and draw < 0.22, last is not None and 0.22 <= draw < 0.5
            actors.append(self.cast.actor(last if rides else None, last if resembles else None, motion))
            group_ids.append(group_ids[-1] if rides else len(actors))
            look = Look.draw(rng)
            for frame in range(2):
                _add(scene, frame, actors[-1], look, (len(actors), group_ids[-1]))
            if rng.random() < 0.25:
                self._hide(scene, actors[-1])
        finished = [self._photographed(canvas, frame) for frame, canvas in enumerate(scene.canvases)]
        quality = int(rng.integers(45, 96))
        jpegs = [cv2.imencode(".jpg", each, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes() for each in finished]
        pngs = [cv2.imencode(".png", each)[1].tobytes() for each in (*scene.labels, *scene.groups)]
        return Pair((jpegs[0], jpegs[1]), (pngs[0], pngs[1]), (pngs[2], pngs[3]))

    def _hide(self, scene: Scene, actor: Actor) -> None:
        """Put something thin or round in front of an actor; often on one frame more than on the other."""
        rng = self.rng
        size = actor.size_px
        texture = self.textures.texture(HEIGHT_PX, WIDTH_PX, (0.3, 2.0))
        big = rng.random() < 0.3
        for frame in range(2):
            if frame == 0 and rng.random() < 0.3:
                continue
            x, y = actor.centres_xy[frame] + rng.normal(0, 0.35, 2) * size
            if rng.random() < 0.5 and not big:
                mask: Picture = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
                angle, length = np.pi / 2 + rng.normal(0, 0.4), size * rng.uniform(0.4, 2)
                dx, dy = np.cos(angle) * length, np.sin(angle) * length
                thick = int(rng.integers(1, max(2, int(0.12 * size) + 2)))
                cv2.line(mask, (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy)), 255, thick, cv2.LINE_AA)
            else:
                reach = (0.3, 0.8) if big else (0.06, 0.3)
                mask = self.textures.blob((x, y), (size * rng.uniform(*reach), size * rng.uniform(*reach)))
            scene.cover(frame, mask, texture)

    def _photographed(self, canvas: Floats, frame: int) -> Picture:
        """Shadows, haze, blur, exposure and noise of a camera; the second frame's differ a little."""
        rng = self.rng
        if rng.random() < 0.25:
            patches = cv2.resize((rng.normal(0, 1, (5, 8)) > 0.3).astype(np.float32), (WIDTH_PX, HEIGHT_PX))
            shade = np.asarray(cv2.GaussianBlur(patches, (0, 0), rng.uniform(1, 9)), np.float32)
            canvas = canvas * (1 - shade * rng.uniform(0.1, 0.5))[..., None]
        if rng.random() < 0.12:
            haze = rng.uniform(80, 255, 3).astype(np.float32)
            canvas = canvas + (haze - canvas) * np.float32(rng.uniform(0.05, 0.35))
        if rng.random() < 0.3:
            canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.1)), np.float32)
        if rng.random() < 0.2:
            scale = rng.uniform(0.45, 0.9)
            small = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            canvas = np.asarray(cv2.resize(small, (WIDTH_PX, HEIGHT_PX)), np.float32)
        spread = 0.2 if frame == 0 else 0.3
        gamma = np.float32(np.exp(rng.normal(0, spread)))
        balance = np.exp(rng.normal(0, 0.05, 3)).astype(np.float32)
        exposed = 255 * (np.maximum(canvas, 0).clip(0, 255) / 255) ** gamma * balance
        noise = rng.standard_normal(exposed.shape, np.float32) * np.float32(rng.uniform(0, 6))
        return np.asarray((exposed + noise).clip(0, 255), np.uint8)


def compose(assets: Path, out: Path, seed: int, n_shards: int) -> None:
    """Write ``pairs_{seed}_{number}.pkl``: shards of `PAIRS_PER_SHARD` pairs. Does nothing if all are there."""
    cv2.setNumThreads(1)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"pairs_{seed}_{number:04d}.pkl" for number in range(n_shards)]
    if all(file.exists() for file in files):
        return
    composer = Composer(assets, seed)
    for file in files:
        begin = time.monotonic()
        partial = file.with_suffix(".part")
        partial.write_bytes(pickle.dumps([composer.pair() for _ in range(PAIRS_PER_SHARD)]))
        partial.rename(file)
        print(f"{file.name}: {(time.monotonic() - begin) / PAIRS_PER_SHARD * 1000:.0f} ms a pair", flush=True)


def _add(scene: Scene, frame: int, actor: Actor, look: Look, ids: tuple[int, int]) -> None:
    """Draw an actor in front of a scene, with its shadow, and enter its id and that of its group."""
    layer = actor.drawn(frame)
    rows, columns = np.nonzero(layer[..., 3].max(1) > 0.02)[0], np.nonzero(layer[..., 3].max(0) > 0.02)[0]
    if not len(rows) or (layer[..., 3] > 0.5).sum() < MIN_AREA_PX:
        return
    canvas = scene.canvases[frame]
    y0, y1 = max(0, rows[0] - 8), min(HEIGHT_PX, rows[-1] + 9)
    x0, x1 = max(0, columns[0] - 8), min(WIDTH_PX, columns[-1] + 9)
    part = slice(y0, y1), slice(x0, x1)
    if look.shadow:
        squeeze = np.array([[1, look.slant, -look.slant * y1], [0, 0.35, 0.65 * y1]], np.float32)
        fallen = cv2.warpAffine(layer[..., 3], squeeze, (WIDTH_PX, HEIGHT_PX))
        canvas *= 1 - look.shadow * np.asarray(cv2.GaussianBlur(fallen, (0, 0), 3), np.float32)[..., None]
    if look.reflection:
        flipped = np.array([[1, 0, 0], [0, -0.9, 1.9 * (rows[-1] + 1)]], np.float32)
        mirrored = np.asarray(cv2.GaussianBlur(cv2.warpAffine(layer, flipped, (WIDTH_PX, HEIGHT_PX)), (0, 0), 1.5))
        canvas *= 1 - look.reflection * mirrored[..., 3:]
        canvas += look.reflection * mirrored[..., :3]
    behind = canvas[part]
    colour, alpha = look.applied(layer[part][..., :3], layer[part][..., 3], behind)
    canvas[part] = behind * (1 - alpha)[..., None] + np.minimum(colour, 255 * alpha[..., None])
    scene.labels[frame][part][alpha > 0.5] = ids[0]
    scene.groups[frame][part][alpha > 0.5] = ids[1]


def _motion_blur(rng: np.random.Generator) -> Floats:
    """A kernel (n, n) of sum 1: a line in a random direction."""
    length = int(rng.integers(3, 15))
    kernel: Floats = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    dx, dy = np.cos(angle) * middle, np.sin(angle) * middle
    ends = [[round(middle + sign * reach) for reach in (dx, dy)] for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _harmonised(colour: Floats, alpha: Floats, behind: Floats, shift: float, spread: float) -> Floats:
    """The colours (h, w, 3) times alpha, with mean and spread moved towards those of what is behind."""
    inside: NDArray[np.bool_] = alpha > 0.5
    around: NDArray[np.bool_] = alpha < 0.05
    if inside.sum() < 30 or around.sum() < 50:
        return colour
    straight = colour / np.maximum(alpha, 1e-3)[..., None]
    mean, deviation = straight[inside].mean(0), straight[inside].std(0) + 2
    mean_behind, deviation_behind = behind[around].mean(0), behind[around].std(0) + 2
    factor = (1 - spread) + spread * np.clip(deviation_behind / deviation, 0.4, 2)
    moved = (straight - mean) * factor + mean * (1 - shift) + mean_behind * shift
    return np.asarray(moved.clip(0, 255) * alpha[..., None], np.float32)

"""Collect what scenes are composed of: cut-outs (sequences of RGBA pictures) and backgrounds."""

from __future__ import annotations

import io
import pickle
import random
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Picture = NDArray[np.uint8]
STAMPS_FILE = Path(__file__).parent / "stamps.toml"

LONG_SIDE_PX = 320
"""Cut-outs are reduced to this."""
BACKGROUND_SIDE_PX = 900
"""Backgrounds are reduced to this."""
WITHOUT_CREDIT = ("licorice-", "truchet-")
"""Beginnings of the names of pictures of gnome-backgrounds that have no credit of their own."""
MAX_DRAWN = 1300
"""Drawings taken of openclipart: more of them would outweigh the other cut-outs."""
DRAWN_EXCLUDED = ("special/", "shapes/", "signs_and_symbols/", "icons", "buttons", "aiga-symbols", "roadsigns", "logos")
EMOJI_EXCLUDED = ("1f1", "20e3", "1f55", "1f56", "1f51", "1f53", "1f52")
"""Beginnings or ends of code points that are flags, key caps, clocks and symbols."""
VIEWS_EXCLUDED = ("hanged", "impaled", "dragon_dying")
"""Views of meshes whose names hold one of these are left out."""


@dataclass(frozen=True)
class CutOut:
    """One thing on one or more frames, BGRA (h, w, 4).

    Attributes:
        kind: drawn, emoji, photo or the kind of a mesh.
        name: says what it is, for who looks through them.
        frames: BGRA pictures of one size.
        source: where it comes from; each source of a kind is drawn as often as the others.
    """

    kind: str
    name: str
    frames: tuple[Picture, ...]
    source: str = ""


def collect(packages: Path, meshes: Sequence[Path], out: Path, seed: int = 0) -> None:
    """Write ``cutouts.pkl`` and ``backgrounds.pkl`` to a directory.

    Args:
        packages: directory with one unpacked package per sub-directory.
        meshes: directories with the pictures that `meshes.render_all` wrote.
        out: where to write.
        seed: chooses among the drawings.
    """
    cut = [*drawings(packages, seed), *emoji(packages), *photographs(packages)]
    cut += [each for folder in meshes for each in rendered(folder)]
    out.mkdir(parents=True, exist_ok=True)
    grounds = list(backgrounds(packages))
    for name, found in (("cutouts.pkl", cut), ("backgrounds.pkl", grounds)):
        with (out / name).open("wb") as file:
            pickle.dump(found, file)
    kinds = {kind: sum(c.kind == kind for c in cut) for kind in sorted({c.kind for c in cut})}
    print(f"{len(cut)} cut-outs {kinds}, {len(grounds)} backgrounds")


def drawings(packages: Path, seed: int) -> Iterator[CutOut]:
    """Drawings of openclipart."""
    root = packages / "openclipart-png"
    files = [f for f in sorted(root.rglob("*.png")) if not any(part in str(f) for part in DRAWN_EXCLUDED)]
    files = [f for f in files if f.stat().st_size < 150_000]
    random.Random(seed).shuffle(files)
    for file in files[:MAX_DRAWN]:
        picture = _cut(file)
        if picture is not None:
            yield CutOut("drawn", str(file.relative_to(root)), (picture,))


def emoji(packages: Path) -> Iterator[CutOut]:
    """Rendered emoji: animals, people, vehicles, food and things."""
    for file in sorted((packages / "fluent-emoji-3d/assets").glob("*.webp")):
        skin_variant = any(f"1f3f{end}" in file.stem for end in "bcde")
        if skin_variant or any(part in file.stem for part in EMOJI_EXCLUDED) or file.stem.startswith("00"):
            continue
        picture = _cut(file)
        if picture is not None:
            yield CutOut("emoji", file.name, (picture,))


def photographs(packages: Path) -> Iterator[CutOut]:
    """Those photographs among the stamps of Tux Paint that have a free licence of their own."""
    for stamp in stamps():
        picture = _cut(packages / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps" / stamp["path"])
        if picture is not None:
            yield CutOut("photo", stamp["path"], (picture,))


def stamps() -> list[dict[str, str]]:
    """Path, licence and credit of each photograph in ``stamps.toml``."""
    return list(tomllib.loads(STAMPS_FILE.read_text(encoding="utf-8"))["stamp"])


def rendered(meshes: Path) -> Iterator[CutOut]:
    """Sequences of moving meshes. The pictures of one sequence share a canvas, so that what moves stays in place."""
    for file in sorted(meshes.glob("cutouts_*.pkl")):
        for item in pickle.loads(file.read_bytes()):
            if any(part in item["name"] for part in VIEWS_EXCLUDED):
                continue
            frames = [_decoded(data) for data in item["frames"]]
            yield CutOut(item["kind"], item["name"], _on_one_canvas(frames, item["offsets_xy"]), meshes.name)


def backgrounds(packages: Path) -> Iterator[tuple[float, str, Picture]]:
    """Weight, name and BGR picture of each background."""
    for file in _wallpapers(packages):
        found = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if found is not None and min(found.shape[:2]) >= 200:
            picture = np.asarray(found, np.uint8)
            yield 4.0 * _detail_weight(picture), file.name, _reduced(picture, BACKGROUND_SIDE_PX)
    archive = zipfile.ZipFile(packages / "0ad-data/usr/share/games/0ad/mods/public/public.zip")
    for name in sorted(archive.namelist()):
        is_sky = name.startswith("art/textures/skies/")
        is_ground = name.startswith("art/textures/terrain/types/") and not any(
            part in name.lower() for part in ("_norm", "_spec", "normal", "specular", "_parallax", "alphamap")
        )
        if not (is_sky or is_ground) or not name.endswith((".dds", ".png")):
            continue
        try:
            colour = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
        except (OSError, NotImplementedError, ValueError):
            continue
        if min(colour.shape[:2]) >= 200:
            yield 0.5 if is_sky else 0.7, name, _reduced(np.ascontiguousarray(colour[..., ::-1]), 640)


def _wallpapers(packages: Path) -> Iterator[Path]:
    """The files of the packages of wallpapers that are no thumbnails."""
    # Pictures of gnome-backgrounds without a credit of their own stay out: see README.md.
    folders = ("gnome-backgrounds", "lomiri-wallpapers", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
    for folder in (*folders, "ukui-wallpapers"):
        files = (f for f in sorted((packages / folder).rglob("*")) if f.suffix in (".jpg", ".png", ".webp"))
        yield from (f for f in files if f.stat().st_size > 60_000 and not f.name.startswith(WITHOUT_CREDIT))
    yield from sorted((packages / "mate-backgrounds").rglob("Ubuntu-Mate-*-no-logo.png"))


def _detail_weight(picture: Picture) -> float:
    """Pictures that are mostly even colour count less."""
    edges = np.abs(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32), cv2.CV_32F))
    return 0.3 if float((edges < 1.5).mean()) > 0.75 else 1.0


def _reduced(picture: Picture, side_px: int) -> Picture:
    """A picture (H, W, 3) whose longer side has at most ``side_px``."""
    scale = side_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _on_one_canvas(frames: Sequence[Picture], offsets_xy: Sequence[tuple[int, int]]) -> tuple[Picture, ...]:
    """BGRA pictures with their left top corners on a common canvas, trimmed to what any of them covers."""
    placed = list(zip(frames, offsets_xy, strict=True))
    size = max(max(x + frame.shape[1], y + frame.shape[0]) for frame, (x, y) in placed)
    canvases: list[Picture] = []
    for frame, (x, y) in placed:
        canvas: Picture = np.zeros((size, size, 4), np.uint8)
        canvas[y : y + frame.shape[0], x : x + frame.shape[1]] = frame
        canvases.append(canvas)
    covered = np.max([canvas[..., 3] for canvas in canvases], axis=0) > 0
    rows, columns = np.nonzero(covered.any(1))[0], np.nonzero(covered.any(0))[0]
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return tuple(np.ascontiguousarray(canvas[part]) for canvas in canvases)


def _decoded(data: bytes) -> Picture:
    """An encoded BGRA picture."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def _cut(file: Path) -> Picture | None:
    """The picture, trimmed to what is opaque and reduced; None if it is no good cut-out."""
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    if picture.dtype != np.uint8:
        picture = (picture / 257).astype(np.uint8)
    rows, columns = np.nonzero(picture[..., 3] > 127)
    if len(rows) < 400:
        return None
    picture = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = LONG_SIDE_PX / max(picture.shape[:2])
    if scale < 1:
        alpha = picture[..., 3:].astype(np.float32) / 255
        premultiplied = np.dstack([picture[..., :3] * alpha, alpha])
        small = cv2.resize(premultiplied, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        colour = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
        picture = np.dstack([colour, 255 * small[..., 3:]]).clip(0, 255).astype(np.uint8)
    opaque = (picture[..., 3] > 127).astype(np.uint8)
    height, width = opaque.shape
    if max(height, width) < 90 or min(height, width) < 20 or not 0.1 < opaque.mean() < 0.93:
        return None
    _, _, stats, _ = cv2.connectedComponentsWithStats(opaque)
    return np.ascontiguousarray(picture) if stats[1:, 4].max() > 0.7 * opaque.sum() else None

"""Reading the animated meshes of the game MegaGlest.

The Debian package megaglest-data (CC-BY-SA-3.0) holds them as .g3d files: one set of vertices for each key frame of an
animation, with pictures to paint them. `meshes` draws them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Picture = NDArray[np.uint8]

CUSTOM_COLOUR, TWO_SIDED = 1, 2  # bits of a mesh's properties

SKIPPED = re.compile(
    r"arrow$|^spear$|^stone$|beil|^bees|ball$|stone_model|dirk|rocket|bottle|fork|projectile|_spear$|^none|water|bodypart|hell\d"
    r"|vulcano|^menu_|^intro|contruction|construct|destr|burned"
)
STILL_BUILDING = re.compile(
    r"(?<!_)(farm|house|temple|obelisk|camp|school|totem|tent)|statue|pyramid$|cross|sarg|ruin|bird"
)
UNIT_KINDS = {  # the first that fits a unit's name; else it is a person
    "rider": "horseman|dragon_rider|cavalry|flying_carpet|elephant$|flying_valkyrie",
    "machine": "ballista|airship|battle_machine|catapult|ornithopter|battering_ram|crossbow|air_pyramid",
    "animal": "chicken|ibis|scarab|snake$|bull|cow$|pig$|wild_sow|sheep|thunderbird|dragon",
    "building": "aerodrome|barracks|basket|beehive|blacksmith|cage|camp|castle|energy_source|farm|forum|guild|house"
    "|library|mead_bar|minaret|mistletoe_tree|obelisk|palace|pillar|pyramid|reed|school|sphinx|technodrome|teepee|temple|tent"
    "|totem|tower|valhalla|wicker_behemoth",
}


@dataclass(frozen=True)
class Mesh:
    """One painted surface; T key frames of V vertices, F triangles."""

    vertices: Floats  # (T, V, 3)
    normals: Floats  # (T, V, 3)
    texcoords: Floats | None  # (V, 2)
    triangles: Ints  # (F, 3)
    texture: Picture | None  # (H, W, 4) RGBA
    texture_path: Path | None
    diffuse: tuple[float, float, float]
    opacity: float
    two_sided: bool
    team_coloured: bool  # the texture's alpha says where the player's colour shows, not where there are holes


@lru_cache(maxsize=256)
def read_texture(path: Path) -> Picture:
    """Return a picture as RGBA, top row first; OpenCV has no TGA reader, so plain TGA files are read here."""
    if path.suffix.lower() != ".tga":
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError(f"{path}: not a picture")
        image = image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)
        code = {2: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_BGR2RGBA}.get(image.ndim if image.ndim == 2 else image.shape[2])
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if code is None else code).astype(np.uint8)
    data = path.read_bytes()
    width, height, bits, flags = struct.unpack_from("<HHBB", data, 12)
    if data[2] != 2 or bits not in (24, 32):
        raise ValueError(f"{path}: a TGA file of another kind than plain true colour")
    channels = bits // 8
    pixels = np.frombuffer(data, np.uint8, width * height * channels, 18 + data[0]).reshape(height, width, channels)
    upright = np.ascontiguousarray(pixels if flags & 0x20 else pixels[::-1])
    code = cv2.COLOR_BGR2RGBA if channels == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(upright, code), np.uint8)


def find_texture(folder: Path, name: str) -> Path | None:
    """Return the texture of that name, or one that differs only in its ending; None where there is none."""
    wanted = folder / name
    others = [wanted.with_suffix(suffix) for suffix in (".png", ".tga", ".jpg", ".bmp")]
    return next((path for path in (wanted, *others) if path.is_file()), None)


def read_g3d(path: Path) -> list[Mesh]:
    """Return the meshes of a .g3d file of version 4.

    Raises:
        ValueError: If the file is not of that kind, or ends early.
    """
    data = path.read_bytes()
    if len(data) < 7 or data[:3] != b"G3D" or data[3] != 4:
        raise ValueError(f"{path}: not a G3D file of version 4")
    (count,) = struct.unpack_from("<H", data, 4)
    offset, meshes = 7, []
    for _ in range(count):
        mesh, offset = _read_mesh(data, offset, path.parent)
        meshes.append(mesh)
    return meshes


def _read_mesh(data: bytes, offset: int, folder: Path) -> tuple[Mesh, int]:
    """Return the mesh whose header starts at offset, and where the next one starts."""
    frames, vertices, indices, *rest = struct.unpack_from("<3I8f2I", data, offset + 64)
    opacity, properties, texture_bits = rest[7], rest[8], rest[9]
    offset += 64 + 52
    texture_path = None
    for bit in range(5):
        if texture_bits >> bit & 1:
            name = data[offset : offset + 64].split(b"\0")[0].decode("latin1").lower()
            texture_path = find_texture(folder, name) if bit == 0 else texture_path
            offset += 64

    def take(dtype: str, *shape: int) -> NDArray[Any]:
        nonlocal offset
        values = np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape)
        offset += values.nbytes
        return values

    points, normals = take("<f4", frames, vertices, 3), take("<f4", frames, vertices, 3)
    texcoords = take("<f4", vertices, 2) if texture_bits else None
    triangles = take("<u4", indices // 3, 3).astype(np.int64)
    mesh = Mesh(
        vertices=points,
        normals=normals,
        texcoords=texcoords,
        triangles=triangles,
        texture=read_texture(texture_path.resolve()) if texture_path else None,
        texture_path=texture_path,
        diffuse=(rest[0], rest[1], rest[2]),
        opacity=opacity,
        two_sided=bool(properties & TWO_SIDED),
        team_coloured=bool(properties & CUSTOM_COLOUR) and "tilesets" not in folder.parts,
    )
    return mesh, offset


def guess_kind(path: Path) -> str:
    """Return person, animal, rider, machine, building or nature for a .g3d file, by the names in its path."""
    stem, parts = path.stem.lower(), path.parts
    if "units" not in parts:
        return "person" if "character" in stem else "building" if STILL_BUILDING.search(stem) else "nature"
    unit = parts[parts.index("units") + 1]
    return next((kind for kind, words in UNIT_KINDS.items() if re.search(words, unit)), "person")


def name_of(path: Path) -> str:
    """Return megaglest/<faction, or tileset>/<unit>/<animation>."""
    parts = path.parts
    if "units" in parts:
        place = parts.index("units")
        return f"megaglest/{parts[place - 1]}/{parts[place + 1]}/{path.stem}"
    return f"megaglest/{path.parent.parent.name}/{path.parent.name}/{path.stem}"


def objects(package_dir: Path) -> Iterator[tuple[str, str, list[Mesh]]]:
    """Yield name, kind and meshes of each .g3d file worth drawing, each pair of shape and paint once."""
    done: set[tuple[Path | None, ...]] = set()
    for path in sorted(package_dir.rglob("*.g3d")):
        if SKIPPED.search(path.stem.lower()):
            continue
        try:
            meshes = [mesh for mesh in read_g3d(path) if mesh.opacity > 0.6 and len(mesh.triangles)]
        except ValueError as error:
            print(f"left out: {error}")
            continue
        key = (path.resolve(), *(mesh.texture_path and mesh.texture_path.resolve() for mesh in meshes))
        if meshes and key not in done:
            done.add(key)
            yield name_of(path), guess_kind(path), meshes

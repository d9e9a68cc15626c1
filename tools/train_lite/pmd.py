"""Reading the animated meshes of the game 0 A.D.

The Debian package 0ad-data (CC-BY-SA-3.0) holds in public.zip, as the game stores them once read: meshes (.pmd),
animations (.psa), textures (.dds), and the actors (.xml) that say which of them belong together. `meshes` draws them.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.train_lite.g3d import Floats, Ints, Mesh, Picture

ARCHIVE = "usr/share/games/0ad/mods/public/public.zip"
KEY_FRAMES = 12
TEXTURE_SIDE_PX = 512
MAX_PROP_DEPTH = 4
NO_BONE = 0xFF
MIRROR = np.diag([1, 1, -1, 1]).astype(np.float32)[None]  # the game's axes are left-handed, the drawing's right-handed
KINDS = {  # which actors, and how many of them at most
    "animal": (r"fauna/\w+\.xml$", 100),
    "person": (r"units/\w+/(hero_)?(infantry|female|healer|champion|slave)\w*\.xml$", 70),
    "rider": (r"units/\w+/\w*(cavalry|chariot|elephant)\w*_m\.xml$", 60),
    "machine": (r"units/\w+/siege_\w+\.xml$|structures/\w+/\w*(ship|boat|reme|siege_(ram|tower)|merchant)\.xml$", 40),
}
SKIPPED = re.compile(  # parts, flocks, what has its crew stand apart, and what is mostly a spear
    r"shoal|circle|fish_generic|fauna/fish\.|whale_fin|flaming|dragon|_pivot|_fire\b|special|_[rdh]\d*\.xml"
    r"|lithobolos|oxybeles|ballista|scorpio|shoushe|polybolos|packed|_ladder|_sail|pikeman|halberd"
)
ANIMATIONS = {  # by their beginnings
    "animal": re.compile("walk|run|idle|attack|feeding"),
    "person": re.compile("walk|run|idle|attack_(melee|ranged|slaughter)|gather"),
    "rider": re.compile("walk|run|idle"),
    "machine": re.compile("walk|run|idle|attack"),
}
BONE = np.dtype([("translation", "<f4", 3), ("quaternion_xyzw", "<f4", 4)])


class PropPoint(NamedTuple):
    """Where another mesh can be fixed: a frame (4, 4) in the space of a bone, or of the mesh where bone is NO_BONE."""

    frame: Floats
    bone: int


@dataclass(frozen=True)
class Skin:
    """A mesh in its bind pose: V vertices, F triangles, B bones."""

    vertices: Floats  # (V, 3)
    normals: Floats  # (V, 3)
    texcoords: Floats  # (V, 2)
    triangles: Ints  # (F, 3)
    bones: Ints  # (V, 4): numbers of bones; B stands for none
    weights: Floats  # (V, 4)
    bind: Floats  # (B, 4, 4)
    props: dict[str, PropPoint]


@dataclass
class Actor:
    """What one look of an actor is made of; the names are those in the XML."""

    mesh: str = ""
    texture: str = ""
    material: str = ""
    colour: Floats = field(default_factory=lambda: np.ones(3, np.float32))  # what is see-through shows it
    animations: dict[str, list[str]] = field(default_factory=dict)  # files by name in small letters
    props: dict[str, list[str]] = field(default_factory=dict)  # actors by point of attachment


def matrices(states: NDArray[np.void]) -> Floats:
    """Return (..., 4, 4) for bone states (...): first turned, then moved."""
    unit = states["quaternion_xyzw"] / np.maximum(np.linalg.norm(states["quaternion_xyzw"], axis=-1), 1e-9)[..., None]
    x, y, z, w = np.moveaxis(unit, -1, 0)
    result: Floats = np.zeros((*states.shape, 4, 4), np.float32)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    rows += [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]
    rows += [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
    result[..., :3, :3] = np.stack(rows, axis=-1).reshape(*states.shape, 3, 3)
    result[..., :3, 3] = states["translation"]
    result[..., 3, 3] = 1
    return result


class _Reader:
    """Takes values from the bytes of a file, one after another."""

    def __init__(self, data: bytes, magic: bytes, versions: tuple[int, ...]) -> None:
        if len(data) < 12 or data[:4] != magic or struct.unpack_from("<I", data, 4)[0] not in versions:
            raise ValueError(f"not a file of kind {magic.decode()}, version {versions}")
        self.data, self.offset = data, 12
        self.version = struct.unpack_from("<I", data, 4)[0]

    def array(self, dtype: np.dtype[Any] | str, count: int) -> NDArray[Any]:
        """Return the next count values; a ValueError says that the file ends before."""
        kind: np.dtype[Any] = np.dtype(dtype)
        if count * kind.itemsize > len(self.data) - self.offset:
            raise ValueError("the file ends early")
        values = np.frombuffer(self.data, kind, count, self.offset)
        self.offset += values.nbytes
        return values

    def number(self) -> int:
        """Return the next unsigned integer of four bytes."""
        return int(self.array("<u4", 1)[0])


def read_pmd(data: bytes) -> Skin:
    """Return the mesh of a .pmd file of version 3 or 4.

    Raises:
        ValueError: If the bytes are not of that kind, or end early.
    """
    reader = _Reader(data, b"PSMD", (3, 4))
    count = reader.number()
    sets = reader.number() if reader.version == 4 else 1
    parts = [("xyz", "<f4", 3), ("normal", "<f4", 3), ("uv", "<f4", (sets, 2)), ("bone", "u1", 4), ("weight", "<f4", 4)]
    vertices = reader.array(np.dtype(parts), count)
    triangles = reader.array("<u2", 3 * reader.number()).reshape(-1, 3).astype(np.int64)
    bind = matrices(reader.array(BONE, reader.number()))
    props = {"root": PropPoint(np.eye(4, dtype=np.float32), NO_BONE)}
    for _ in range(reader.number()):
        name = reader.array("u1", reader.number()).tobytes().decode("latin1")
        frame = matrices(reader.array(BONE, 1))[0]
        props[name] = PropPoint(frame, int(reader.array("u1", 1)[0]))
    if len(triangles) and triangles.max() >= count:
        raise ValueError("a triangle without vertices")
    bones = vertices["bone"].astype(np.int64)
    return Skin(
        vertices=vertices["xyz"],
        normals=vertices["normal"],
        texcoords=np.ascontiguousarray(vertices["uv"][:, 0]),
        triangles=triangles,
        bones=np.minimum(bones, len(bind)),
        weights=np.where(bones == NO_BONE, 0, vertices["weight"]).astype(np.float32),
        bind=bind,
        props=props,
    )


def read_psa(data: bytes) -> Floats:
    """Return (T, B, 4, 4): the bones of a .psa file of version 1 at each of its frames.

    Raises:
        ValueError: If the bytes are not of that kind, or end early.
    """
    reader = _Reader(data, b"PSSA", (1,))
    reader.array("u1", reader.number())  # its name
    reader.array("<f4", 1)  # milliseconds a frame
    bones, frames = reader.number(), reader.number()
    return matrices(reader.array(BONE, bones * frames).reshape(frames, bones))


def key_frames(poses: Floats, count: int = KEY_FRAMES) -> Floats:
    """Return (count, B, 4, 4) of the poses (T, B, 4, 4), evenly chosen; the last leads on to the first."""
    return np.asarray(poses[np.arange(count) * len(poses) // count], np.float32)


def skinned(skin: Skin, poses: Floats) -> tuple[Floats, Floats]:
    """Return vertices and normals (T, V, 3) for poses (T, B, 4, 4): each vertex moves with the mean of its bones."""
    if poses.shape[1] != len(skin.bind):
        raise ValueError(f"an animation of {poses.shape[1]} bones for a mesh of {len(skin.bind)}")
    moves = poses @ np.linalg.inv(skin.bind).astype(np.float32)
    still = np.broadcast_to(np.eye(4, dtype=np.float32), (len(poses), 1, 4, 4))
    moves = np.concatenate([moves, still], axis=1)[..., :3, :]
    total = skin.weights.sum(1, keepdims=True)
    weights = np.where(total > 0, skin.weights / np.maximum(total, 1e-9), [1, 0, 0, 0]).astype(np.float32)
    bones = np.where(total > 0, skin.bones, len(skin.bind))
    mixed = np.zeros((len(poses), len(skin.vertices), 3, 4), np.float32)
    for k in range(4):
        mixed += weights[:, k, None, None] * moves[:, bones[:, k]]
    vertices = np.einsum("tvij,vj->tvi", mixed[..., :3], skin.vertices) + mixed[..., 3]
    return vertices, np.einsum("tvij,vj->tvi", mixed[..., :3], skin.normals)


class Archive:
    """The game's files: actors with their looks chosen at random, and meshes made of them."""

    def __init__(self, package_dir: Path) -> None:
        self.zip = zipfile.ZipFile(package_dir / ARCHIVE)
        self.names = set(self.zip.namelist())
        self.texture = lru_cache(maxsize=64)(self._texture)
        self.skin = lru_cache(maxsize=256)(lambda name: read_pmd(self._read("meshes", name, "pmd")))
        self.poses = lru_cache(maxsize=64)(lambda name: key_frames(read_psa(self._read("animation", name, "psa"))))

    def _read(self, folder: str, name: str, ending: str) -> bytes:
        """Return the bytes of a file, or of what the game made of it.

        Raises:
            ValueError: If there is none.
        """
        wanted = f"art/{folder}/{name}"
        others = (f"{wanted}.cached.{ending}", wanted)
        found = next((other for other in others if other in self.names and other.endswith(ending)), None)
        if found is None:
            raise ValueError(f"{wanted}: not there")
        return self.zip.read(found)

    def _texture(self, name: str) -> Picture:
        """Return a texture as RGBA, top row first, TEXTURE_SIDE_PX at most."""
        with Image.open(io.BytesIO(self._read("textures/skins", name, "dds"))) as image:
            rgba = np.asarray(image.convert("RGBA"))
        while max(rgba.shape[:2]) > TEXTURE_SIDE_PX:
            rgba = cv2.resize(rgba, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return rgba

    def actor(self, name: str, rng: np.random.Generator) -> Actor:
        """Return one look of the actor art/actors/<name>: of each group one variant, as often as its frequency says."""
        root = ElementTree.fromstring(self._read("actors", name, "xml"))
        if root.tag == "qualitylevels":
            best, shared = root.findall("actor")[-1], root.find("inline")
            root = best if shared is None else shared
        result = Actor(material=root.findtext("material", "default.xml"))
        for group in root.findall("group"):
            variants = group.findall("variant")
            shares = np.array([float(variant.get("frequency", 0)) for variant in variants])
            shares = shares if shares.sum() > 0 else np.arange(len(variants)) == 0
            if variants:
                self._apply(variants[rng.choice(len(variants), p=shares / shares.sum())], result)
        return result

    def _apply(self, variant: ElementTree.Element, actor: Actor) -> None:
        """Add what a variant, and the file it starts from, say; what comes later wins."""
        if variant.get("file"):
            self._apply(ElementTree.fromstring(self._read("variants", variant.get("file", ""), "xml")), actor)
        actor.mesh = variant.findtext("mesh", actor.mesh)
        for texture in variant.findall("textures/texture"):
            if texture.get("name") == "baseTex":
                actor.texture = texture.get("file", "")
        if variant.findtext("color"):
            actor.colour = np.array(variant.findtext("color", "").split(), np.float32) / np.float32(255)
        animations: dict[str, list[str]] = {}
        for animation in variant.findall("animations/animation"):
            if animation.get("file"):
                animations.setdefault(animation.get("name", "").lower(), []).append(animation.get("file", ""))
        props: dict[str, list[str]] = {}
        for prop in variant.findall("props/prop"):
            props.setdefault(prop.get("attachpoint", ""), []).append(prop.get("actor", ""))
        actor.animations |= animations
        actor.props |= props

    def meshes(
        self, name: str, animation: str, team_rgb: Floats, rng: np.random.Generator, depth: int = 0
    ) -> list[Mesh]:
        """Return an actor's mesh and those of its props, over KEY_FRAMES frames of an animation.

        A part that lacks the animation plays its idle one, or keeps still.

        Raises:
            ValueError: If the actor or its mesh cannot be read.
        """
        actor = self.actor(name, rng)
        if not actor.mesh:
            return []
        skin = self.skin(actor.mesh)
        files = actor.animations.get(animation) or actor.animations.get("idle") or []
        poses = np.repeat(skin.bind[None], KEY_FRAMES, axis=0)
        if files and len(skin.bind):
            found = self.poses(files[0])
            poses = found if found.shape[1] == len(skin.bind) else poses
        vertices, normals = skinned(skin, poses)
        result = [self._mesh(actor, skin, vertices, normals, team_rgb)] if actor.texture else []
        for point, props in actor.props.items():
            place = skin.props.get(point)
            if place is None or depth == MAX_PROP_DEPTH:
                continue
            frames = poses[:, place.bone] @ place.frame if place.bone < len(skin.bind) else place.frame[None]
            for prop in filter(None, props):
                try:
                    parts = self.meshes(prop, animation, team_rgb, rng, depth + 1)
                except (ValueError, ElementTree.ParseError) as error:
                    print(f"{name}: left out a part: {error}")
                    continue
                result += [_fixed(part, frames) for part in parts]
        return result

    def _mesh(self, actor: Actor, skin: Skin, vertices: Floats, normals: Floats, team_rgb: Floats) -> Mesh:
        """Return the painted mesh; its material says if alpha is for holes, or a player's or other colour."""
        team = "player" in actor.material
        holes = "trans" in actor.material and "no_trans" not in actor.material and not team
        colour = team_rgb if team else actor.colour if "objectcolor" in actor.material else np.ones(3, np.float32)
        texture = self.texture(actor.texture)
        return Mesh(
            vertices=vertices,
            normals=normals,
            texcoords=skin.texcoords,
            triangles=skin.triangles,
            texture=texture if holes else _tinted(texture, colour),
            texture_path=None,
            diffuse=(0.7, 0.7, 0.7),
            opacity=1.0,
            two_sided=holes,
            team_coloured=False,  # as in the game, the player's colour is multiplied with the texture
        )


def _tinted(texture: Picture, colour: Floats) -> Picture:
    """Return the texture without holes, times the colour (3,) in 0..1 where its alpha is low."""
    alpha = texture[..., 3:].astype(np.float32) / 255
    rgb = texture[..., :3] * (colour * (1 - alpha) + alpha)
    return np.dstack([rgb.astype(np.uint8), np.full(texture.shape[:2], 255, np.uint8)])


def _fixed(mesh: Mesh, frames: Floats) -> Mesh:
    """Return the mesh (T, V, 3) moved by frames (T or 1, 4, 4)."""
    turn = frames[:, :3, :3].transpose(0, 2, 1)
    return replace(mesh, vertices=mesh.vertices @ turn + frames[:, None, :3, 3], normals=mesh.normals @ turn)


def chosen(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the actors worth drawing with their kinds; of many that look alike, evenly chosen ones."""
    actors = sorted(name.removeprefix("art/actors/") for name in names if name.startswith("art/actors/"))
    result = []
    for kind, (pattern, most) in KINDS.items():
        fitting = [name for name in actors if re.match(pattern, name) and not SKIPPED.search(name)]
        count = min(most, len(fitting))
        result += [(fitting[k * len(fitting) // count], kind) for k in range(count)]
    return result


def objects(package_dir: Path) -> Iterator[tuple[str, str, list[Mesh]]]:
    """Yield 0ad/<actor>/<animation>, the kind (animal, person, rider, machine) and the meshes of each object."""
    archive = Archive(package_dir)
    for name, kind in chosen(archive.names):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        try:
            wanted = sorted(filter(ANIMATIONS[kind].match, archive.actor(name, rng).animations)) or ["idle"]
            for animation in rng.permutation(wanted)[: 2 if kind == "animal" and "horse" not in name else 1]:
                team_rgb = rng.uniform(0.1, 0.95, 3).astype(np.float32)
                meshes = [_fixed(mesh, MIRROR) for mesh in archive.meshes(name, str(animation), team_rgb, rng)]
                if meshes:
                    yield f"0ad/{name.removesuffix('.xml')}/{animation}", kind, meshes
        except (ValueError, ElementTree.ParseError) as error:
            print(f"left out: {name}: {error}")

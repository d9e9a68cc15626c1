"""A small mesh with two bones: read, bent by an animation, and found with its parts in an archive of the game."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.train_lite.pmd import ARCHIVE, KEY_FRAMES, chosen, key_frames, matrices, objects, read_pmd, read_psa, skinned

STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
TURNED = (0.0, 2.0, 0.0, 0.0, 0.0, 0.5**0.5, 0.5**0.5)  # a quarter about z, then two up
ACTOR = """<actor version="1"><group><variant><mesh>{mesh}</mesh>
<props><prop actor="{prop}" attachpoint="tip"/></props>
<textures><texture file="paint.png" name="baseTex"/></textures>
<animations><animation name="Walk" file="walk.dae"/></animations></variant></group>
<material>{material}</material></actor>"""


def _file(magic: bytes, version: int, body: bytes) -> bytes:
    return magic + struct.pack("<II", version, len(body)) + body


def _pmd(version: int = 4) -> bytes:
    """One triangle: a vertex on the first bone, one on the second, one between them; a prop point on the second."""
    skins = [
        ((0, 255, 255, 255), (1, 0, 0, 0)),
        ((1, 255, 255, 255), (1, 0, 0, 0)),
        ((0, 1, 255, 255), (0.5, 0.5, 0, 0)),
    ]
    body = struct.pack("<II", 3, 1)
    for number, (bones, weights) in enumerate(skins):
        place = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)][number]
        body += struct.pack("<3f3f2f4B4f", *place, 0, 0, 1, number, 0, *bones, *weights)
    body += struct.pack("<I3H", 1, 0, 1, 2)
    body += struct.pack("<I14f", 2, *STILL, *STILL)
    body += struct.pack("<II3s7fB", 1, 3, b"tip", *STILL, 1)
    return _file(b"PSMD", version, body)


def _psa(bones: int = 2) -> bytes:
    """Two frames: at rest, and the last bone turned and moved."""
    frames = struct.pack(f"<{7 * bones * 2}f", *STILL * bones, *STILL * (bones - 1), *TURNED)
    return _file(b"PSSA", 1, struct.pack("<I4sfII", 4, b"walk", 33.0, bones, 2) + frames)


def test_a_vertex_moves_with_its_bones() -> None:
    skin = read_pmd(_pmd())
    vertices, normals = skinned(skin, read_psa(_psa()))
    np.testing.assert_allclose(vertices[0], [[0, 0, 0], [1, 0, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(vertices[1], [[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.5, 1.5, 0.0]], atol=1e-6)
    np.testing.assert_allclose(normals[1], np.tile([0, 0, 1], (3, 1)), atol=1e-6)
    assert (skin.texcoords[:, 0].tolist(), skin.props["tip"].bone) == ([0, 1, 2], 1)


def test_key_frames_are_evenly_chosen() -> None:
    poses = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1) * np.ones((1, 1, 4, 4), np.float32)
    assert key_frames(poses, 8)[:, 0, 0, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.parametrize("read", [read_pmd, read_psa])
@pytest.mark.parametrize(
    "data", [b"", b"PSXX" + bytes(20), _pmd(9), _psa().replace(b"PSSA\1", b"PSSA\7"), _pmd()[:-9], _psa()[:-1]]
)
def test_other_files_are_refused(read: object, data: bytes) -> None:
    assert callable(read)
    with pytest.raises(ValueError, match=r"not a file of kind|ends early"):
        read(data)


def test_an_animation_of_other_bones_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bones for a mesh of 2"):
        skinned(read_pmd(_pmd()), read_psa(_psa(3)))


def test_a_rotation_is_made_of_its_quaternion() -> None:
    state = np.zeros(1, [("translation", "<f4", 3), ("quaternion_xyzw", "<f4", 4)])
    state["translation"], state["quaternion_xyzw"] = TURNED[:3], TURNED[3:]
    np.testing.assert_allclose(matrices(state)[0] @ np.array([1, 0, 0, 1]), [0, 3, 0, 1], atol=1e-6)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one animal whose prop sits on its second bone."""
    picture = io.BytesIO()
    Image.new("RGBA", (4, 4), (200, 100, 50, 0)).save(picture, "DDS")
    path = tmp_path / ARCHIVE
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "art/actors/fauna/cat.xml", ACTOR.format(mesh="cat.dae", prop="hat.xml", material="default.xml")
        )
        archive.writestr("art/actors/hat.xml", ACTOR.format(mesh="cat.dae", prop="", material="player_trans.xml"))
        archive.writestr("art/actors/fauna/dog.xml", ACTOR.format(mesh="dog.dae", prop="", material="default.xml"))
        archive.writestr("art/meshes/cat.dae.cached.pmd", _pmd())
        archive.writestr("art/animation/walk.dae.cached.psa", _psa())
        archive.writestr("art/textures/skins/paint.png.cached.dds", picture.getvalue())
    return tmp_path


def test_an_actor_is_found_with_its_prop(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ((name, kind, (cat, hat)),) = objects(package)
    assert (name, kind) == ("0ad/fauna/cat/walk", "animal")
    assert "left out: fauna/dog.xml: art/meshes/dog.dae: not there" in capsys.readouterr().out
    assert cat.vertices.shape == (KEY_FRAMES, 3, 3)
    np.testing.assert_allclose(hat.vertices[-1, 0], [0, 2, 0], atol=1e-6)  # the first bone's vertex, on the second bone
    assert cat.texture is not None
    assert cat.texture[0, 0].tolist() == [200, 100, 50, 255]
    assert hat.texture is not None
    assert not hat.team_coloured
    assert hat.texture[0, 0].tolist() != cat.texture[0, 0].tolist()  # in the player's colour


def test_few_of_many_alike_are_chosen() -> None:
    names = [f"art/actors/fauna/cat_{number:03d}.xml" for number in range(300)]
    actors = [name for name, _ in chosen([*names, "art/actors/fauna/fish_shoal.xml"])]
    assert (len(actors), len(set(actors)), actors[1]) == (100, 100, "fauna/cat_003.xml")

from __future__ import annotations

import base64
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_backend.export.clip_names import clip_names, unique_folders

BUCKET_URI = base64.urlsafe_b64encode(b"s3://bucket/clips/swan lake/00007.jpg").decode()


@pytest.mark.parametrize(
    ("url", "folder", "name"),
    [
        ("/data/local-files/?d=clips/blackswan/00000.jpg", "blackswan", "00000.jpg"),
        ("/data/local-files/?d=clips%5Cblackswan%5C00000.jpg", "blackswan", "00000.jpg"),
        ("http://host/prefix/data/local-files/?d=a/b/c.png", "b", "c.png"),
        ("/data/upload/12/1a2b3c4d-00000.jpg", "", "00000.jpg"),
        ("/data/upload/12/1a2b3c4d-frame%20one.jpg", "", "frame one.jpg"),
        ("https://host/clips/dog/00010.jpg?X-Amz-Signature=abc", "dog", "00010.jpg"),
        ("s3://bucket/clips/dog/00010.jpg", "dog", "00010.jpg"),
        (f"/tasks/5/resolve/?fileuri={BUCKET_URI}", "swan lake", "00007.jpg"),
        ("/tasks/5/resolve/?fileuri=%%%", "", "00000"),
        ("https://host/clips/..%2F..%2Fetc/passwd", "etc", "passwd"),
        ("https://host/clips/a:b/c*d.jpg", "a_b", "c_d.jpg"),
        ("https://host/Schwäne/größe.jpg", "Schwäne", "größe.jpg"),
        ("", "", "00000"),
    ],
)
def test_names_from_one_address(url: str, folder: str, name: str) -> None:
    names = clip_names([url])
    assert (names.folder, names.frame_names) == (folder, (name,))


def test_frames_from_several_folders_have_no_common_one() -> None:
    assert clip_names(["http://host/a/1.jpg", "http://host/b/2.jpg"]).folder == ""


@pytest.mark.parametrize(
    "urls",
    [
        ["http://host/a/frame.jpg", "http://host/b/frame.jpg"],
        ["http://host/a/frame.jpg", "http://host/a/FRAME.jpg"],
        ["http://host/a/frame.jpg", "http://host/a/frame.png"],
    ],
)
def test_frames_whose_stems_repeat_are_numbered(urls: list[str]) -> None:
    names = clip_names(urls)
    assert names.numbered
    assert [PurePosixPath(name).stem for name in names.frame_names] == ["00000", "00001"]
    assert [PurePosixPath(name).suffix for name in names.frame_names] == [PurePosixPath(url).suffix for url in urls]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_no_address_leaves_its_folder(texts: list[str]) -> None:
    try:
        names = clip_names([f"http://host/{text}" for text in texts])
    except ValueError:
        return  # Not an address at all, by the standard library's judgement.
    for name in (*names.frame_names, names.folder or "folder"):
        assert name
        assert name not in (".", "..")
        assert not set(name) & set('/\\:*?"<>|\0\n')
    stems = [PurePosixPath(name).stem.casefold() for name in names.frame_names]
    assert len(set(stems)) == len(stems) == len(texts)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["dog", "swan"], ["dog", "swan"]),
        (["dog", "dog", "swan"], ["dog-task1", "dog-task2", "swan"]),
        (["dog", "DOG"], ["dog-task1", "DOG-task2"]),
        (["", ""], ["task1", "task2"]),
        (["dog", "dog", "dog-task2"], ["dog-task1", "dog-task2_", "dog-task2"]),
    ],
)
def test_folders_of_an_export_are_unique(folders: list[str], expected: list[str]) -> None:
    suffixes = [f"task{number}" for number in range(1, len(folders) + 1)]
    assert unique_folders(folders, suffixes) == expected

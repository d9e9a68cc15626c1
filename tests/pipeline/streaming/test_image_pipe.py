"""A byte stream is split into images at once, in whatever chunks it arrives."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.streaming.image_pipe import ImagePipeError, is_complete, split_images


def noise(seed: int) -> np.ndarray:
    """An image whose encoded bytes hold many 0xff."""
    return np.random.default_rng(seed).integers(0, 256, (24, 40, 3), np.uint8)


def pillow(seed: int, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(seed)).save(file, kind, **options)
    return file.getvalue()


def with_thumbnail(seed: int) -> bytes:
    """A JPEG that has another JPEG in its EXIF segment."""
    inner = pillow(seed + 1, "JPEG", quality=40)
    segment = b"Exif\0\0" + inner
    whole = pillow(seed, "JPEG")
    return whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]


def opencv(seed: int, suffix: str, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, noise(seed), list(options))[1])


IMAGES = (
    pillow(0, "JPEG"),
    pillow(1, "JPEG", progressive=True, quality=95),
    pillow(2, "PNG"),
    with_thumbnail(3),
    opencv(4, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    opencv(5, ".png"),
    b"\xff\xd8\xff" + pillow(6, "JPEG")[2:],
)
"""With restart markers, progressive scans, a thumbnail, fill bytes."""


def reader(data: bytes, sizes: Sequence[int]) -> Callable[[], bytes]:
    """Gives the data in pieces of these sizes, and the rest in one."""
    pieces = _pieces(data, sizes)
    return lambda: next(pieces, b"")


def _pieces(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        if at < len(data):
            yield data[at : at + size]
        at += size
    if at < len(data):
        yield data[at:]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(IMAGES) - 1), max_size=6), st.lists(st.integers(1, 3000), max_size=40))
def test_a_stream_is_split_into_its_images(order: list[int], sizes: list[int]) -> None:
    images = [IMAGES[k] for k in order]
    assert list(split_images(reader(b"".join(images), sizes))) == images


@pytest.mark.parametrize("image", IMAGES, ids=range(len(IMAGES)))
def test_single_bytes_and_padding_between_images(image: bytes) -> None:
    data = b"\r\n" + image + b"\0\0\n" + image + b"\n"
    assert list(split_images(reader(data, [1] * len(data)))) == [image, image]


@pytest.mark.parametrize("image", IMAGES, ids=range(len(IMAGES)))
def test_an_image_is_yielded_before_the_next_one_begins(image: bytes) -> None:
    source, sink = os.pipe()
    found: list[bytes] = []
    came = threading.Event()

    def read() -> None:
        for data in split_images(lambda: os.read(source, 100)):
            found.append(data)
            came.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for n_images in (1, 2):
            came.clear()
            os.write(sink, image)
            assert came.wait(10)
            assert found == [image] * n_images
    finally:
        os.close(sink)
        thread.join(10)
        os.close(source)
    assert not thread.is_alive()


def test_an_incomplete_last_image_is_yielded() -> None:
    for image in IMAGES:
        for n_bytes in (1, 2, 3, 9, len(image) // 2, len(image) - 1):
            assert list(split_images(reader(IMAGES[0] + image[:n_bytes], []))) == [IMAGES[0], image[:n_bytes]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"not an image at all",
            "JPEG or PNG images one after another, but byte 0 and on are b'not an image'",
        ),
        (IMAGES[0] + b"\x00\x00\x00\x18ftypmp42", f"but byte {len(IMAGES[0]) + 3} and on are"),
        (IMAGES[0][:2] + b"junk", "is damaged: expected a marker at its byte 2, but got b'junk'"),
        (b"\x89PNX\r\n\x1a\nmore", "expected JPEG or PNG"),
        (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT", "larger than 4096 bytes"),
        (IMAGES[0][:-2] + b"\0" * 9000, "larger than 4096 bytes"),
    ],
)
def test_errors_say_what_was_expected(data: bytes, message: str) -> None:
    with pytest.raises(ImagePipeError) as caught:
        list(split_images(reader(data, [500] * 40), limit_bytes=4096))
    assert message in str(caught.value)


def test_whether_an_image_is_complete() -> None:
    for image in IMAGES:
        assert is_complete(image) is True
        assert is_complete(image + b"something after it") is True
        for n_bytes in (8, len(image) // 2, len(image) - 1):
            assert is_complete(image[:n_bytes]) is False
    assert is_complete(pillow(0, "BMP")) is None
    assert is_complete(b"") is None

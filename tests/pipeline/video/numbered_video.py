"""Videos that show their own frame numbers, in the shapes that decoders trip over."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.types import FrameRGB

SIZE_HW_PX = (96, 160)
BITS = 8
STRIPE_PX = SIZE_HW_PX[1] // BITS
IDENTITY = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
TURNS = {
    90: struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000),
    180: struct.pack(">9i", -0x10000, 0, 0, 0, -0x10000, 0, 0, 0, 0x40000000),
    270: struct.pack(">9i", 0, -0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000),
}


def numbered_frame(number: int) -> FrameRGB:
    """One white stripe for every set bit of the number, the lowest at the left, with noise of its own."""
    image = np.zeros((*SIZE_HW_PX, 3), np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            image[:, bit * STRIPE_PX : (bit + 1) * STRIPE_PX] = 255
    noise = np.random.default_rng(number).integers(0, 40, image.shape, dtype=np.uint8)
    return np.where(image > 0, image - noise, noise).astype(np.uint8)


def number_shown(image: FrameRGB) -> int:
    """The number that a frame of `numbered_frame` shows."""
    height_px, margin_px = image.shape[0], STRIPE_PX // 4
    row = image[height_px // 4 : height_px * 3 // 4].mean(axis=(0, 2))
    return sum(
        int(row[bit * STRIPE_PX + margin_px : (bit + 1) * STRIPE_PX - margin_px].mean() > 128) << bit
        for bit in range(BITS)
    )


def write_video(path: Path, codec: str, numbers: list[int] | range) -> Path:
    """Frames of these numbers, 25 a second; the file's suffix decides its container."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 25, (SIZE_HW_PX[1], SIZE_HW_PX[0])
    )
    assert writer.isOpened(), (path, codec)
    for number in numbers:
        writer.write(cv2.cvtColor(numbered_frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def picture_types(path: Path) -> str:
    """The kinds of pictures in an MPEG-2 stream, in the order of the file: I, P and B."""
    data = path.read_bytes()
    starts = (place for place in range(len(data) - 6) if data[place : place + 4] == b"\x00\x00\x01\x00")
    return "".join({1: "I", 2: "P", 3: "B"}.get((data[place + 5] >> 3) & 7, "") for place in starts)


def turn(path: Path, degrees: int) -> None:
    """Make players show an MP4 turned clockwise."""
    data = path.read_bytes()
    place = data.index(IDENTITY, data.index(b"tkhd"))
    path.write_bytes(data[:place] + TURNS[degrees] + data[place + len(IDENTITY) :])


def vary_frame_rate(path: Path, durations: list[tuple[int, int]]) -> None:
    """Give the frames of an MP4 durations, as (how many frames, ticks of each); its index must lie behind its data."""
    data = path.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    at = data.index(b"stts") - 4
    old_bytes = struct.unpack(">I", data[at : at + 4])[0]
    table = struct.pack(">4sII", b"stts", 0, len(durations)) + b"".join(struct.pack(">II", *each) for each in durations)
    new = struct.pack(">I", len(table) + 4) + table
    changed = bytearray(data[:at] + new + data[at + old_bytes :])
    for start in _boxes_around(data, at):
        size = struct.unpack(">I", data[start : start + 4])[0]
        changed[start : start + 4] = struct.pack(">I", size + len(new) - old_bytes)
    path.write_bytes(changed)


def announce(path: Path, n_frames: int) -> None:
    """Make an AVI claim another number of frames."""
    data = bytearray(path.read_bytes())
    main, stream = data.index(b"avih") + 8, data.index(b"strh") + 8
    struct.pack_into("<I", data, main + 16, n_frames)
    struct.pack_into("<I", data, stream + 32, n_frames)
    path.write_bytes(data)


def blank_frame(path: Path, number: int) -> None:
    """Leave the data of one frame of an AVI out of its index's reach: it is all zeros."""
    data = bytearray(path.read_bytes())
    place = data.index(b"movi") + 4
    for _ in range(number):
        place += 8 + _even(struct.unpack_from("<I", data, place + 4)[0])
    assert data[place : place + 4] == b"00dc"
    size = struct.unpack_from("<I", data, place + 4)[0]
    data[place + 8 : place + 8 + size] = bytes(size)
    path.write_bytes(data)


def _even(n_bytes: int) -> int:
    return n_bytes + n_bytes % 2


def _boxes_around(data: bytes, place: int) -> Iterator[int]:
    """Where the boxes of an MP4 start that hold a place."""
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        start = data.rindex(name, 0, place) - 4
        assert start + struct.unpack(">I", data[start : start + 4])[0] >= place
        yield start

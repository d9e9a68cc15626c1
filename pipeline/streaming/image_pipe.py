"""Split a byte stream of JPEG and PNG images, as ``ffmpeg -f image2pipe`` writes it, into single images.

An image is yielded as soon as its last byte has arrived, without waiting for the next one. Segment lengths are followed
rather than markers searched for, so a thumbnail inside an image is not mistaken for an image.

Formats: JPEG, ITU-T T.81, B.1.1; PNG, W3C Portable Network Graphics, 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_PADDING = b"\0\r\n"
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])
MAX_IMAGE_MIB = 64


class ImagePipeError(Exception):
    """The stream is not of the expected form. The message says what was expected and what arrived."""


class _Ended(Exception):
    """The stream ends within an image."""


class _Bytes:
    """A buffered byte stream. ``position`` is the number of bytes that left the buffer."""

    def __init__(self, read: Callable[[], bytes], limit_bytes: int) -> None:
        self._read, self._limit_bytes = read, limit_bytes
        self.buffer = bytearray()
        self.position = 0

    def need(self, n_bytes: int) -> None:
        """Read until the buffer has ``n_bytes`` bytes.

        Raises:
            _Ended: the stream ended before.
            ImagePipeError: one image is larger than the bound.
        """
        if n_bytes > self._limit_bytes:
            raise ImagePipeError(
                f"the image that begins at byte {self.position} is larger than {self._limit_bytes} bytes; "
                "expected JPEG or PNG images of video frames"
            )
        while len(self.buffer) < n_bytes:
            data = self._read()
            if not data:
                raise _Ended
            self.buffer += data

    def take(self, n_bytes: int) -> bytes:
        """Remove the first bytes from the buffer and return them."""
        data = bytes(self.buffer[:n_bytes])
        del self.buffer[:n_bytes]
        self.position += n_bytes
        return data

    def skip_padding(self) -> bool:
        """Skip zeros and line ends between images; False at the end of the stream."""
        while True:
            kept = self.buffer.lstrip(_PADDING)
            self.position += len(self.buffer) - len(kept)
            self.buffer = kept
            if kept:
                return True
            try:
                self.need(1)
            except _Ended:
                return False


def split_images(read: Callable[[], bytes], limit_bytes: int = MAX_IMAGE_MIB << 20) -> Iterator[bytes]:
    """Every image of a stream, still encoded; the last one may be incomplete.

    Args:
        read: returns the next available bytes; none at the end.
        limit_bytes: bound of one image.

    Raises:
        ImagePipeError: something other than JPEG and PNG images arrived, or an image is larger than the bound.
    """
    source = _Bytes(read, limit_bytes)
    while source.skip_padding():
        try:
            n_bytes = _image_bytes(source)
        except _Ended:
            yield source.take(len(source.buffer))
            return
        yield source.take(n_bytes)


def is_complete(data: bytes) -> bool | None:
    """Whether a JPEG or PNG is complete; None for other formats, where this is unknown."""
    if not data.startswith((_JPEG_START, _PNG_START)):
        return None
    source = _Bytes(lambda: b"", len(data) + (1 << 32))
    source.buffer += data
    try:
        _image_bytes(source)
    except _Ended:
        return False
    except ImagePipeError:
        return None
    return True


def _image_bytes(source: _Bytes) -> int:
    """The length in bytes of the image at the start of the buffer; afterwards the buffer has all of it.

    Raises:
        _Ended, ImagePipeError: see `split_images`.
    """
    source.need(2)
    if source.buffer[:2] == _JPEG_START:
        return _jpeg_bytes(source)
    if source.buffer[:2] == _PNG_START[:2]:
        source.need(len(_PNG_START))
        if source.buffer[: len(_PNG_START)] == _PNG_START:
            return _png_bytes(source)
    arrived = bytes(source.buffer[:12])
    raise ImagePipeError(
        f"expected JPEG or PNG images one after another, but byte {source.position} and on are {arrived!r}; "
        "`ffmpeg -i IN -f image2pipe -c:v mjpeg -q:v 2 -` writes them"
    )


def _jpeg_bytes(source: _Bytes) -> int:
    at = len(_JPEG_START)
    while True:
        source.need(at + 2)
        if source.buffer[at] != 0xFF:
            raise ImagePipeError(
                f"the JPEG that begins at byte {source.position} is damaged: expected a marker at its byte {at}, "
                f"but got {bytes(source.buffer[at : at + 4])!r}"
            )
        marker = source.buffer[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0xD9:
            return at + 2
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            source.need(at + 4)
            at += 2 + int.from_bytes(source.buffer[at + 2 : at + 4], "big")
            if marker == 0xDA:
                at = _after_scan(source, at)


def _after_scan(source: _Bytes, at: int) -> int:
    """The position of the next marker after the entropy-coded data at ``at``."""
    source.need(at + 2)
    while (found := _END_OF_SCAN.search(source.buffer, at)) is None:
        at = max(at, len(source.buffer) - 1)
        source.need(len(source.buffer) + 1)
    return found.start()


def _png_bytes(source: _Bytes) -> int:
    at = len(_PNG_START)
    while True:
        source.need(at + 8)
        kind = bytes(source.buffer[at + 4 : at + 8])
        at += 12 + int.from_bytes(source.buffer[at : at + 4], "big")
        source.need(at)
        if kind == b"IEND":
            return at

"""The queue of frames and answers is bounded; of a live source only the newest frame waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.batch.run import SegmentError
from pipeline.streaming.answers import MAX_LINE_BYTES, AnswerLines, open_answers
from pipeline.streaming.input_queue import MAX_LINES, InputQueue
from pipeline.streaming.sources import SourceFrame

SIZE_HW_PX = (256, 256)
FRAME_MIB = 256 * 256 * 3 / 2**20


def frames(n_frames: int) -> Iterator[SourceFrame]:
    for frame_index in range(n_frames):
        yield SourceFrame(frame_index, np.zeros((*SIZE_HW_PX, 3), np.uint8))


def reading(input_queue: InputQueue, source: Iterator[SourceFrame]) -> threading.Thread:
    thread = threading.Thread(target=input_queue.read_frames, args=(source,), daemon=True)
    thread.start()
    return thread


def taken(input_queue: InputQueue) -> list[int]:
    """All frames that wait now, and those that come into their room."""
    found = []
    while not input_queue.frames_ended:
        frame = input_queue.next_frame()
        if frame is not None:
            found.append(frame.frame_index)
        else:
            input_queue.wait_for_input(5)
    return found


def test_every_frame_passes_through_a_small_queue() -> None:
    made = []

    def source() -> Iterator[SourceFrame]:
        for frame in frames(60):
            made.append(frame.frame_index)
            yield frame

    input_queue = InputQueue(lambda: False, frames_mib=FRAME_MIB * 4.5)
    thread = reading(input_queue, source())
    time.sleep(0.2)
    assert len(made) == 5, "four wait and one is held up"
    assert taken(input_queue) == list(range(60))
    thread.join(5)
    assert not thread.is_alive()


def test_a_frame_larger_than_the_bound_passes() -> None:
    input_queue = InputQueue(lambda: False, frames_mib=0)
    reading(input_queue, frames(3))
    assert taken(input_queue) == [0, 1, 2]


def test_late_frames_are_dropped_but_prompted_ones_are_not() -> None:
    input_queue = InputQueue(lambda: True, never_dropped=[3, 7, 50])
    thread = reading(input_queue, frames(12))
    thread.join(5)
    assert taken(input_queue) == [3, 7, 11]


def test_frames_before_a_failure_are_delivered_first() -> None:
    def source() -> Iterator[SourceFrame]:
        yield from frames(2)
        raise SegmentError("the camera is gone")

    input_queue = InputQueue(lambda: False)
    reading(input_queue, source()).join(5)
    assert [input_queue.next_frame().frame_index for _ in range(2)] == [0, 1]
    with pytest.raises(SegmentError, match="the camera is gone"):
        input_queue.next_frame()


def test_closing_ends_the_readers() -> None:
    input_queue = InputQueue(lambda: False, frames_mib=0)
    readers = [
        reading(input_queue, frames(10**9)),
        threading.Thread(target=input_queue.read_lines, args=((b"x" for _ in range(10**9)),), daemon=True),
    ]
    readers[1].start()
    time.sleep(0.1)
    input_queue.close()
    for reader in readers:
        reader.join(5)
        assert not reader.is_alive()


def test_waiting_lines_are_bounded() -> None:
    input_queue = InputQueue(lambda: False)
    thread = threading.Thread(
        target=input_queue.read_lines, args=([b"%d" % k for k in range(MAX_LINES * 2)],), daemon=True
    )
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive(), "the writer is held up"
    found = []
    while not input_queue.lines_ended:
        line = input_queue.next_line()
        if line is None:
            input_queue.wait_for_line(1)
        else:
            found.append(int(line))
    assert found == list(range(MAX_LINES * 2))


def read_all(data: bytes, *, piece_bytes: int = 10**9) -> list[bytes]:
    source, sink = os.pipe()

    def write() -> None:
        for at in range(0, len(data), piece_bytes):
            os.write(sink, data[at : at + piece_bytes])
        os.close(sink)

    thread = threading.Thread(target=write)
    thread.start()
    found = list(AnswerLines(source, follow=False, stopping=threading.Event()))
    thread.join(5)
    os.close(source)
    return found


def test_chunks_become_lines_and_empty_ones_are_left_out() -> None:
    assert read_all(b"one\n\n  \r\ntwo\r\nlast without an end", piece_bytes=3) == [
        b"one",
        b"two\r",
        b"last without an end",
    ]
    assert read_all(b"") == []


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    found = read_all(b"before\n" + b"x" * (5 * MAX_LINE_BYTES) + b"\nafter\n")
    assert found == [b"before", b"x" * MAX_LINE_BYTES, b"after"]


def test_a_file_is_followed_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"first\nsec")
    descriptor, follow = open_answers(path)
    stopping, found = threading.Event(), []
    answers = AnswerLines(descriptor, follow=follow, stopping=stopping)
    assert answers.has_unread_lines
    thread = threading.Thread(target=lambda: found.extend(answers), daemon=True)
    thread.start()
    with path.open("ab") as file:
        time.sleep(0.2)
        file.write(b"ond\nthird\n")
        file.flush()
    time.sleep(0.4)
    assert not answers.has_unread_lines
    stopping.set()
    thread.join(5)
    assert found == [b"first", b"second", b"third"]


def test_a_named_pipe_may_have_several_writers(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    os.mkfifo(path)
    descriptor, follow = open_answers(path)
    given = iter(AnswerLines(descriptor, follow=follow, stopping=threading.Event()))
    for text in (b"one", b"two"):
        with path.open("wb") as writer:
            writer.write(text + b"\n")
        assert next(given) == text


def test_a_missing_file_of_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="No such file or directory; --answers needs a file, or a pipe made by"):
        open_answers(tmp_path / "nowhere")
    with pytest.raises(SegmentError, match="is a folder; --answers needs a file"):
        open_answers(tmp_path)

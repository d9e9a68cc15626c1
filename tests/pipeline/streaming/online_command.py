"""`ivos segment --online` as a process with pipes for frames, answers and events, and the clip for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.video.sample_clip import SampleClip, render_sample_clip
from tests.clips import REPOSITORY

COMMAND = "from ls_backend.cli.main import app; app()"
SIZE_HW_PX = (72, 128)
PATIENCE_S = 90


def small_clip(n_frames: int = 8) -> SampleClip:
    """So small that a frame takes little time."""
    return render_sample_clip(n_frames, SIZE_HW_PX)


def first_mask(folder: Path, clip: SampleClip, *, frame_index: int = 0) -> Path:
    """A prompts file with object 1's mask on one frame."""
    Image.fromarray(clip.labels[frame_index]).save(folder / "first.png")
    path = folder / "prompts.json"
    prompt = {"frame_index": frame_index, "mask_png": "first.png"}
    path.write_text(json.dumps({"version": 1, "objects": [{"object_id": 1, "name": "front", "prompts": [prompt]}]}))
    return path


def jpeg(frame_rgb: np.ndarray) -> bytes:
    data = cv2.imencode(".jpg", cv2.cvtColor(frame_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return bytes(data)


def video_file(path: Path, clip: SampleClip) -> Path:
    size_px = clip.frames.shape[2], clip.frames.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, size_px)
    for image in clip.frames:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def centre_xy_px(labels: np.ndarray, object_id: int) -> tuple[float, float]:
    """A place well inside an object."""
    depth = cv2.distanceTransform((labels == object_id).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x), float(y)


def masks_of(output: Path) -> dict[int, np.ndarray]:
    """The written labels by frame; every file must be a whole palette PNG."""
    found = {}
    for path in sorted((output / "masks").glob("[0-9]*.png")):
        with Image.open(path) as image:
            assert image.mode == "P"
            found[int(path.stem)] = np.asarray(image)
    return found


def iou(labels: np.ndarray, truth: np.ndarray, object_id: int, *, true_id: int | None = None) -> float:
    a, b = labels == object_id, truth == (object_id if true_id is None else true_id)
    return float((a & b).sum() / max(1, (a | b).sum()))


class Command:
    """The running program. ``has_ended`` says that no more lines come, or that nobody listens."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self.process, self.stdin, self._stdout = process, process.stdin, process.stdout
        self.events: list[dict[str, Any]] = []
        self.stderr = ""
        self._hung_up, self.has_ended = False, False
        self._came = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        for line in self._stdout:
            with self._came:
                self.events.append(json.loads(line))
                self._came.notify_all()
            if self._hung_up:
                break
        self._stdout.close()
        with self._came:
            self.has_ended = True
            self._came.notify_all()

    def hang_up(self) -> None:
        """Stop listening after the next line."""
        self._hung_up = True

    def _read_errors(self, stderr: Any) -> None:
        self.stderr = stderr.read().decode()

    def until(self, event: str, **keys: Any) -> dict[str, Any]:
        """Wait for a line; lines that came before count too."""
        with self._came:

            def found() -> dict[str, Any] | None:
                fitting = (e for e in self.events if e["event"] == event and keys.items() <= e.items())
                return next(fitting, None)

            self._came.wait_for(lambda: found() is not None or self.has_ended, PATIENCE_S)
            result = found()
        assert result is not None, (event, keys, self.events[-3:], self.process.poll(), self.stderr)
        return result

    def of(self, event: str) -> list[dict[str, Any]]:
        """All lines of one kind so far."""
        return [line for line in self.events if line["event"] == event]

    def send(self, data: bytes) -> None:
        self.stdin.write(data)
        self.stdin.flush()

    def answer(self, **keys: Any) -> None:
        self.send(json.dumps(keys).encode() + b"\n")

    def exit_code(self) -> int:
        """Wait for the end."""
        if not self.stdin.closed:
            self.stdin.close()
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def online(*arguments: str | Path) -> Iterator[Command]:
    """Run the command with the download-free segmenter; nothing is left of it afterwards."""
    words = [sys.executable, "-c", COMMAND, "segment", "--online", "--segmenter", "lite", "--device", "cpu"]
    process = subprocess.Popen(
        [*words, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Command(process)
    finally:
        process.kill()
        process.wait()


def eventually(condition: Any) -> None:
    """Wait until a condition is true."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)

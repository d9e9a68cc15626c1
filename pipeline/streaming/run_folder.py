"""The folder and the events of `ivos segment --online`, for a video of unknown length.

Of a finished frame only a few numbers per object stay in memory; masks and events are written at once. Masks and the
summary take their names only when they are complete; ``events.jsonl`` grows line by line.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from model_zoo.files import write_atomically
from pipeline.batch.run_folder import MASKS_NAME, ResultFolder
from pipeline.batch.summary import (
    FrameRanges,
    ObjectScores,
    OnlineSummary,
    RunFolderError,
    RunInputs,
    Summary,
    read_summary,
)
from pipeline.cli.console import print_note
from pipeline.streaming.protocol import Event
from pipeline.types import FrameResult, FrameRGB

EVENTS_NAME, REQUESTS_NAME = "events.jsonl", "requests"
REQUEST_IMAGES_MIB = 64
"""Bound of the images of frames on which help was requested; the oldest are deleted first."""


class OnlineRunFolder(ResultFolder):
    """Writes one run. A frame may be written again until the next one is added.

    Args:
        folder: made where missing.
        names: of the objects that are known from the start, by object id.
    """

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        super().__init__(folder, names)
        self._done, self._dropped = FrameRanges(), FrameRanges()
        self._request_images: deque[tuple[Path, int]] = deque()
        self._pixels = hashlib.sha256()

    @property
    def n_frames(self) -> int:
        """Frames of the source so far."""
        return self.n_done + self.n_dropped + self.n_missing

    @property
    def n_done(self) -> int:
        """Frames that were segmented."""
        return self._done.n_frames

    @property
    def n_dropped(self) -> int:
        """Frames that were skipped because newer ones had arrived."""
        return self._dropped.n_frames

    @property
    def n_missing(self) -> int:
        """Frames that could not be read."""
        return len(self._failed)

    def check(self, *, overwrite: bool) -> None:
        """Check whether the folder may be written; nothing is changed.

        Raises:
            RunFolderError: it holds an earlier run that is not to be replaced, or something else.
        """
        if read_summary(self._folder) is not None and not overwrite:
            raise RunFolderError(
                f"{self._folder} holds an earlier run; --overwrite replaces it (a single pass cannot be resumed)"
            )

    def clear(self) -> None:
        """Make the folder, or delete an earlier run's files in it and nothing else.

        Raises:
            RunFolderError: it cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._delete_files(MASKS_NAME, "png")
            self._delete_files(REQUESTS_NAME, "jpg")
            (self._folder / EVENTS_NAME).write_bytes(b"")
        except OSError as error:
            raise RunFolderError(f"{error.filename} cannot be replaced: {error.strerror}") from error

    def add_event(self, line: str) -> None:
        """Add a line to ``events.jsonl``.

        Raises:
            RunFolderError: the file cannot be written.
        """
        try:
            with (self._folder / EVENTS_NAME).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise RunFolderError(f"{self._folder / EVENTS_NAME} cannot be written: {error.strerror}") from error

    def add_dropped(self, frame_index: int) -> None:
        """Add a frame that was skipped."""
        self._dropped.add(frame_index)

    def add_missing(self, frame_index: int, reason: str) -> None:
        """Add a frame that could not be read."""
        self._failed[frame_index] = reason

    def add(self, frame_index: int, image: FrameRGB, results: Sequence[FrameResult]) -> str | None:
        """Add a frame and write its masks.

        Returns:
            The file of the masks relative to the folder, None where there is no object yet.

        Raises:
            RunFolderError: the file cannot be written.
        """
        self._pixels.update(np.ascontiguousarray(image).data)
        self._done.add(frame_index)
        return self.write(frame_index, results)

    def write(self, frame_index: int, results: Sequence[FrameResult]) -> str | None:
        """Write the masks of the newest frame, also again after they changed; see `add`."""
        if not results:
            return None
        for result in results:
            scores = self._scores.setdefault(result.object_id, ObjectScores())
            scores.set(frame_index, result.score, visible=result.mask.area_px > 0)
            if result.prompted:
                scores.add_prompted(frame_index)
        path = self._write_masks(frame_index, {result.object_id: result.mask for result in results})
        return f"{MASKS_NAME}/{path.name}"

    def write_request_image(self, frame_index: int, image: FrameRGB) -> str | None:
        """Write a frame on which help is requested.

        Returns:
            Its file relative to the folder, None where it cannot be written.
        """
        path = self._folder / REQUESTS_NAME / f"{frame_index:05d}.jpg"
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data.tobytes())
        except OSError:
            return None
        self._request_images.append((path, int(data.nbytes)))
        while sum(n_bytes for _, n_bytes in self._request_images) > REQUEST_IMAGES_MIB << 20:
            self._request_images.popleft()[0].unlink(missing_ok=True)
        return f"{REQUESTS_NAME}/{path.name}"

    def write_summary(
        self, inputs: RunInputs, online: OnlineSummary, *, complete: bool, run_s: float, segment_s: float
    ) -> Summary:
        """Write the summary of all results so far; the length and the hash of the video in ``inputs`` are filled in.

        Raises:
            RunFolderError: the file cannot be written.
        """
        video = inputs.video.model_copy(update={"frames": self.n_frames, "sha256": self._pixels.hexdigest()})
        return self._write_summary(
            inputs.model_copy(update={"video": video}),
            self._done,
            complete=complete and all(self._is_gapless(scores) for scores in self._scores.values()),
            run_s=run_s,
            segment_s=segment_s,
            online=online.model_copy(update={"dropped": self._dropped.ranges}),
        )

    def _is_gapless(self, scores: ObjectScores) -> bool:
        """Whether an object has a score on every finished frame from its first one on."""
        return scores.n_masks > 0 and scores.n_masks == self._done.n_from(scores.frames[0])


class EventWriter:
    """Writes every event as one line on standard output and in ``events.jsonl``.

    If standard output is closed, the run continues, and events go into the folder alone.
    """

    def __init__(self, folder: OnlineRunFolder) -> None:
        self._folder, self._stdout_open = folder, True

    def emit(self, event: Event) -> None:
        """Write one event.

        Raises:
            RunFolderError: ``events.jsonl`` cannot be written.
        """
        line = event.model_dump_json()
        self._folder.add_event(line)
        if not self._stdout_open:
            return
        try:
            sys.stdout.buffer.write(line.encode() + b"\n")
            sys.stdout.buffer.flush()
        except OSError as error:
            self._stdout_open = False
            # What is still buffered would fail again when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print_note(f"note: standard output: {error.strerror}; further events are only in the output folder")

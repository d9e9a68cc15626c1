"""The folder that `ivos segment --online` writes: masks, events and a summary, of a video whose length nobody knows.

Of a frame that is done only a few numbers per object stay in memory; masks and events go to disk at once. Files of
masks and the summary take their names only when they are complete; ``events.jsonl`` grows line by line.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.batch.run_folder import MASKS_NAME, write_mask_png
from pipeline.batch.summary import (
    SUMMARY_NAME,
    FailedFrame,
    OnlineSummary,
    RunFolderError,
    RunInputs,
    Summary,
    json_text,
    read_summary,
)
from pipeline.export.davis import paint_masks
from pipeline.streaming.scores import FrameRanges, ObjectScores
from pipeline.types import FrameResult, FrameRGB

EVENTS_NAME, REQUESTS_NAME = "events.jsonl", "requests"
REQUEST_IMAGES_MIB = 64
"""Bound of the images of frames on which help was asked for; the oldest go first."""


class OnlineRunFolder:
    """Writes one run. A frame may be written again until the next one is begun.

    Args:
        folder: made where missing.
        names: of the objects that are known from the start, by object id.
    """

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self._folder, self._names = folder, dict(names)
        self._scores: dict[int, ObjectScores] = {object_id: ObjectScores() for object_id in names}
        self._done, self._dropped = FrameRanges(), FrameRanges()
        self._failed: list[FailedFrame] = []
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
        """Frames that were not looked at."""
        return self._dropped.n_frames

    @property
    def n_missing(self) -> int:
        """Frames that could not be read."""
        return len(self._failed)

    def check(self, *, overwrite: bool) -> None:
        """See whether the folder may be written; nothing is touched.

        Raises:
            RunFolderError: it holds something that is not to be touched.
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
            for folder, suffix in ((MASKS_NAME, "png"), (REQUESTS_NAME, "jpg")):
                for path in (self._folder / folder).glob(f"*.{suffix}"):
                    if path.stem.removeprefix(".").removesuffix(".part").isdigit():
                        path.unlink()
            (self._folder / EVENTS_NAME).write_bytes(b"")
        except OSError as error:
            raise RunFolderError(f"{error.filename} cannot be replaced: {error.strerror}") from error

    def log(self, line: str) -> None:
        """Add a line to the events.

        Raises:
            RunFolderError: the file cannot be written.
        """
        try:
            with (self._folder / EVENTS_NAME).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise RunFolderError(f"{self._folder / EVENTS_NAME} cannot be written: {error.strerror}") from error

    def drop(self, frame_index: int) -> None:
        """Note that a frame was not looked at."""
        self._dropped.add(frame_index)

    def fail(self, frame_index: int, reason: str) -> None:
        """Note that a frame could not be read."""
        self._failed.append(FailedFrame(frame_index=frame_index, reason=reason))

    def add(self, frame_index: int, image: FrameRGB, results: Sequence[FrameResult]) -> str | None:
        """Begin a frame and write its masks; gives their file relative to the folder, None where no object has begun.

        Raises:
            RunFolderError: the file cannot be written.
        """
        self._pixels.update(np.ascontiguousarray(image).data)
        self._done.add(frame_index)
        return self.write(frame_index, results)

    def write(self, frame_index: int, results: Sequence[FrameResult]) -> str | None:
        """Write the newest frame's masks, again where they changed, see `add`."""
        if not results:
            return None
        for result in results:
            scores = self._scores.setdefault(result.object_id, ObjectScores())
            visible = result.mask.area_px > 0
            scores.set(frame_index, result.score, visible=visible, prompted=result.prompted)
        ordered = sorted(results, key=lambda result: result.object_id)
        size_hw_px = ordered[0].mask.height_px, ordered[0].mask.width_px
        labels, _ = paint_masks(((result.object_id, result.mask.decode()) for result in ordered), size_hw_px)
        path = self._folder / MASKS_NAME / f"{frame_index:05d}.png"
        write_mask_png(labels, path)
        return f"{MASKS_NAME}/{path.name}"

    def keep_request_image(self, frame_index: int, image: FrameRGB) -> str | None:
        """Write a frame for whoever is asked about it; gives its file relative to the folder, None when it cannot."""
        path = self._folder / REQUESTS_NAME / f"{frame_index:05d}.jpg"
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.tobytes())
        except OSError:
            return None
        self._request_images.append((path, int(data.nbytes)))
        while sum(n_bytes for _, n_bytes in self._request_images) > REQUEST_IMAGES_MIB << 20:
            self._request_images.popleft()[0].unlink(missing_ok=True)
        return f"{REQUESTS_NAME}/{path.name}"

    def write_summary(
        self, inputs: RunInputs, online: OnlineSummary, *, complete: bool, run_s: float, segment_s: float
    ) -> Summary:
        """Write the summary of what is known now; the length and the contents in ``inputs`` are filled in.

        Raises:
            RunFolderError: the file cannot be written.
        """
        video = inputs.video.model_copy(update={"frames": self.n_frames, "sha256": self._pixels.hexdigest()})
        done = self._done.n_frames
        summary = Summary(
            **{name: getattr(inputs, name) for name in RunInputs.model_fields if name != "video"},
            video=video,
            complete=complete and all(scores.is_gapless(self._done) for scores in self._scores.values()),
            frames_done=self._done.found,
            failed_frames=self._failed,
            seconds=round(run_s, 2),
            seconds_per_frame=round(segment_s / done, 4) if done else None,
            objects=[
                scores.summary(object_id, self._names.get(object_id, ""), self.n_frames)
                for object_id, scores in sorted(self._scores.items())
            ],
            online=online.model_copy(update={"dropped": self._dropped.found}),
        )
        path = self._folder / SUMMARY_NAME
        draft = path.with_name(f".{SUMMARY_NAME}.part")
        try:
            draft.write_text(json_text(summary), encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error
        return summary

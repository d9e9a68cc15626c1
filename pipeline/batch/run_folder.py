"""The folder a segmentation run writes: ``masks/NNNNN.png`` and ``summary.json``, from which a later run goes on.

Masks are palette PNGs as DAVIS has them; one appears when the first object's mask of its frame is known and is written
anew when another's arrives. Files take their names only when they are complete. A mask counts as known when the
summary says so, however many PNGs lie beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.batch.summary import (
    SUMMARY_NAME,
    FailedFrame,
    FrameScore,
    NextFrame,
    ObjectSummary,
    RunFolderError,
    RunInputs,
    Summary,
    json_text,
)
from pipeline.export.davis import paint_masks, write_palette_png
from pipeline.session.next_frame import Suggestion
from pipeline.types import FrameResult, RunLengthMask

MASKS_NAME = "masks"
LOWEST_SCORES = 5
_SCORE_DIGITS = 4


def write_mask_png(labels: NDArray[np.uint8], path: Path) -> None:
    """Write object ids (H, W) as a palette PNG that takes its name only when it is complete.

    Raises:
        RunFolderError: it cannot be written.
    """
    draft = path.with_name(f".{path.stem}.part.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_palette_png(labels, draft)
        os.replace(draft, path)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error


class RunFolder:
    """Writes one run's masks and summary.

    Args:
        folder: made where missing.
        inputs: what the run is made from.
        names: of the objects, by object id.
        prompted_frames: of the objects, by object id.
    """

    def __init__(
        self,
        folder: Path,
        inputs: RunInputs,
        names: Mapping[int, str],
        prompted_frames: Mapping[int, Sequence[int]],
    ) -> None:
        self._folder, self._inputs, self._names = folder, inputs, dict(names)
        self._prompted = {object_id: sorted(set(frames)) for object_id, frames in prompted_frames.items()}
        self._masks: dict[int, dict[int, RunLengthMask]] = {}
        self._scores: dict[int, list[float | None]] = {
            object_id: [None] * inputs.video.frames for object_id in sorted(names)
        }
        self._failed: dict[int, str] = {}
        self._next_frames: list[NextFrame] = []
        self._n_masks = 0
        self._earlier_s, self._earlier_segment_s = 0.0, 0.0

    @property
    def done_frames(self) -> list[int]:
        """The frames on which every object has a mask, ascending."""
        columns = zip(*self._scores.values(), strict=True)
        return [frame for frame, scores in enumerate(columns) if None not in scores]

    @property
    def n_masks(self) -> int:
        """Masks known, all objects together, empty ones included."""
        return self._n_masks

    @property
    def failed_frames(self) -> Mapping[int, str]:
        """Reasons by index of the frames that cannot be read, as far as met."""
        return dict(self._failed)

    @property
    def is_complete(self) -> bool:
        """Whether every object has a mask on every frame that can be read."""
        return len(set(self.done_frames) | set(self._failed)) == self._inputs.video.frames

    def clear(self) -> None:
        """Delete an earlier run's masks and summary, and nothing else.

        Raises:
            RunFolderError: a file cannot be deleted.
        """
        try:
            # The summary last: a folder without one is taken for someone else's.
            for path in sorted((self._folder / MASKS_NAME).glob("*.png")):
                if path.stem.removeprefix(".").removesuffix(".part").isdigit():
                    path.unlink()
            (self._folder / SUMMARY_NAME).unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(f"{error.filename} cannot be deleted: {error.strerror}") from error

    def restore(self, earlier: Summary) -> list[FrameResult]:
        """Take over what an interrupted run left; a mask whose PNG is gone or damaged is not taken over.

        Raises:
            RunFolderError: the earlier run had other inputs.
        """
        difference = self._inputs.difference(earlier)
        if difference is not None:
            raise RunFolderError(
                f"{self._folder} holds a run {difference}; choose another folder, or --overwrite to start afresh"
            )
        self._failed = {failed.frame_index: failed.reason for failed in earlier.failed_frames}
        self._earlier_s, self._next_frames = earlier.seconds, earlier.next_frames
        scores = {entry.object_id: entry.scores for entry in earlier.objects}
        results = []
        for frame_index in range(self._inputs.video.frames):
            known = {object_id: by_frame[frame_index] for object_id, by_frame in scores.items()}
            found = {object_id: score for object_id, score in known.items() if score is not None}
            results += self._restored(frame_index, found) if found else []
        self._earlier_segment_s = (earlier.seconds_per_frame or 0.0) * len(self.done_frames)
        return results

    def _restored(self, frame_index: int, scores: Mapping[int, float]) -> list[FrameResult]:
        size_hw_px = self._inputs.video.height_px, self._inputs.video.width_px
        try:
            with Image.open(self._mask_file(frame_index), formats=["PNG"]) as image:
                labels = np.asarray(image)
        except (OSError, SyntaxError):
            return []
        if labels.shape != size_hw_px:
            return []
        results = []
        for object_id, score in scores.items():
            mask = RunLengthMask.encode(np.asarray(labels == object_id))
            prompted = frame_index in self._prompted[object_id]
            results.append(FrameResult(object_id, frame_index, mask, score, prompted))
            self._take(results[-1])
        return results

    def add(self, result: FrameResult) -> None:
        """Take a mask and write its frame.

        Raises:
            RunFolderError: the file cannot be written.
        """
        self._take(result)
        size_hw_px = self._inputs.video.height_px, self._inputs.video.width_px
        present = ((object_id, mask.decode()) for object_id, mask in sorted(self._masks[result.frame_index].items()))
        labels, _ = paint_masks(present, size_hw_px)
        path = self._mask_file(result.frame_index)
        write_mask_png(labels, path)

    def fail(self, reasons: Mapping[int, str]) -> None:
        """Note the frames that could not be read."""
        self._failed.update(reasons)

    def suggest(self, suggestions: Iterable[Suggestion]) -> None:
        """Note which frames are worth correcting, the best first."""
        digits = {"x_px": 1, "y_px": 1, "gain": _SCORE_DIGITS, "score": _SCORE_DIGITS}
        self._next_frames = [
            NextFrame(**{k: round(v, digits[k]) if k in digits else v for k, v in asdict(each).items()})
            for each in suggestions
        ]

    def write_summary(self, *, run_s: float, segment_s: float) -> Summary:
        """Write the summary of what is known now.

        Args:
            run_s: seconds of this run so far.
            segment_s: of these, seconds of segmentation.

        Raises:
            RunFolderError: the file cannot be written.
        """
        done = self.done_frames
        summary = Summary(
            **{name: getattr(self._inputs, name) for name in RunInputs.model_fields},
            complete=self.is_complete,
            frames_done=_ranges(done),
            failed_frames=[FailedFrame(frame_index=k, reason=reason) for k, reason in sorted(self._failed.items())],
            seconds=round(self._earlier_s + run_s, 2),
            seconds_per_frame=round((self._earlier_segment_s + segment_s) / len(done), 4) if done else None,
            objects=[self._object(object_id) for object_id in self._scores],
            next_frames=self._next_frames,
        )
        path = self._folder / SUMMARY_NAME
        draft = path.with_name(f".{SUMMARY_NAME}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(json_text(summary), encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error
        return summary

    def _take(self, result: FrameResult) -> None:
        self._n_masks += self._scores[result.object_id][result.frame_index] is None
        self._masks.setdefault(result.frame_index, {})[result.object_id] = result.mask
        self._scores[result.object_id][result.frame_index] = round(float(result.score), _SCORE_DIGITS)

    def _mask_file(self, frame_index: int) -> Path:
        return self._folder / MASKS_NAME / f"{frame_index:05d}.png"

    def _object(self, object_id: int) -> ObjectSummary:
        scores = self._scores[object_id]
        known = {frame_index: score for frame_index, score in enumerate(scores) if score is not None}
        guessed = {k: score for k, score in known.items() if k not in self._prompted[object_id]}
        lowest = sorted(guessed, key=lambda frame_index: (guessed[frame_index], frame_index))[:LOWEST_SCORES]
        return ObjectSummary(
            object_id=object_id,
            name=self._names[object_id],
            prompted_frames=self._prompted[object_id],
            frames_with_mask=sum(self._masks[frame_index][object_id].area_px > 0 for frame_index in known),
            mean_score=round(sum(known.values()) / len(known), _SCORE_DIGITS) if known else None,
            lowest_scores=[FrameScore(frame_index=k, score=guessed[k]) for k in lowest],
            scores=scores,
        )


def _ranges(frame_indices: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending frames as inclusive ranges."""
    found: list[tuple[int, int]] = []
    for frame_index in frame_indices:
        if found and found[-1][1] == frame_index - 1:
            found[-1] = found[-1][0], frame_index
        else:
            found.append((frame_index, frame_index))
    return found

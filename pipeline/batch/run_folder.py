"""The folder of a segmentation run: ``masks/NNNNN.png`` and ``summary.json``, from which a later run can continue.

Masks are palette PNGs in the layout of DAVIS. Files take their names only when they are complete. A mask counts as
done when the summary has its score, even if more PNGs are in the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from model_zoo.files import atomic_path
from pipeline.batch.summary import (
    SCORE_DIGITS,
    SUMMARY_NAME,
    FailedFrame,
    FrameRanges,
    NextFrame,
    ObjectScores,
    OnlineSummary,
    RunFolderError,
    RunInputs,
    Summary,
    write_summary,
)
from pipeline.export.davis import paint_masks, write_palette_png
from pipeline.session.next_frame import Suggestion
from pipeline.types import FrameResult, RunLengthMask

MASKS_NAME = "masks"
_FRAME_FILE = re.compile(r"\d+|\.\d+(\.\d+-\d+)?\.part")
"""Stems of a frame's file, and of the hidden one it is written to first, which a killed run leaves behind."""


class ResultFolder:
    """Writes masks and the summary. Base of the folders of batch and online runs.

    Args:
        folder: made where missing.
        names: of the objects, by object id.
        prompted_frames: frames with prompts, by object id; not all need to be known at the start.
    """

    def __init__(
        self, folder: Path, names: Mapping[int, str], prompted_frames: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        self._folder, self._names = folder, dict(names)
        self._scores = {k: ObjectScores((prompted_frames or {}).get(k, ())) for k in sorted(names)}
        self._failed: dict[int, str] = {}

    def _mask_file(self, frame_index: int) -> Path:
        return self._folder / MASKS_NAME / f"{frame_index:05d}.png"

    def _write_masks(self, frame_index: int, masks: Mapping[int, RunLengthMask]) -> Path:
        """Write the masks of a frame, by object id, as one palette PNG; returns its path.

        Raises:
            RunFolderError: it cannot be written.
        """
        path = self._mask_file(frame_index)
        any_mask = next(iter(masks.values()))
        size_hw_px = any_mask.height_px, any_mask.width_px
        labels, _ = paint_masks(((object_id, mask.decode()) for object_id, mask in sorted(masks.items())), size_hw_px)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as draft:
                write_palette_png(labels, draft)
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def _delete_files(self, folder_name: str, suffix: str) -> None:
        """Delete the files of frames in a folder, and nothing else.

        Raises:
            OSError: a file cannot be deleted.
        """
        for path in sorted((self._folder / folder_name).glob(f"*.{suffix}")):
            if _FRAME_FILE.fullmatch(path.stem):
                path.unlink()

    def _write_summary(
        self,
        inputs: RunInputs,
        done: FrameRanges,
        *,
        complete: bool,
        run_s: float,
        segment_s: float,
        next_frames: Sequence[NextFrame] = (),
        online: OnlineSummary | None = None,
    ) -> Summary:
        """Write the summary of all results so far.

        Raises:
            RunFolderError: the file cannot be written.
        """
        summary = Summary(
            **dict(inputs),
            complete=complete,
            frames_done=done.ranges,
            failed_frames=[FailedFrame(frame_index=k, reason=reason) for k, reason in sorted(self._failed.items())],
            seconds=round(run_s, 2),
            seconds_per_frame=round(segment_s / done.n_frames, 4) if done.n_frames else None,
            objects=[
                scores.summary(object_id, self._names.get(object_id, ""), inputs.video.frames)
                for object_id, scores in sorted(self._scores.items())
            ],
            next_frames=list(next_frames),
            online=online,
        )
        write_summary(self._folder, summary)
        return summary


class RunFolder(ResultFolder):
    """The folder of a run over a whole clip. A frame's PNG is written again whenever one of its masks arrives.

    Args:
        folder: made where missing.
        inputs: what the run is made from.
        names: of the objects, by object id.
        prompted_frames: frames with prompts, by object id.
    """

    def __init__(
        self,
        folder: Path,
        inputs: RunInputs,
        names: Mapping[int, str],
        prompted_frames: Mapping[int, Sequence[int]],
    ) -> None:
        super().__init__(folder, names, prompted_frames)
        self._inputs = inputs
        self._masks: dict[int, dict[int, RunLengthMask]] = {}
        self._next_frames: list[NextFrame] = []
        self._earlier_s, self._earlier_segment_s = 0.0, 0.0

    @property
    def done_frames(self) -> list[int]:
        """The frames on which every object has a mask, ascending."""
        return sorted(set.intersection(*(set(scores.frames) for scores in self._scores.values())))

    @property
    def n_masks(self) -> int:
        """Masks of all objects together, empty ones included."""
        return sum(scores.n_masks for scores in self._scores.values())

    @property
    def failed_frames(self) -> Mapping[int, str]:
        """Frames that could not be read so far: the reasons by index."""
        return dict(self._failed)

    @property
    def is_complete(self) -> bool:
        """Whether every object has a mask on every readable frame."""
        return len(set(self.done_frames) | set(self._failed)) == self._inputs.video.frames

    def clear(self) -> None:
        """Delete an earlier run's masks and summary, and nothing else.

        Raises:
            RunFolderError: a file cannot be deleted.
        """
        try:
            # The summary goes last: a folder without one is not recognised as a run's.
            self._delete_files(MASKS_NAME, "png")
            (self._folder / SUMMARY_NAME).unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(f"{error.filename} cannot be deleted: {error.strerror}") from error

    def restore(self, earlier: Summary) -> list[FrameResult]:
        """Load the masks of an interrupted run. One whose PNG is missing or damaged is left out.

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
            on_frame = {object_id: by_frame[frame_index] for object_id, by_frame in scores.items()}
            results += self._load_frame(frame_index, {k: score for k, score in on_frame.items() if score is not None})
        self._earlier_segment_s = (earlier.seconds_per_frame or 0.0) * len(self.done_frames)
        return results

    def _load_frame(self, frame_index: int, scores: Mapping[int, float]) -> list[FrameResult]:
        """The masks of the objects that have a score on a frame; none where its PNG is missing or damaged."""
        if not scores:
            return []
        try:
            with Image.open(self._mask_file(frame_index), formats=["PNG"]) as image:
                labels = np.asarray(image)
        except (OSError, SyntaxError):
            return []
        if labels.shape != (self._inputs.video.height_px, self._inputs.video.width_px):
            return []
        results = []
        for object_id, score in scores.items():
            mask = RunLengthMask.encode(np.asarray(labels == object_id))
            prompted = self._scores[object_id].is_prompted(frame_index)
            results.append(FrameResult(object_id, frame_index, mask, score, prompted))
            self._store(results[-1])
        return results

    def add(self, result: FrameResult) -> None:
        """Add a mask and write its frame.

        Raises:
            RunFolderError: the file cannot be written.
        """
        self._store(result)
        self._write_masks(result.frame_index, self._masks[result.frame_index])

    def _store(self, result: FrameResult) -> None:
        self._masks.setdefault(result.frame_index, {})[result.object_id] = result.mask
        self._scores[result.object_id].set(result.frame_index, result.score, visible=result.mask.area_px > 0)

    def add_failed(self, reasons: Mapping[int, str]) -> None:
        """Add frames that could not be read: reasons by index."""
        self._failed.update(reasons)

    def set_suggestions(self, suggestions: Iterable[Suggestion]) -> None:
        """Set the frames that are worth correcting, the most useful first."""
        digits = {"x_px": 1, "y_px": 1, "gain": SCORE_DIGITS, "score": SCORE_DIGITS}
        self._next_frames = [
            NextFrame(**{k: round(v, digits[k]) if k in digits else v for k, v in asdict(each).items()})
            for each in suggestions
        ]

    def write_summary(self, *, run_s: float, segment_s: float) -> Summary:
        """Write the summary of all results so far.

        Args:
            run_s: seconds of this run so far.
            segment_s: of these, seconds of segmentation.

        Raises:
            RunFolderError: the file cannot be written.
        """
        return self._write_summary(
            self._inputs,
            FrameRanges(self.done_frames),
            complete=self.is_complete,
            run_s=self._earlier_s + run_s,
            segment_s=self._earlier_segment_s + segment_s,
            next_frames=self._next_frames,
        )

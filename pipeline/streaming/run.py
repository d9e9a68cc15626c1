"""`ivos segment --online`: one pass over frames as they arrive; requests for help go out, answers come in."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Literal

from pipeline.batch.prompt_file import PromptFile, PromptFileError, pipeline_prompts, read_prompt_file
from pipeline.batch.run import SegmentError
from pipeline.batch.summary import OnlineSummary, Summary
from pipeline.cli.console import print_note
from pipeline.cli.stopping import StopRequest
from pipeline.streaming.answers import AnswerHandler, AnswerLines, in_background_of_terminal, open_answers
from pipeline.streaming.input_queue import InputQueue
from pipeline.streaming.options import (
    STDIN_DESCRIPTOR,
    OnlineOptions,
    open_session,
    open_source,
    run_inputs,
    shown_source,
)
from pipeline.streaming.protocol import EndEvent, FrameEvent, ObjectOnFrame, RequestEvent, StartEvent
from pipeline.streaming.run_folder import EventWriter, OnlineRunFolder
from pipeline.streaming.session import HelpRequest, OnlineFrame
from pipeline.streaming.sources import STDIN, SourceFrame
from pipeline.types import FrameRGB, Prompt

Ended = Literal["running", "source_ended", "source_failed", "interrupted"]

_POLL_S = 0.1
_ENDLESS_FRAMES = 1 << 62
_JOIN_S = 1.0
SUMMARY_EVERY_S = 5.0
_SUMMARY_SHARE = 50
"""The summary grows with the video, so writing it may take at most this share of the time: 1 / 50."""


class OnlineRun:
    """One run of the command.

    Args:
        options: the options of the command.
        stop: a request to stop; the run ends after the current frame.

    Raises:
        SegmentError, PromptFileError, RunFolderError: an input cannot be used.
    """

    def __init__(self, options: OnlineOptions, stop: StopRequest) -> None:
        options.check()
        self._options, self._stop = options, stop
        self._started_s, self._segment_s, self._summary_due_s = time.monotonic(), 0.0, 0.0
        self._prompt_file = None if options.prompts is None else read_prompt_file(options.prompts)
        self._prompts: dict[int, list[Prompt]] | None = None
        self._all_prompts: tuple[Prompt, ...] = ()
        self._size_hw_px: tuple[int, int] | None = None
        self._output_started, self._n_requests, self._n_prompted_missing = False, 0, 0
        self._ended: Ended = "running"
        self._readers: list[threading.Thread] = []
        self._folder = OnlineRunFolder(options.output, _object_names(self._prompt_file))
        self._folder.check(overwrite=options.overwrite)
        self._stopping = threading.Event()
        self._answers = _answers(options.answers_from, self._stopping)
        self._session = open_session(options)
        self._source = open_source(options, self._stopping, print_note)
        self._input_queue = InputQueue(self._drops_late, _prompted_frames(self._prompt_file))
        self._events = EventWriter(self._folder)
        self._answer_handler = AnswerHandler(self._input_queue, self._session, self._events.emit, self._rewrite)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run."""
        return self._ended == "interrupted"

    @property
    def is_still_reading(self) -> bool:
        """Whether the source's thread still runs after the end: reading a stalled stream returns late."""
        return any(reader.is_alive() for reader in self._readers if reader.name == "frames")

    def progress_line(self) -> str:
        """The progress of the run, in one line."""
        if not self._output_started:
            return "no frame had arrived, nothing was written"
        return f"{self._folder.n_done} frames are done and written to {self._options.output}"

    def run(self) -> None:
        """Process all frames until the source ends or a signal arrives; finished frames are written in any case.

        Raises:
            SegmentError: the source cannot be read, or failed.
            PromptFileError: the prompts do not fit the frames.
            RunFolderError: the output folder cannot be written.
        """
        readers = self._readers = self._reader_threads()
        failure: SegmentError | PromptFileError | None = None
        try:
            for reader in readers:
                reader.start()
            self._process_frames()
            self._ended = "interrupted" if self._stop.requested else "source_ended"
        except (SegmentError, PromptFileError) as error:
            self._ended, failure = "source_failed", error
        finally:
            self._stopping.set()
            self._input_queue.close()
            if self._output_started:
                self._finish(failure)
            # A reader that waits for bytes does not return; it ends with the process.
            for reader in readers:
                reader.join(_JOIN_S if reader.is_alive() and reader.name == "frames" else 0)
        if failure is not None:
            raise failure

    def _drops_late(self) -> bool:
        return self._source.live if self._options.drop_late is None else self._options.drop_late

    def _reader_threads(self) -> list[threading.Thread]:
        """The threads that read frames and answers."""

        def read_frames() -> None:
            self._input_queue.read_frames(self._source.frames())

        return [
            threading.Thread(target=read_frames, name="frames", daemon=True),
            threading.Thread(
                target=self._input_queue.read_lines, args=(self._answers or (),), name="answers", daemon=True
            ),
        ]

    def _process_frames(self) -> None:
        while not self._stop.requested:
            if self._output_started:
                self._answer_handler.process()
            frame = self._input_queue.next_frame()
            if frame is not None:
                self._process_frame(frame)
            elif self._input_queue.frames_ended:
                return
            else:
                self._input_queue.wait_for_input(_POLL_S)

    def _process_frame(self, frame: SourceFrame) -> None:
        image, reason = frame.image, frame.reason
        if image is not None and self._size_hw_px is None:
            self._set_size(image)
        elif image is not None and image.shape[:2] != self._size_hw_px:
            height_px, width_px = self._size_hw_px or (0, 0)
            reason = f"is {image.shape[1]}x{image.shape[0]} px, but the video is {width_px}x{height_px} px"
            image = None
        self._start_output()
        dropped = frame.frame_index - self._session.n_frames
        for frame_index in range(self._session.n_frames, frame.frame_index):
            self._session.feed(None)
            self._folder.add_dropped(frame_index)
        if image is None:
            self._add_missing(frame.frame_index, reason, dropped)
        else:
            self._segment(frame.frame_index, image, dropped)
        if time.monotonic() > self._summary_due_s:
            self._write_summary()

    def _set_size(self, image: FrameRGB) -> None:
        """Set the size of the frames, and check the prompts with it.

        Raises:
            PromptFileError: they do not fit.
        """
        size_hw_px = int(image.shape[0]), int(image.shape[1])
        self._prompts = defaultdict(list)
        if self._prompt_file is not None and self._options.prompts is not None:
            self._all_prompts = pipeline_prompts(
                self._prompt_file, self._options.prompts, n_frames=_ENDLESS_FRAMES, size_hw_px=size_hw_px
            )
        for prompt in self._all_prompts:
            self._prompts[prompt.frame_index].append(prompt)
        self._size_hw_px = size_hw_px

    def _start_output(self) -> None:
        """Clear the folder and emit the start event, once, before anything else is written."""
        if self._output_started:
            return
        self._folder.clear()
        self._output_started = True
        self._write_summary()
        self._events.emit(
            StartEvent(
                source=shown_source(self._options),
                live=self._source.live,
                drop_late=self._drops_late(),
                method=self._options.choice.method,
                answers=self._options.answers_from,
                answer_timeout_s=self._options.answer_timeout_s,
            )
        )
        # Answers written beforehand must be known before their frames.
        while self._answers is not None and self._answers.has_unread_lines and not self._stop.requested:
            self._input_queue.wait_for_line(_POLL_S)
            self._answer_handler.process()

    def _add_missing(self, frame_index: int, reason: str, dropped: int) -> None:
        self._session.feed(None)
        self._folder.add_missing(frame_index, reason)
        self._events.emit(
            FrameEvent(frame_index=frame_index, dropped=dropped, missing=reason, mask_png=None, objects=[])
        )

    def _segment(self, frame_index: int, image: FrameRGB, dropped: int) -> None:
        prompts = self._prompts.pop(frame_index, []) if self._prompts else []
        started_s = time.monotonic()
        found = self._session.feed(image, prompts)
        self._segment_s += time.monotonic() - started_s
        mask_png = self._folder.add(frame_index, image, found.results)
        self._events.emit(
            FrameEvent(
                frame_index=frame_index,
                dropped=dropped,
                missing=None,
                mask_png=mask_png,
                objects=[ObjectOnFrame.of(result) for result in found.results],
            )
        )
        if found.requests:
            self._request_help(found.requests, image)

    def _request_help(self, requests: tuple[HelpRequest, ...], image: FrameRGB) -> None:
        """Request help, and wait for answers as long as the options say."""
        self._n_requests += len(requests)
        image_file = self._folder.write_request_image(requests[0].frame_index, image)
        for request in requests:
            self._events.emit(
                RequestEvent(
                    frame_index=request.frame_index,
                    object_id=request.object_id,
                    x_px=request.x_px,
                    y_px=request.y_px,
                    uncertainty=request.uncertainty,
                    change=request.change,
                    image=image_file,
                )
            )
        object_ids = [request.object_id for request in requests]
        self._answer_handler.wait(object_ids, self._options.answer_timeout_s, lambda: self._stop.requested)

    def _rewrite(self, corrected: OnlineFrame) -> list[ObjectOnFrame]:
        self._folder.write(corrected.frame_index, corrected.results)
        return [ObjectOnFrame.of(result) for result in corrected.results]

    def _finish(self, failure: SegmentError | PromptFileError | None) -> None:
        """Process the last answers, and write the summary and the end event."""
        self._answer_handler.close()
        missing = sorted(self._prompts or {}) if self._ended == "source_ended" else []
        self._n_prompted_missing = len(missing)
        for frame_index in missing:
            print_note(f"warning: frame {frame_index} has prompts, but it never arrived or could not be read")
        summary = self._write_summary()
        self._events.emit(
            EndEvent(
                ended="interrupted" if self._ended == "running" else self._ended,
                reason=None if failure is None else str(failure),
                complete=summary.complete,
                frames=self._folder.n_frames,
                dropped=self._folder.n_dropped,
                missing=self._folder.n_missing,
                requests=self._n_requests,
                answers_taken=self._answer_handler.n_taken,
                answers_refused=self._answer_handler.n_refused,
            )
        )
        print_note(
            f"{self._folder.n_done} frames segmented, {self._folder.n_dropped} dropped, {self._folder.n_missing} "
            f"missing; {self._n_requests} requests, {self._answer_handler.n_taken} answers taken; "
            f"{summary.seconds:.1f} s ({summary.seconds_per_frame or 0:.3f} s a frame), "
            f"written to {self._options.output}"
        )

    def _write_summary(self) -> Summary:
        now_s = time.monotonic()
        summary = self._folder.write_summary(
            run_inputs(self._options, self._all_prompts, self._size_hw_px),
            OnlineSummary(
                ended=self._ended,
                dropped=[],
                requests=self._n_requests,
                answers_taken=self._answer_handler.n_taken,
                answers_refused=self._answer_handler.n_refused,
            ),
            complete=self._ended == "source_ended" and not self._n_prompted_missing,
            run_s=now_s - self._started_s,
            segment_s=self._segment_s,
        )
        written_s = time.monotonic()
        self._summary_due_s = written_s + max(SUMMARY_EVERY_S, _SUMMARY_SHARE * (written_s - now_s))
        return summary


def _answers(source: str | None, stopping: threading.Event) -> AnswerLines | None:
    """The lines of answers as they arrive; None if there is no input for them.

    Raises:
        SegmentError: they cannot be opened.
    """
    if source is None:
        return None
    descriptor, follow = STDIN_DESCRIPTOR, False
    if source != STDIN:
        descriptor, follow = open_answers(Path(source).expanduser())
    if in_background_of_terminal(descriptor):
        return None
    return AnswerLines(descriptor, follow=follow, stopping=stopping)


def _object_names(file: PromptFile | None) -> dict[int, str]:
    return {} if file is None else {entry.object_id: entry.name for entry in file.objects}


def _prompted_frames(file: PromptFile | None) -> set[int]:
    return set() if file is None else {prompt.frame_index for entry in file.objects for prompt in entry.prompts}

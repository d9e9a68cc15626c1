"""One session per annotation: its prompts by label, the pipeline's session over the frames, and what the editor has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ls_backend.errors import PromptError, TaskError
from ls_backend.label_studio.media import TaskFrames
from ls_backend.protocol.payloads import Json
from ls_backend.protocol.prompts import LabelPrompt, to_pipeline
from ls_backend.protocol.regions import LabelMask, place_to_look, region_id
from ls_backend.protocol.request_context import RequestContext
from ls_backend.protocol.strokes import Strokes
from ls_backend.sessions.editor_state import EditorState
from ls_backend.sessions.prompts import PromptMemory, is_version, run_lengths
from ls_backend.sessions.rounds import Round, RoundAnswer, RoundJob, RoundLog
from ls_backend.store.records import PromptRecord, SessionRecord, urls_digest
from pipeline.session.session import Session
from pipeline.types import FrameResult, Prompt, RunLengthMask

SessionKey = tuple[str, str]
"""Project and task, as Label Studio names them."""


class TaskSession:
    """The state of one annotation of one task. Every public method is thread-safe.

    Prompts are kept per label and kind, because Label Studio sends one kind of one label at a time: a request replaces
    that kind, and this memory supplies the others.

    Lock order: the session's lock before the pipeline's. Nothing that waits (frames, rounds, the store) is called with
    the session's lock held.
    """

    def __init__(self, frames: TaskFrames, pipeline: Session, model_version: str = "") -> None:
        """Start with no prompts; ``model_version`` names the method that ``pipeline`` works with."""
        self.model_version = model_version
        self.frames = frames
        self.pipeline = pipeline
        self._lock = threading.RLock()
        self._editor = EditorState()
        self._prompts = PromptMemory()
        self._object_ids: dict[str, int] = {}
        self._masks: dict[str, LabelMask] = {}
        self._log = RoundLog()
        self._round: Round | None = None
        self._is_resumed = False
        self._painted_ids: frozenset[str] = frozenset()
        self.on_change: Callable[[bool], None] = lambda _soon: None
        """Called when there is something new to store; True: more than one mask."""

    def answer(
        self, context: RequestContext, slots: threading.Semaphore, budget_s: float, name: str = "task"
    ) -> RoundAnswer:
        """Take in a request's prompts, start a round with them, and collect what the editor lacks of its masks.

        Requests of several threads are taken in one after the other: each round has the prompts of all requests before
        it, and cancels the round before it. A request that newer ones have overtaken starts none; Label Studio ignores
        its answer. The lock is not held during the round.

        Args:
            context: the request; it has prompts.
            slots: how many rounds may compute at the same time in this process.
            budget_s: how long to wait for the round.
            name: names the task in threads, log and errors.

        Raises:
            PromptError: not one prompt can be used.
            TaskError: not one frame can be read during the round.
            FrameError: the same, before the round.
        """
        size_hw_px = self.frames.size_hw_px  # Read before the lock is taken: it may have to fetch a frame.
        with self._lock:
            if self._prompts.is_overtaken(context):
                return RoundAnswer()
            started = self._start_round(self._merge(context), slots, size_hw_px, name)
        self.on_change(True)
        is_complete = started.job.wait(budget_s)
        problems = (*started.problems, *self._frame_problems(name))
        with self._lock:
            masks, emptied = self._undelivered_masks(started.number), self._changed_paint()
        self.on_change(True)
        return RoundAnswer(masks, emptied, problems, is_complete)

    def _merge(self, context: RequestContext) -> tuple[str, ...]:
        """Take in a request's prompts; returns the labels whose prompts may have changed.

        The strokes of all labels follow the draft or annotation, if the request shows one. Prompts and labels that are
        gone from it are forgotten.
        """
        self._catch_up(context)
        self._editor.note_saved(context.saved_masks, self._log.newest + 1)
        for label in context.labels:
            self._prompts.merge(label, context, lambda ids: self._editor.is_gone(ids, context.saved_ids))
        drawn = self._merge_strokes(context)
        for label in context.labels:
            lost_since = self._editor.lost_since(label, self.prompts(label), context)
            if lost_since is not None:
                self._editor.forget({*self._mask_ids(label), *self._editor.delivered_since(lost_since)})
        self._note_hand_masks(context.strokes)
        for label in drawn:
            if not self.prompts(label):
                self._forget_label(label)
        changed = dict.fromkeys((*context.labels, *drawn))
        undone = [label for label in self._object_ids if label not in changed and self._is_undone(label, context)]
        for label in undone:
            self._forget_label(label)
        return (*changed, *undone)

    def _catch_up(self, context: RequestContext) -> None:
        """After a restart, take in prompts whose answer reached the editor, but not the store.

        The masks of that answer are not known, so all masks of the label are sent again.
        """
        for prompt in (*context.saved_prompts, *context.prompts) if self._is_resumed else ():
            if prompt.is_echoed and not self._editor.knows({prompt.region_id}):
                self._editor.forget(self._mask_ids(prompt.label))
                self._prompts.add(prompt)

    def _merge_strokes(self, context: RequestContext) -> list[str]:
        """Take in what was drawn; returns the labels that it changed."""
        strokes = context.strokes
        if strokes is None:
            return []
        self._painted_ids = strokes.painted
        labels = dict.fromkeys((*context.labels, *self._object_ids, *strokes.labels))
        return [
            label for label in labels if self._prompts.merge_strokes(label, strokes, context.new_ids, self._newest_mask)
        ]

    def _note_hand_masks(self, strokes: Strokes | None) -> None:
        """The editor has what the annotator made of a mask. Sending that back could overwrite newer strokes."""
        for label in strokes.labels if strokes is not None else ():
            for hand_mask in strokes.hand_masks(label) if strokes is not None else ():
                prompt = self._prompts.hand_mask(label, hand_mask.frame_index)
                if prompt is None or hand_mask.painted or not is_version(prompt, hand_mask):
                    continue
                mask_id = region_id(label, hand_mask.frame_index)
                self.object_id(label)
                self._masks[mask_id] = LabelMask(mask_id, label, hand_mask.frame_index, run_lengths(prompt), 1.0)
                self._editor.note_made_there(mask_id)

    def _is_undone(self, label: str, context: RequestContext) -> bool:
        prompts = {prompt.region_id for prompt in self.prompts(label)}
        # An annotator who only tidies prompts away before submitting keeps the masks, and the object.
        return bool(prompts) and self._editor.is_gone(prompts | self._mask_ids(label), context.saved_ids)

    def _forget_label(self, label: str) -> None:
        self._prompts.forget(label)
        mask_ids = self._mask_ids(label)
        self._editor.forget(mask_ids)
        for mask_id in mask_ids:
            del self._masks[mask_id]

    def _start_round(
        self, changed: tuple[str, ...], slots: threading.Semaphore, size_hw_px: tuple[int, int], name: str
    ) -> Round:
        """Start a round in place of one that still runs. This one has the labels of that one, too."""
        before = self._round if self.is_busy else None
        labels = tuple(dict.fromkeys((*changed, *(before.labels if before is not None else ()))))
        prompts, problems = self._pipeline_prompts(labels, size_hw_px)
        if not prompts:
            raise PromptError("; ".join(problems))
        if before is not None:
            before.job.cancel()
        object_ids = [self.object_id(label) for label in labels]
        number = self._log.newest + 1
        job = RoundJob(
            f"{name} round {number}",
            lambda cancelled: self.pipeline.run_round(prompts, object_ids=object_ids, cancelled=cancelled),
            slots,
            on_progress=lambda: self.on_change(not job.is_running),
        )
        self._log.begin(number, job, object_ids, [p.region_id for label in labels for p in self.prompts(label)])
        self._round = Round(number, job, labels, tuple(problems))
        job.start()
        return self._round

    def _pipeline_prompts(
        self, labels: Iterable[str], size_hw_px: tuple[int, int]
    ) -> tuple[tuple[Prompt, ...], list[str]]:
        """The prompts of some labels that the pipeline can use, and one sentence for each that it cannot."""
        prompts: list[Prompt] = []
        problems: list[str] = []
        for label in labels:
            for prompt in self.prompts(label):
                try:
                    prompts.append(to_pipeline(prompt, self.object_id(label), size_hw_px, len(self.frames)))
                except PromptError as error:
                    problems.append(str(error))
        return tuple(prompts), problems

    def _frame_problems(self, name: str) -> tuple[str, ...]:
        errors = dict(self.pipeline.frame_errors)
        if len(errors) == len(self.frames):
            raise TaskError(f"{name}: not one frame can be read; the first: {next(iter(errors.values()))}")
        return tuple(f"frame {frame_index}: {reason}" for frame_index, reason in sorted(errors.items()))

    def _undelivered_masks(self, round_number: int) -> tuple[LabelMask, ...]:
        """Masks that differ from what the editor has, by label and frame; they are noted as delivered.

        A mask is also sent again if its confidence changed much, unless the annotator made it: the editor's copy may
        have strokes that nobody knows of yet. Label Studio ignores the answer of a request that a newer one overtook,
        so such an answer notes nothing.
        """
        masks = self.all_masks()
        changed = {mask.region_id for mask in masks if not self._editor.has(mask.region_id)}
        sent = tuple(mask for mask in masks if mask.region_id in changed or self._has_new_score(mask))
        if round_number == self._log.newest:
            prompts = {label: self.prompts(label) for label in self._object_ids}
            self._editor.note_answer(round_number, changed, prompts)
            self._editor.note_scores({mask.region_id: mask.score for mask in sent})
        return sent

    def _has_new_score(self, mask: LabelMask) -> bool:
        is_by_hand = self._prompts.hand_mask(mask.label, mask.frame_index) is not None
        return not is_by_hand and not self._editor.shows_score(mask.region_id, mask.score)

    def _changed_paint(self) -> dict[str, LabelPrompt]:
        """The annotator's painted regions whose mask was changed since, by id."""
        changed = [p for p in self._prompts.hand_masks() if not self._painted_ids.isdisjoint(p.painted_ids)]
        changed = [prompt for prompt in changed if self._differs(prompt)]
        return {id_: prompt for prompt in changed for id_ in prompt.painted_ids if id_ in self._painted_ids}

    def _differs(self, prompt: LabelPrompt) -> bool:
        """Whether later prompts, or another object, changed a hand-made mask."""
        newest = self._newest_mask(region_id(prompt.label, prompt.frame_index))
        stale = self.pipeline.stale_frames(self.object_id(prompt.label))
        return newest is not None and prompt.frame_index not in stale and newest != run_lengths(prompt)

    def _newest_mask(self, mask_id: str) -> RunLengthMask | None:
        known = self._masks.get(mask_id)
        return known.mask if known is not None else None

    def _mask_ids(self, label: str) -> set[str]:
        return {mask.region_id for mask in self._masks.values() if mask.label == label}

    def object_id(self, label: str) -> int:
        """The object of a label: given at the label's first prompt, from 1 on, and kept."""
        with self._lock:
            return self._object_ids.setdefault(label, len(self._object_ids) + 1)

    def labels(self) -> tuple[str, ...]:
        """See `AnnotationSession.labels`."""
        with self._lock:
            return tuple(self._object_ids)

    def prompts(self, label: str) -> tuple[LabelPrompt, ...]:
        """See `AnnotationSession.prompts`."""
        with self._lock:
            return self._prompts.of(label)

    def all_masks(self) -> tuple[LabelMask, ...]:
        """See `AnnotationSession.all_masks`."""
        with self._lock:
            return tuple(
                self._label_mask(label, result)
                for label, object_id in self._object_ids.items()
                if self.prompts(label)
                for result in self.pipeline.results(object_id)
            )

    def _label_mask(self, label: str, result: FrameResult) -> LabelMask:
        mask_id = region_id(label, result.frame_index)
        known = self._masks.get(mask_id)
        if known is not None and known.mask == result.mask:
            mask = known.rescored(result.score)
        else:
            mask = LabelMask(mask_id, label, result.frame_index, result.mask, result.score)
            self._editor.forget({mask_id})
        self._masks[mask_id] = mask
        return mask

    def newer_mask(self, mask_id: str, digest: bytes) -> LabelMask | None:
        """See `AnnotationSession.newer_mask`."""
        with self._lock:
            return self._masks.get(mask_id) if self._editor.is_outdated(mask_id, digest) else None

    def places_to_look(self, count: int) -> list[Json]:
        """At most ``count`` suggested corrections, the most worthwhile first, see `place_to_look`.

        None before the first masks are there. Never waits for a round.
        """
        with self._lock:
            labels = {object_id: label for label, object_id in self._object_ids.items()}
        found = [suggestion for suggestion in self.pipeline.suggestions(count) if suggestion.object_id in labels]
        return [place_to_look(place, labels[place.object_id], self.frames.size_hw_px) for place in found]

    def belongs_to(self, context: RequestContext) -> bool:
        """Whether a request comes from this session's annotation.

        It does if it shows prompts of this session. A request that shows no earlier prompt (its draft is not saved yet)
        belongs to a session that answered lately, that computes, or that no request has used yet. Later, such a request
        comes from a new annotation.
        """
        with self._lock:
            is_next = self.is_busy or self._log.newest == 0
            if self._editor.has_sent(context) or (is_next and not context.earlier_ids):
                return True
            return self._prompts.has_any(context.shown_ids)

    @property
    def is_busy(self) -> bool:
        """Whether a round is computing."""
        with self._lock:
            return self._round is not None and self._round.job.is_running

    @property
    def held_bytes(self) -> int:
        """Memory this session holds, in bytes: masks, their codings and recently read frames."""
        with self._lock:
            return self.pipeline.held_bytes + sum(mask.coded_bytes for mask in self._masks.values())

    def record(self, key: SessionKey) -> SessionRecord:
        """Everything that a later process needs to continue from here; ``key`` names the task."""
        with self._lock:
            objects = self.pipeline.saved()
            newest = {
                mask_id
                for mask_id, mask in self._masks.items()
                if (state := objects.get(self._object_ids[mask.label])) is not None
                and (known := state.masks.get(mask.frame_index)) is not None
                and known.resolved == mask.mask
            }
            prompts = [PromptRecord(p.label, p.kind, p.region_id, p.stored_form) for p in self._prompts]
            return SessionRecord(
                *key,
                urls_digest(self.frames.urls),
                self.model_version,
                self._log.opened_at_s,
                time.time(),
                self._log.newest,
                dict(self._object_ids),
                tuple(prompts),
                self._editor.record(newest),
                objects,
                self._log.records(),
            )

    def resume(self, record: SessionRecord, prompts: Iterable[LabelPrompt]) -> None:
        """Continue where an earlier process stopped; ``prompts`` are those of the record, read.

        Raises:
            ValueError: the masks do not fit the frames.
            FrameError: not one frame can be read.
        """
        self.pipeline.resume(record.objects.values())
        with self._lock:
            self._is_resumed = True
            self._editor = EditorState.resumed(record.editor)
            self._log = RoundLog(record)
            self._object_ids = dict(record.labels)
            self._prompts.resume(prompts)
            self._masks = {mask.region_id: mask for mask in recorded_masks(record)}


def recorded_masks(record: SessionRecord) -> Iterator[LabelMask]:
    """The masks of a record, by label and frame."""
    for label, object_id in record.labels.items():
        state = record.objects.get(object_id)
        for frame_index, mask in sorted(state.masks.items()) if state is not None else ():
            yield LabelMask(region_id(label, frame_index), label, frame_index, mask.resolved, mask.score)

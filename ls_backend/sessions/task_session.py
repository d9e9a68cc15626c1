"""One session per annotation: prompts by label, the pipeline's session over the frames, and what the editor has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from ls_backend.label_studio.media import TaskFrames
from ls_backend.protocol.label_config import LabelConfig
from ls_backend.protocol.payloads import Json
from ls_backend.protocol.prompts import LabelPrompt, ReadPrompts
from ls_backend.protocol.regions import region_id
from ls_backend.protocol.request_context import Evidence
from ls_backend.protocol.strokes import Strokes, taken_over
from ls_backend.sessions.editor_state import EditorState
from ls_backend.sessions.label_masks import LabelMask, label_masks
from ls_backend.sessions.prompts import PromptMemory, is_version, made_mask
from ls_backend.sessions.rounds import RoundJob, RoundsDone
from ls_backend.store.records import PromptRecord, SessionRecord, urls_digest
from pipeline.session.session import Session
from pipeline.types import FrameResult, RunLengthMask

SessionKey = tuple[str, str]
"""Project and task, as Label Studio names them."""


class TaskSession:
    """All that is known of one task in one annotator's hands. Every public method is thread-safe.

    Prompts are kept per label and kind, because Label Studio sends one kind of one label at a time: what it sends is
    the truth for that kind, and this memory supplies the other.
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
        self._coded: dict[str, LabelMask] = {}
        self._rounds = RoundsDone()
        self._job: RoundJob | None = None
        self._is_resumed = False
        self._painted: frozenset[str] = frozenset()
        self.on_change: Callable[[bool], None] = lambda _soon: None
        """Is told that there is something new to keep; True: not only a mask more."""

    def object_id(self, label: str) -> int:
        """The object of a label: given at the label's first prompt, from 1 on, and kept."""
        with self._lock:
            return self._object_ids.setdefault(label, len(self._object_ids) + 1)

    def labels(self) -> Mapping[int, str]:
        """Label by object id."""
        with self._lock:
            return {object_id: label for label, object_id in self._object_ids.items()}

    def prompts(self, label: str) -> tuple[LabelPrompt, ...]:
        """All prompts of a label; masks made by hand come after what they settle, before what corrects them."""
        with self._lock:
            return self._prompts.of(label)

    def take_prompts(self, context: ReadPrompts, evidence: Evidence) -> tuple[str, ...]:
        """Merge a request's prompts into the memory; returns the labels whose prompts may have changed.

        ``context`` is the whole truth for its labels and kinds. Of kinds this memory knows nothing of (a restart), what
        the draft or annotation saved is taken. Prompts and labels that are gone from it since are forgotten. Strokes of
        all labels follow the draft or annotation, if there is one.
        """
        with self._lock:
            self._editor.note_saved(evidence, self._rounds.newest + 1)
            labels = tuple(dict.fromkeys(prompt.label for prompt in context.prompts))
            for label in labels:
                self._prompts.merge(label, context, evidence.saved, lambda ids: self._editor.is_gone(ids, evidence))
            drawn = self._take_strokes(labels, context, evidence)
            for label in labels:
                lost_since = self._editor.lost_since(label, self.prompts(label), context, evidence)
                if lost_since is not None:
                    self._editor.forget({*self._mask_ids(label), *self._editor.delivered_since(lost_since)})
            self._note_made_by_hand(evidence.strokes)
            for label in drawn:
                if not self.prompts(label):
                    self._forget_label(label)
            known = dict.fromkeys((*labels, *drawn))
            undone = [label for label in self._object_ids if label not in known and self._is_undone(label, evidence)]
            for label in undone:
                self._forget_label(label)
            return (*known, *undone)

    def _take_strokes(self, labels: Collection[str], context: ReadPrompts, evidence: Evidence) -> list[str]:
        """Take in what was drawn; returns the labels that changed by it."""
        if evidence.strokes is None:
            return []
        self._painted = evidence.strokes.painted
        fresh = {prompt.region_id for prompt in context.prompts if not prompt.is_echoed}
        candidates = dict.fromkeys((*labels, *self._object_ids, *evidence.strokes.labels))
        return self._prompts.take_strokes(candidates, evidence.strokes, fresh, self._newest)

    def taken_over(self, config: LabelConfig) -> list[Json]:
        """What the annotator painted in regions of their own, emptied where this session's mask came to differ."""
        with self._lock:
            changed = [note for note in self._prompts.mask_notes() if self._differs(note)]
            return [region for note in changed for region in taken_over(note, config) if region["id"] in self._painted]

    def _differs(self, note: LabelPrompt) -> bool:
        """Whether later prompts, or another object, made something else of a mask made by hand."""
        newest = self._newest(region_id(note.label, note.frame_index))
        stale = self.pipeline.stale_frames(self.object_id(note.label))
        return newest is not None and note.frame_index not in stale and newest != made_mask(note)

    def _newest(self, mask_id: str) -> RunLengthMask | None:
        known = self._coded.get(mask_id)
        return known.mask if known is not None else None

    def _note_made_by_hand(self, strokes: Strokes | None) -> None:
        """The editor has what the annotator made of a mask; sending that back could only cost newer strokes."""
        for label in strokes.labels if strokes is not None else ():
            for truth in strokes.truths(label) if strokes is not None else ():
                note = self._prompts.mask_note(label, truth.frame_index)
                if note is None or truth.painted or not is_version(note, truth):
                    continue
                mask_id = region_id(label, truth.frame_index)
                self.object_id(label)
                self._coded[mask_id] = LabelMask(mask_id, label, truth.frame_index, made_mask(note), 1.0)
                self._editor.hold(mask_id)

    def _is_undone(self, label: str, evidence: Evidence) -> bool:
        prompts = {prompt.region_id for prompt in self.prompts(label)}
        # Who only tidies the prompts away before submitting keeps the masks, and the object.
        return bool(prompts) and self._editor.is_gone(prompts | self._mask_ids(label), evidence)

    def _mask_ids(self, label: str) -> set[str]:
        return {mask.region_id for mask in self._coded.values() if mask.label == label}

    def _forget_label(self, label: str) -> None:
        self._prompts.forget(label)
        for mask_id in self._mask_ids(label):
            del self._coded[mask_id]
            self._editor.forget({mask_id})

    def catch_up(self, context: ReadPrompts, evidence: Evidence) -> None:
        """After a restart: take in prompts whose answer reached the editor, but not the store.

        What that answer brought is not known, so the masks of their labels are sent again.
        """
        with self._lock:
            if not self._is_resumed:
                return
            for prompt in (*evidence.saved.prompts, *context.prompts):
                if prompt.is_echoed and not self._editor.knows({prompt.region_id}):
                    self._editor.forget(self._mask_ids(prompt.label))
                    self._prompts.add(prompt)

    def start_round(
        self,
        run: Callable[[Callable[[], bool]], Iterator[FrameResult]],
        name: str,
        slots: threading.Semaphore,
        labels: Collection[str] = (),
    ) -> tuple[int, RoundJob]:
        """Start a round of some labels in the background; one still running is cancelled, its rest done by this one."""
        with self._lock:
            if self._job is not None:
                self._job.cancel()
            number = self._rounds.newest + 1
            self._job = job = RoundJob(
                f"{name} round {number}", run, slots, on_progress=lambda: self.on_change(not job.is_running)
            )
            prompts = [prompt.region_id for label in labels for prompt in self.prompts(label)]
            self._rounds.begin(number, job, [self._object_ids[label] for label in labels], prompts)
            job.start()
        self.on_change(True)
        return number, job

    def belongs_to(self, evidence: Evidence) -> bool:
        """Whether a request comes from this session's annotation.

        It does if it shows prompts of this session. A request that shows none (its draft is not saved yet) belongs to a
        session that answered lately; later, it comes from a new annotation.
        """
        shown = evidence.prompt_ids | evidence.sent_ids
        with self._lock:
            if self._editor.belongs_to(evidence) or (not evidence.prompt_ids and self.is_busy):
                return True
            return self._prompts.has_any(shown)

    @property
    def held_bytes(self) -> int:
        """Memory this session holds, in bytes: masks, their codings and recently read frames."""
        with self._lock:
            return self.pipeline.held_bytes + sum(mask.coded_bytes for mask in self._coded.values())

    @property
    def is_busy(self) -> bool:
        """Whether a round is computing."""
        with self._lock:
            return self._job is not None and self._job.is_running

    def changed_masks(self, round_number: int) -> tuple[LabelMask, ...]:
        """Masks that differ from what the editor has, by label and frame, noted as delivered with their prompts.

        Those whose confidence moved far are among them, unless the annotator made them: there may be strokes on top of
        the editor's copy that nobody knows of yet. Label Studio ignores the answer of a request that a newer one
        overtook, so such an answer notes nothing.
        """
        masks = self.all_masks()
        with self._lock:
            changed = {mask.region_id for mask in masks if not self._editor.has(mask.region_id)}
            sent = tuple(mask for mask in masks if mask.region_id in changed or self._has_new_score(mask))
            if round_number == self._rounds.newest:
                prompts = {label: self.prompts(label) for label in self._object_ids}
                self._editor.note_answer(round_number, changed, prompts)
                self._editor.note_scores({mask.region_id: mask.score for mask in sent})
        self.on_change(True)
        return sent

    def _has_new_score(self, mask: LabelMask) -> bool:
        by_hand = self._prompts.mask_note(mask.label, mask.frame_index) is not None
        return not by_hand and not self._editor.shows_score(mask.region_id, mask.score)

    def all_masks(self) -> tuple[LabelMask, ...]:
        """Every mask known now, by label and frame."""
        return tuple(
            self._coded_mask(label, result)
            for object_id, label in self.labels().items()
            if self.prompts(label)
            for result in self.pipeline.results(object_id)
        )

    def _coded_mask(self, label: str, result: FrameResult) -> LabelMask:
        mask_id = region_id(label, result.frame_index)
        with self._lock:
            known = self._coded.get(mask_id)
            if known is not None and known.mask == result.mask:
                self._coded[mask_id] = known.rescored(result.score)
                return self._coded[mask_id]
            self._coded[mask_id] = made = LabelMask(mask_id, label, result.frame_index, result.mask, result.score)
            self._editor.forget({mask_id})
            return made

    def newer_mask(self, mask_id: str, digest: bytes) -> LabelMask | None:
        """The mask delivered after a version with this digest was saved; None where the saved one is not outdated."""
        with self._lock:
            return self._coded.get(mask_id) if self._editor.is_outdated(mask_id, digest) else None

    def record(self, key: SessionKey) -> SessionRecord:
        """Everything that a later process needs to go on from here; ``key`` names the task."""
        with self._lock:
            objects = self.pipeline.saved()
            newest = {
                mask_id
                for mask_id, mask in self._coded.items()
                if (saved := objects.get(self._object_ids[mask.label])) is not None
                and (known := saved.masks.get(mask.frame_index)) is not None
                and known.resolved == mask.mask
            }
            return SessionRecord(
                *key,
                urls_digest(self.frames.urls),
                self.model_version,
                self._rounds.opened_at_s,
                time.time(),
                self._rounds.newest,
                dict(self._object_ids),
                tuple(
                    PromptRecord(prompt.label, prompt.kind, prompt.region_id, prompt.raw) for prompt in self._prompts
                ),
                self._editor.record(newest),
                objects,
                self._rounds.records(),
            )

    def resume(self, record: SessionRecord, prompts: Iterable[LabelPrompt]) -> None:
        """Go on where an earlier process stopped; ``prompts`` are those of the record, read.

        Raises:
            ValueError: the masks do not fit the frames.
            FrameError: not one frame can be read.
        """
        self.pipeline.resume(record.objects.values())
        with self._lock:
            self._is_resumed = True
            self._editor = EditorState.resumed(record.editor)
            self._rounds = RoundsDone(record)
            self._object_ids = dict(record.labels)
            self._prompts.resume(prompts)
            self._coded = {mask.region_id: mask for mask in label_masks(record)}

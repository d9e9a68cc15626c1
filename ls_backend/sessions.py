"""One session per annotation: prompts by label, the pipeline's session over the frames, and what the editor has."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ls_backend.editor_state import EditorState
from ls_backend.evidence import Evidence
from ls_backend.jobs import RoundJob
from ls_backend.media import TaskFrames
from ls_backend.prompts import LabelPrompt, PromptKind, ReadPrompts
from ls_backend.results.brush import mask_to_brush_rle
from ls_backend.results.regions import region_id
from pipeline.session import Session
from pipeline.types import FrameResult, RunLengthMask

KINDS: tuple[PromptKind, ...] = ("point", "box")


@dataclass(frozen=True)
class LabelMask:
    """A mask as it goes to Label Studio: ``region_id`` names label and frame, ``brush_rle`` its coding, made once."""

    region_id: str
    label: str
    frame_index: int
    mask: RunLengthMask
    score: float
    brush_rle: bytes


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
        self._prompts: dict[tuple[str, PromptKind], dict[str, LabelPrompt]] = {}
        self._object_ids: dict[str, int] = {}
        self._coded: dict[str, LabelMask] = {}
        self._round_numbers = itertools.count(1)
        self._newest_round = 0
        self._job: RoundJob | None = None

    def object_id(self, label: str) -> int:
        """The object of a label: given at the label's first prompt, from 1 on, and kept."""
        with self._lock:
            return self._object_ids.setdefault(label, len(self._object_ids) + 1)

    def labels(self) -> Mapping[int, str]:
        """Label by object id."""
        with self._lock:
            return {object_id: label for label, object_id in self._object_ids.items()}

    def prompts(self, label: str) -> tuple[LabelPrompt, ...]:
        """All prompts of a label, points and boxes."""
        with self._lock:
            return tuple(prompt for kind in KINDS for prompt in self._prompts.get((label, kind), {}).values())

    def take_prompts(self, context: ReadPrompts, evidence: Evidence) -> tuple[str, ...]:
        """Merge a request's prompts into the memory; returns the labels whose prompts may have changed.

        ``context`` is the whole truth for its labels and kinds. Of kinds this memory knows nothing of (a restart), what
        the draft or annotation saved is taken. Prompts and labels that are gone from it since are forgotten.
        """
        with self._lock:
            self._editor.note_saved(evidence, self._newest_round + 1)
            labels = tuple(dict.fromkeys(prompt.label for prompt in context.prompts))
            for label in labels:
                for kind in KINDS:
                    self._prompts[label, kind] = self._merged(label, kind, context, evidence)
                if not self._editor.is_up_to_date(label, self.prompts(label), context, evidence):
                    self._editor.forget(self._mask_ids(label))
            undone = [label for label in self._object_ids if label not in labels and self._is_undone(label, evidence)]
            for label in undone:
                self._forget_label(label)
            return (*labels, *undone)

    def _merged(self, label: str, kind: PromptKind, context: ReadPrompts, evidence: Evidence) -> dict[str, LabelPrompt]:
        """The prompts of one label and kind after a request, by id."""
        sent = {p.region_id: p for p in context.prompts if (p.label, p.kind) == (label, kind)}
        if sent:
            return sent
        if (label, kind) not in self._prompts:
            return {p.region_id: p for p in evidence.saved.prompts if (p.label, p.kind) == (label, kind)}
        known = self._prompts[label, kind].items()
        return {prompt_id: prompt for prompt_id, prompt in known if not self._editor.is_gone({prompt_id}, evidence)}

    def _is_undone(self, label: str, evidence: Evidence) -> bool:
        prompts = {prompt.region_id for prompt in self.prompts(label)}
        # Who only tidies the prompts away before submitting keeps the masks, and the object.
        return bool(prompts) and self._editor.is_gone(prompts | self._mask_ids(label), evidence)

    def _mask_ids(self, label: str) -> set[str]:
        return {mask.region_id for mask in self._coded.values() if mask.label == label}

    def _forget_label(self, label: str) -> None:
        for kind in KINDS:
            self._prompts.pop((label, kind), None)
        for mask_id in self._mask_ids(label):
            del self._coded[mask_id]
            self._editor.forget({mask_id})

    def start_round(
        self, run: Callable[[Callable[[], bool]], Iterator[FrameResult]], name: str, slots: threading.Semaphore
    ) -> tuple[int, RoundJob]:
        """Start a round in the background; a round still running is cancelled and its rest done by this one."""
        with self._lock:
            if self._job is not None:
                self._job.cancel()
            self._newest_round = next(self._round_numbers)
            self._job = RoundJob(f"{name} round {self._newest_round}", run, slots)
            self._job.start()
            return self._newest_round, self._job

    def belongs_to(self, evidence: Evidence) -> bool:
        """Whether a request comes from this session's annotation.

        It does if it shows prompts echoed by this session. A request that shows none (its draft is not saved yet)
        belongs to a session that answered lately; later, it comes from a new annotation.
        """
        with self._lock:
            if evidence.prompt_ids:
                return self._editor.knows(evidence.prompt_ids)
            return self.is_busy or self._editor.answered_lately()

    @property
    def held_bytes(self) -> int:
        """Memory this session holds, in bytes: masks, their codings and recently read frames."""
        with self._lock:
            return self.pipeline.held_bytes + sum(len(mask.brush_rle) for mask in self._coded.values())

    @property
    def is_busy(self) -> bool:
        """Whether a round is computing."""
        with self._lock:
            return self._job is not None and self._job.is_running

    def changed_masks(self, round_number: int) -> tuple[LabelMask, ...]:
        """Masks that differ from what the editor has, by label and frame, noted as delivered with their prompts.

        Label Studio ignores the answer of a request that a newer one overtook, so such an answer notes nothing.
        """
        masks = self.all_masks()
        with self._lock:
            changed = tuple(mask for mask in masks if not self._editor.has(mask.region_id))
            if round_number == self._newest_round:
                prompts = {label: self.prompts(label) for label in self._object_ids}
                self._editor.note_answer(round_number, [mask.region_id for mask in changed], prompts)
            return changed

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
            return known
        # Coding takes milliseconds a mask, so others are let in meanwhile.
        coding = bytes(mask_to_brush_rle(result.mask.decode()))
        made = LabelMask(mask_id, label, result.frame_index, result.mask, result.score, coding)
        with self._lock:
            self._coded[mask_id] = made
            self._editor.forget({mask_id})
        return made

    def newer_mask(self, mask_id: str, digest: bytes) -> LabelMask | None:
        """The mask delivered after a version with this digest was saved; None where the saved one is not outdated."""
        with self._lock:
            return self._coded.get(mask_id) if self._editor.is_outdated(mask_id, digest) else None


SessionKey = tuple[str, str]
"""Project and task, as Label Studio names them."""


class SessionRegistry:
    """Open sessions, one per annotation being made; beyond either bound the least recently used idle ones go.

    Dropping one loses no work: prompts come back with the annotator's next request, masks are recomputed from them.

    Args:
        max_sessions: how many are kept.
        limit_mib: how much memory they may hold together.
    """

    def __init__(self, max_sessions: int, limit_mib: float) -> None:
        self._max_sessions = max_sessions
        self._limit_bytes = int(limit_mib * 2**20)
        self._lock = threading.Lock()
        self._by_use: list[tuple[SessionKey, TaskSession]] = []
        """Least recently used first."""

    def of_task(self, key: SessionKey) -> tuple[TaskSession, ...]:
        """All sessions of a task, the most recently used one first."""
        with self._lock:
            return tuple(session for known, session in reversed(self._by_use) if known == key)

    def find_or_open(
        self, key: SessionKey, urls: tuple[str, ...], evidence: Evidence, open_session: Callable[[], TaskSession]
    ) -> TaskSession:
        """The session a request belongs to; a new one where there is none or where the task's frames have changed."""
        with self._lock:
            for entry in reversed(self._by_use):
                if entry[0] == key and entry[1].frames.urls == urls and entry[1].belongs_to(evidence):
                    self._by_use.remove(entry)
                    break
            else:
                entry = (key, open_session())
            self._by_use.append(entry)
            self._drop_surplus()
            return entry[1]

    def _drop_surplus(self) -> None:
        held_bytes = sum(session.held_bytes for _, session in self._by_use)
        for entry in [entry for entry in self._by_use[:-1] if not entry[1].is_busy]:
            if len(self._by_use) <= self._max_sessions and held_bytes <= self._limit_bytes:
                return
            self._by_use.remove(entry)
            held_bytes -= entry[1].held_bytes

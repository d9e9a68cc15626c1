"""What the annotator's editor holds: the masks and prompts that reached it, inferred from what it sends and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping

from ls_backend.protocol.prompts import SENT_KINDS, LabelPrompt
from ls_backend.protocol.request_context import RequestContext
from ls_backend.store.records import EditorCopy, EditorRecord

SAME_EDITOR_S = 3600.0
"""A request that shows no earlier prompt is taken to come from the editor that was answered less than this ago.

The draft cannot tell: Label Studio saves none while the annotator pages to another frame within five seconds of every
round. So whoever starts a new annotation of a task within this time after somebody else continues the other's prompts.
"""

SCORE_STEP = 0.05
"""An unchanged mask is sent again if its confidence changed by this much: the annotator decides by the scores."""


class EditorState:
    """The editor of one annotation, as far as it is known. Regions are masks and prompts, by id.

    Rounds are counted from 1. Not thread-safe: its session locks.
    """

    def __init__(self) -> None:
        self._echoed: dict[str, frozenset[str]] = {}
        self._answered_in: dict[str, int] = {}
        self._answered_at_s = -math.inf
        self._delivered_in: dict[str, int] = {}
        self._present: set[str] = set()
        self._saved_in: dict[str, dict[bytes, int]] = {}
        self._scores: dict[str, float] = {}

    @classmethod
    def resumed(cls, record: EditorRecord) -> EditorState:
        """Continue where an earlier process stopped."""
        state = cls()
        state._echoed = dict(record.echoed)
        state._answered_in = dict(record.answered_in)
        state._answered_at_s = time.monotonic() - max(0.0, time.time() - record.answered_at_s)
        state._delivered_in = {
            mask_id: copy.delivered_in for mask_id, copy in record.copies.items() if copy.delivered_in
        }
        state._present = {mask_id for mask_id, copy in record.copies.items() if copy.present}
        state._saved_in = {mask_id: dict(copy.saved_in) for mask_id, copy in record.copies.items() if copy.saved_in}
        return state

    def record(self, newest: Collection[str]) -> EditorRecord:
        """The state for the store.

        Args:
            newest: the masks whose newest version is in the same record. Only of these it is stored that the editor
                has them.
        """
        answered_at_s = 0.0
        if math.isfinite(self._answered_at_s):
            answered_at_s = time.time() - (time.monotonic() - self._answered_at_s)
        present = self._present.intersection(newest)
        copies = {
            mask_id: EditorCopy(
                mask_id in present, self._delivered_in.get(mask_id, 0), dict(self._saved_in.get(mask_id, {}))
            )
            for mask_id in self._delivered_in.keys() | present
        }
        return EditorRecord(dict(self._echoed), dict(self._answered_in), round(answered_at_s, 3), copies)

    def has(self, mask_id: str) -> bool:
        """Whether the newest version of a mask is in the editor."""
        return mask_id in self._present

    def shows_score(self, mask_id: str, score: float) -> bool:
        """Whether the editor shows about this confidence at a mask. After a restart it counts as shown."""
        return abs(self._scores.get(mask_id, score) - score) < SCORE_STEP

    def note_scores(self, scores: Mapping[str, float]) -> None:
        """An answer went out with these confidences by mask."""
        self._scores.update(scores)

    def forget(self, mask_ids: Iterable[str]) -> None:
        """Send these masks again: they changed, or the editor may have lost them."""
        self._present.difference_update(mask_ids)

    def note_made_there(self, mask_id: str) -> None:
        """The editor has this mask, because the annotator made it there."""
        self._present.add(mask_id)

    def delivered_since(self, round_number: float) -> set[str]:
        """The masks whose newest version came with an answer from this round on."""
        return {mask_id for mask_id, number in self._delivered_in.items() if number >= round_number}

    def note_answer(
        self, round_number: int, mask_ids: Collection[str], prompts: Mapping[str, Iterable[LabelPrompt]]
    ) -> None:
        """An answer went out: these masks, and the prompts by label that they follow from."""
        self._present.update(mask_ids)
        self._delivered_in.update(dict.fromkeys(mask_ids, round_number))
        for label, given in prompts.items():
            self._echoed[label] = frozenset(prompt.region_id for prompt in given if prompt.kind in SENT_KINDS)
            for prompt_id in self._echoed[label]:
                self._answered_in.setdefault(prompt_id, round_number)
        self._answered_at_s = time.monotonic()

    def note_saved(self, saved_masks: Mapping[str, bytes], round_number: int) -> None:
        """A request shows the digests of saved masks, before round ``round_number`` is answered.

        A reloaded page shows the saved versions. So where a newer version was delivered since, it is sent again.
        """
        self.forget(mask_id for mask_id, digest in saved_masks.items() if self.is_outdated(mask_id, digest))
        for mask_id, digest in saved_masks.items():
            self._saved_in.setdefault(mask_id, {}).setdefault(digest, round_number)

    def is_outdated(self, mask_id: str, digest: bytes) -> bool:
        """Whether a saved version of a mask is older than the newest one that was delivered.

        It is not if the annotator painted it since, or if it is Label Studio's own coding of the newest mask: those
        were saved later.
        """
        saved_in = self._saved_in.get(mask_id, {}).get(digest, math.inf)
        return saved_in <= self._delivered_in.get(mask_id, 0)

    def knows(self, prompt_ids: Collection[str]) -> bool:
        """Whether any of these prompts was echoed into this editor."""
        return not self._answered_in.keys().isdisjoint(prompt_ids)

    def has_sent(self, context: RequestContext) -> bool:
        """Whether a request comes from this editor: it shows prompts echoed into it, or none while it is in use."""
        if context.earlier_ids:
            return self.knows(context.earlier_ids)
        return time.monotonic() - self._answered_at_s < SAME_EDITOR_S

    def is_gone(self, region_ids: Collection[str], saved_ids: Collection[str]) -> bool:
        """Whether the regions saved in draft or annotation prove that the annotator deleted or undid some regions.

        A document is saved late, so a region that is missing there may be too new. But if the document has a prompt of
        a later round, it was saved after that round: the missing region is gone.
        """
        if not frozenset(saved_ids).isdisjoint(region_ids):
            return False
        saved_in = max((self._answered_in.get(region, 0) for region in saved_ids), default=0)
        answered_in = [self._answered_in[region] for region in region_ids if region in self._answered_in]
        return bool(answered_in) and max(answered_in) < saved_in

    def lost_since(self, label: str, prompts: Collection[LabelPrompt], context: RequestContext) -> float | None:
        """The first round whose masks the editor that sent a request may lack; None if it has those of a label.

        It has them if every prompt of the label's last answered round is in the request with the mark of its echo or,
        if it is of a kind that this request does not send, is saved. Otherwise (page reloaded without saving, prompt
        deleted, answer overtaken, another annotator) all frames of the label have to be sent again. If the missing
        prompts are the newest, their round may have been undone, and with it what it did to other labels.

        Args:
            label: the label.
            prompts: its prompts now.
            context: the request.

        Returns:
            None, or the first round whose masks of other labels may be missing; infinity for none of them.
        """
        echoed = self._echoed.get(label, frozenset())
        sent_kinds = {prompt.kind for prompt in context.prompts if prompt.label == label}
        unsent = {prompt.region_id for prompt in prompts if prompt.kind not in sent_kinds}
        missing = echoed - context.echoed_ids - (unsent & context.saved_ids)
        if echoed and not missing:
            return None
        since = min((self._answered_in[prompt_id] for prompt_id in missing), default=math.inf)
        is_newest = all(self._answered_in.get(prompt_id, 0) <= since for prompt_id in context.echoed_ids)
        return since if is_newest else math.inf

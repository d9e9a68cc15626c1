"""What the annotator's editor has: which masks and prompts reached it, inferred from what it sends and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping

from ls_backend.evidence import Evidence
from ls_backend.prompts import LabelPrompt, ReadPrompts

SAME_EDITOR_S = 3600.0
"""A request that shows nothing of earlier rounds still comes from the editor that was answered so long ago.

It cannot be told by the draft: Label Studio saves none while the annotator pages to another frame within five seconds
of every round. Who starts a new annotation of a task that somebody prompted within this time continues their prompts.
"""


class EditorState:
    """The editor of one annotation, as far as it is known. Region ids are those of masks and of prompts.

    Rounds are counted from 1. Not thread-safe: its session locks.
    """

    def __init__(self) -> None:
        self._echoed: dict[str, frozenset[str]] = {}
        self._answered_in: dict[str, int] = {}
        self._answered_at_s = -math.inf
        self._delivered_in: dict[str, int] = {}
        self._present: set[str] = set()
        self._saved_in: dict[str, dict[bytes, int]] = {}

    def has(self, mask_id: str) -> bool:
        """Whether the newest version of a mask is in the editor."""
        return mask_id in self._present

    def forget(self, mask_ids: Iterable[str]) -> None:
        """Masks that changed, or that the editor may have lost: they have to be sent again."""
        self._present.difference_update(mask_ids)

    def note_answer(
        self, round_number: int, mask_ids: Collection[str], prompts: Mapping[str, Iterable[LabelPrompt]]
    ) -> None:
        """An answer went out: these masks, and the prompts by label that they follow from."""
        self._present.update(mask_ids)
        self._delivered_in.update(dict.fromkeys(mask_ids, round_number))
        for label, given in prompts.items():
            self._echoed[label] = frozenset(prompt.region_id for prompt in given)
            for prompt_id in self._echoed[label]:
                self._answered_in.setdefault(prompt_id, round_number)
        self._answered_at_s = time.monotonic()

    def note_saved(self, evidence: Evidence, round_number: int) -> None:
        """A request shows what draft or annotation hold, before round ``round_number`` is answered.

        A saved version that was replaced since is what a reloaded page shows, so the newer one is sent again.
        """
        self.forget(mask_id for mask_id, digest in evidence.saved_masks.items() if self.is_outdated(mask_id, digest))
        for mask_id, digest in evidence.saved_masks.items():
            self._saved_in.setdefault(mask_id, {}).setdefault(digest, round_number)

    def is_outdated(self, mask_id: str, digest: bytes) -> bool:
        """Whether a stored mask is a version that was saved before the newest one was delivered.

        What the annotator painted since, and Label Studio's own coding of the newest mask, were saved later.
        """
        saved_in = self._saved_in.get(mask_id, {}).get(digest, math.inf)
        return saved_in <= self._delivered_in.get(mask_id, 0)

    def knows(self, prompt_ids: Collection[str]) -> bool:
        """Whether any of these prompts was echoed into this editor."""
        return not self._answered_in.keys().isdisjoint(prompt_ids)

    def answered_lately(self) -> bool:
        """Whether the editor may well be open still."""
        return time.monotonic() - self._answered_at_s < SAME_EDITOR_S

    def is_gone(self, region_ids: Collection[str], evidence: Evidence) -> bool:
        """Whether the annotator deleted or undid regions, where draft or annotation prove it.

        Those are late, so a region that is missing there may only be too new. But a document that holds a prompt of a
        later round was saved after it: there the region is gone.
        """
        if not evidence.saved_ids.isdisjoint(region_ids):
            return False
        saved_in = max((self._answered_in.get(region, 0) for region in evidence.saved_ids), default=0)
        answered_in = [self._answered_in[region] for region in region_ids if region in self._answered_in]
        return bool(answered_in) and max(answered_in) < saved_in

    def is_up_to_date(
        self, label: str, prompts: Collection[LabelPrompt], context: ReadPrompts, evidence: Evidence
    ) -> bool:
        """Whether the asking editor certainly has the masks delivered for a label, whose prompts are now ``prompts``.

        It has if every prompt of the last answered round is in this request with the mark of its echo or, being of the
        kind that is not sent, is saved. Otherwise (page reloaded without saving, round undone, prompt deleted, answer
        overtaken, another annotator) all frames have to be sent again.
        """
        echoed = self._echoed.get(label, frozenset())
        marked = {prompt.region_id for prompt in context.prompts if prompt.is_echoed}
        sent_kinds = {prompt.kind for prompt in context.prompts if prompt.label == label}
        unsent = {prompt.region_id for prompt in prompts if prompt.kind not in sent_kinds}
        return bool(echoed) and echoed <= marked | (unsent & evidence.saved_ids)

"""Frames on which no tracked prompt shows an object any more: it is not there, unless it is found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.methods.base import Anchor
from pipeline.methods.common.decoding import UNKNOWN_SCORE, Decoded, Decoder, DecodeRequest, only_excludes
from pipeline.methods.common.search import LOST_SCORE, Ask, ObjectSearch


@dataclass(frozen=True)
class Absence:
    """Decides whether an object is on a frame, from what was decoded for its tracked prompts.

    Attributes:
        decoder: of the method.
        search: looks for lost objects; None for a method that does not.
    """

    decoder: Decoder
    search: ObjectSearch | None

    @property
    def held_bytes(self) -> int:
        """Memory held, in bytes."""
        return 0 if self.search is None else self.search.held_bytes

    def remember(self, object_id: int, anchors: Sequence[Anchor]) -> None:
        """Remember an object's prompted frames.

        Raises:
            FrameError: a frame cannot be read.
        """
        if self.search is not None:
            self.search.remember(object_id, anchors)

    def forget(self, object_id: int) -> None:
        """Forget an object."""
        if self.search is not None:
            self.search.forget(object_id)

    def checked(
        self, frame_index: int, embedding: Any, request: DecodeRequest, decoded: Decoded, cleared: bool
    ) -> Decoded:
        """What was decoded, or what a search finds in its place, or an empty mask.

        Without a positive point and a box the segmenter was not asked. With them, points may have stayed behind on the
        background, and a box may be on what hides the object: then the memory contradicts the mask. A segmenter with a
        mask prior has the carried mask and a search of its own, which is trusted unless a person said that the object
        is not there. That holds with full trust until there is strong evidence.

        Args:
            frame_index: the frame.
            embedding: of the frame.
            request: the tracked prompts.
            decoded: for these.
            cleared: whether the pass started where a person said that the object is not there, and has not found it.
        """
        searches_itself = self.decoder.segmenter.uses_mask_prior
        if searches_itself and not cleared:
            return decoded
        mask, object_id, prompts = np.asarray(decoded.low_res_logits > 0), request.memory.object_id, request.prompts
        if self.search is None or object_id is None:
            trusted = not cleared and not only_excludes(prompts)
            return decoded if trusted else self.decoder.nothing(embedding, 1.0 if cleared else UNKNOWN_SCORE)
        judge = self.search.judge(object_id, frame_index, embedding)
        seen = not cleared and not only_excludes(prompts)
        if mask.any() and (not judge.contradicts(mask) if seen else judge.recognises(mask)):
            self.search.remember_seen(object_id, frame_index, judge, mask)
            return decoded
        found, absent = None, 1.0 - judge.support(mask)
        if not searches_itself:
            found, absent = self.search.find(object_id, frame_index, embedding, self._asking(embedding, request))
        return found or self.decoder.nothing(embedding, 1.0 if cleared else LOST_SCORE * absent)

    def _asking(self, embedding: Any, request: DecodeRequest) -> Ask:
        return lambda prompts: self.decoder.decode(embedding, [DecodeRequest(prompts, request.memory)])[0]

"""What every method keeps of an open video: embeddings by frame, and a memory per object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from pipeline.embeddings.cache import EmbeddingCache, FrameEmbeddings
from pipeline.memory.bank import MemoryBank
from pipeline.methods.base import Anchor
from pipeline.segmenters.base import FloatMap, ReferenceFrame, Segmenter
from pipeline.types import BoolMask
from pipeline.video.frames import FrameSource


@dataclass
class ObjectKnowledge:
    """One object over all rounds: ``learnt`` from the prompted frames in ``digests``, and the frames in the bank."""

    bank: MemoryBank | None
    learnt: Any = None
    learnt_from: tuple[tuple[int, bytes], ...] = ()
    banked: dict[int, bytes] = field(default_factory=dict)


class VideoState:
    """Shared by the methods' `PerObjectVideo`s; one thread at a time."""

    def __init__(
        self, frames: FrameSource, segmenter: Segmenter, embeddings: EmbeddingCache[Any], video_key: int
    ) -> None:
        self.frames, self.segmenter = frames, segmenter
        self._embeddings = FrameEmbeddings(embeddings, segmenter, frames, video_key)
        self.objects: dict[int, ObjectKnowledge] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of the objects' memories."""
        return sum(known.bank.nbytes for known in list(self.objects.values()) if known.bank is not None)

    def embedding(self, frame_index: int) -> Any:
        """The segmenter's embedding of a frame, from the cache if it is there.

        Raises:
            FrameError: the frame cannot be read.
        """
        return self._embeddings.get(frame_index)

    def drop_embedding(self, frame_index: int) -> None:
        """Forget the embedding of a frame that nobody will ask for again."""
        self._embeddings.forget(frame_index)

    def learn(self, known: ObjectKnowledge, anchors: Sequence[Anchor]) -> Any:
        """What the prompted frames teach the segmenter; taught again only when one of their masks changed."""
        source = tuple((anchor.frame_index, digest(anchor.mask)) for anchor in anchors)
        if source != known.learnt_from:
            references = [ReferenceFrame(self.embedding(anchor.frame_index), anchor.mask) for anchor in anchors]
            known.learnt = self.segmenter.learn(references, known.learnt) if references else None
            known.learnt_from = source
        return known.learnt

    def full_size(self, frame_index: int, low_res_logits: FloatMap) -> FloatMap:
        """Logits of a frame at its own size (H, W)."""
        return self.segmenter.to_full_size(self.embedding(frame_index), low_res_logits)

    def low_res(self, frame_index: int, logits: FloatMap) -> FloatMap:
        """Logits (H, W) of a frame in the segmenter's resolution (h, w)."""
        return self.segmenter.to_low_res(self.embedding(frame_index), logits)


def digest(mask: BoolMask) -> bytes:
    """Tells two masks (H, W) apart."""
    return blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()

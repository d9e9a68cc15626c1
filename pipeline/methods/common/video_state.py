"""The state that methods share for an open video: embeddings by frame, and what is learned of each object."""

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
class LearnedObject:
    """One object over all rounds.

    Attributes:
        bank: its memory, for methods that have one.
        learnt: what the segmenter learnt of it.
        learnt_from: frame index and mask digest of the prompted frames it was learnt from.
        digests_in_bank: mask digests of the prompted frames in the bank, by frame index.
    """

    bank: MemoryBank | None
    learnt: Any = None
    learnt_from: tuple[tuple[int, bytes], ...] = ()
    digests_in_bank: dict[int, bytes] = field(default_factory=dict)


class VideoState:
    """Frames, segmenter and objects of one open video. Not thread-safe."""

    def __init__(
        self, frames: FrameSource, segmenter: Segmenter, embeddings: EmbeddingCache[Any], video_key: int
    ) -> None:
        self.frames, self.segmenter = frames, segmenter
        self._embeddings = FrameEmbeddings(embeddings, segmenter, frames, video_key)
        self.objects: dict[int, LearnedObject] = {}

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
        """Drop the embedding of a frame that will not be asked for again."""
        self._embeddings.forget(frame_index)

    def learn(self, known: LearnedObject, anchors: Sequence[Anchor]) -> Any:
        """What the segmenter learns from the prompted frames; computed again only when one of their masks changed."""
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
    """16 bytes that tell two masks (H, W) apart."""
    return blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()

"""The segmenter on HQ-SAM: SAM with a further output token that reads finer features (Ke et al., "Segment Anything in
High Quality", NeurIPS 2023).

The network is used unchanged, and differs from SAM's in two places. Its encoder also returns the features
after an early block; together with the last ones they make the HQ features (the paper's global-local fusion,
Sec. 3.2.2). Its decoder adds the logits of the HQ token, read from these, to those of a SAM token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pipeline.parts.context import PartContext
from pipeline.segmenters.sam import SamEmbedding, SamSegmenter


@dataclass(frozen=True)
class HqSamEmbedding(SamEmbedding):
    """As `SamEmbedding`, with ``hq_features`` (C / 8, 4 gh, 4 gw): (32, 256, 256), float32 (8 MiB) or float16 (4 MiB).

    These are all that the decoder makes of the early features, and the same for every prompt. The early features
    themselves would be larger (12 MiB for ViT-B, 20 MiB for ViT-H; only the light model's are smaller, 2.5 MiB), and
    would have to be fused again at every decoder call.
    """

    hq_features: torch.Tensor


class HqSamSegmenter(SamSegmenter):
    """As `SamSegmenter`; with ``multimask`` too K is 1: the decoder refines the SAM mask of the best predicted IoU.

    A row needs about 100 MiB while it is decoded.
    """

    _embedding_type = HqSamEmbedding
    _n_candidates = 1

    def __init__(self, model: Any, *, name: str, device: str = "cpu", hq_token_only: bool = False) -> None:
        """Move the model to the device, into evaluation mode, and switch its gradients off.

        Args:
            model: from `model_zoo.sam.load_hq_sam`, or any other `segment_anything_hq.modeling.Sam`.
            name: names architecture and weights, such as "sam_hq_vit_b".
            device: see `SamSegmenter`.
            hq_token_only: take the HQ token's logits alone; the authors advise it for images of a single object. Their
                default, and what they evaluate, is the sum with SAM's own logits.
        """
        super().__init__(model, name=name, device=device)
        self._hq_token_only = hq_token_only

    def _encode(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features, early = self._model.image_encoder(image)
        decoder = self._model.mask_decoder
        # The first of the features after blocks of global attention, or of TinyViT's second stage.
        fused = decoder.embedding_encoder(features) + decoder.compress_vit_feat(early[0].permute(0, 3, 1, 2))
        return {"features": features[0], "hq_features": fused[0]}

    def _masks(
        self, embedding: HqSamEmbedding, inputs: dict[str, torch.Tensor], multimask: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As the decoder's own ``forward``, which would compute the HQ features again."""
        hq_features = embedding.hq_features.to(self._device, torch.float32)[None]
        logits, predicted_iou = self._model.mask_decoder.predict_masks(**inputs, hq_features=hq_features)
        rows = torch.arange(len(logits), device=logits.device)
        # Tokens: one for a single mask, three for the masks of an ambiguous prompt, the HQ token.
        token = 1 + predicted_iou[:, 1:].argmax(1) if multimask else torch.zeros_like(rows)
        hq_logits = logits[:, -1:]
        summed = hq_logits if self._hq_token_only else logits[rows, token][:, None] + hq_logits
        return summed, predicted_iou[rows, token][:, None]


def _build_hq_sam(model_type: str, context: PartContext) -> HqSamSegmenter:
    from model_zoo.sam import load_hq_sam

    name = f"sam_hq_{model_type}"
    model = load_hq_sam(model_type, context.checkpoint or context.weights(name), context.device)
    return HqSamSegmenter(model, name=name, device=context.device)


build_vit_tiny = partial(_build_hq_sam, "vit_tiny")
build_vit_b = partial(_build_hq_sam, "vit_b")
build_vit_l = partial(_build_hq_sam, "vit_l")
build_vit_h = partial(_build_hq_sam, "vit_h")

"""What each part of segmenter `lite` gives: objects followed from their true first mask, without trackers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from model_zoo.lite.decoder import Plane
from model_zoo.lite.network import Features, LiteNetwork, load_lite
from pipeline.evaluation.datasets import ClipFiles, Truth, find_clips, read_truth
from pipeline.evaluation.metrics import region_similarity
from pipeline.evaluation.results import machine
from pipeline.evaluation.single_frames import prompts_by_kind
from pipeline.masks import saturated_logits
from pipeline.methods.common.mask_flow import FlowFields, MaskFlow
from pipeline.methods.i_pt import IPtSettings
from pipeline.prompting import merge_prompts
from pipeline.segmenters.base import FloatMap, PromptBatch, ReferenceFrame
from pipeline.segmenters.base import ObjectPrompts as Prompts
from pipeline.segmenters.lite import prompts as prompts_module
from pipeline.segmenters.lite import segmenter as segmenter_module
from pipeline.segmenters.lite.likeness import put_likeness
from pipeline.segmenters.lite.segmenter import LiteSegmenter

BLIND = {
    "without evidence": (Plane.EVIDENCE,),
    "without the carried mask": (Plane.PREVIOUS,),
    "without colours": (Plane.REGION_COLOURS, Plane.CLICK_COLOURS),
}
"""Planes that a variant does not show to the network."""


class Blinded:
    """A network that does not see some planes; all else is the network's own."""

    def __init__(self, network: LiteNetwork, hidden: Sequence[Plane]) -> None:
        self._network, self._hidden = network, hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def masks(
        self,
        features: Sequence[Features],
        crops_rgb: Sequence[NDArray[np.uint8]],
        planes: Sequence[NDArray[np.float32]],
    ) -> list[tuple[NDArray[np.float32], float]]:
        """As `LiteNetwork.masks`."""
        shown = [each.copy() for each in planes]
        for each, crop in zip(shown, crops_rgb, strict=True):
            each[list(self._hidden)] = 0
            if Plane.REGION_COLOURS not in self._hidden:
                put_likeness(each, crop)  # it may not tell what is hidden
        return self._network.masks(features, crops_rgb, shown)


@dataclass(frozen=True)
class Variant:
    """How a variant differs: planes hidden, masks carried by optical flow, own recent frames remembered."""

    hidden: tuple[Plane, ...] = ()
    flow: bool = True
    own_frames: bool = True


VARIANTS = {
    "as it is": Variant(),
    **{name: Variant(hidden) for name, hidden in BLIND.items()},
    "without optical flow": Variant(flow=False),
    "without own recent frames": Variant(own_frames=False),
}


def measured(data: Path, clips: Sequence[str], n_frames: int, threads: int) -> dict[str, Any]:
    """Mean IoU of each variant over the objects of some clips, and of masks from prompts with and without GrabCut.

    Args:
        data: folder in the layout of DAVIS.
        clips: names.
        n_frames: how far each object is followed.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    found = [(clip, read_truth(clip)) for clip in find_clips(data, clips)]
    network = load_lite()
    document: dict[str, Any] = {"machine": machine("cpu"), "frames": n_frames, "clips": {}, "prompts": {}}
    for clip, truth in found:
        rows = document["clips"][clip.name] = {}
        for name, variant in VARIANTS.items():
            rows[name] = _mean_iou(clip, truth, network, variant, n_frames)
            print(f"{clip.name}, {name}: {rows[name]:.3f}", flush=True)
        if len(truth.object_ids) > 1:
            with patch.object(segmenter_module, "_without_overlaps", lambda logits, _: logits):
                rows["without leaving contested pixels"] = _mean_iou(clip, truth, network, Variant(), n_frames)
    for name, cut in (("with GrabCut", True), ("without GrabCut", False)):
        document["prompts"][name] = _prompted(find_clips(data), network, cut=cut)
    return document


def _mean_iou(clip: ClipFiles, truth: Truth, network: LiteNetwork, variant: Variant, n_frames: int) -> float:
    ious = list(
        _followed(clip, truth, Blinded(network, variant.hidden) if variant.hidden else network, variant, n_frames)
    )
    return float(np.mean(ious))


def _followed(clip: ClipFiles, truth: Truth, network: Any, variant: Variant, n_frames: int) -> Iterator[float]:
    """The IoU of every object on every frame but the first."""
    frames, segmenter, ids = clip.frames, LiteSegmenter(network), truth.object_ids
    first = segmenter.embed(frames.frame(0))
    masks = [truth.mask(0, object_id) for object_id in ids]
    known = [segmenter.learn([ReferenceFrame(first, mask)]) for mask in masks]
    fields = FlowFields(frames, IPtSettings.flow_long_side_px)
    batch = PromptBatch(tuple(Prompts(tracked=True) for _ in ids))
    for frame_index in range(1, min(n_frames, len(frames))):
        embedding = segmenter.embed(frames.frame(frame_index))
        priors = [_carried(fields, mask, frame_index, variant.flow) for mask in masks]
        expected = segmenter.segment(embedding, batch, mask_prior=priors, appearance=known)
        where = [logits[0] for logits in expected.low_res_logits]
        answer = segmenter.segment(embedding, batch, mask_input=where, mask_prior=priors, appearance=known)
        logits = [each[0] for each in answer.low_res_logits]
        masks = [each > 0 for each in logits]
        if variant.own_frames:
            known = [segmenter.adapt(each, embedding, own) for each, own in zip(known, logits, strict=True)]
        yield from (region_similarity(m, truth.mask(frame_index, i)) for m, i in zip(masks, ids, strict=True))


def _carried(fields: FlowFields, mask: NDArray[np.bool_], frame_index: int, flow: bool) -> FloatMap:
    """A mask of the frame before as logits of this one."""
    if not flow or not mask.any():
        return saturated_logits(mask)
    along = MaskFlow(fields)
    along.start(frame_index - 1, mask)
    carried = along.to(frame_index)
    return saturated_logits(mask) if carried is None else carried


def _prompted(clips: Sequence[ClipFiles], network: LiteNetwork, *, cut: bool) -> dict[str, float]:
    """Mean IoU of masks of frame 0 from prompts, by their kind."""
    found: dict[str, list[float]] = {}
    with _grab_cut(cut):
        for clip in clips:
            truth, segmenter = read_truth(clip), LiteSegmenter(network)
            embedding = segmenter.embed(clip.frames.frame(0))
            for object_id in truth.object_ids:
                mask = truth.mask(0, object_id)
                for kind, prompts in prompts_by_kind(mask, np.random.default_rng(object_id)).items():
                    answer = segmenter.segment(embedding, PromptBatch((merge_prompts(prompts),)))
                    own = segmenter.to_full_size(embedding, answer.low_res_logits[0, 0]) > 0
                    found.setdefault(kind, []).append(region_similarity(own, mask))
    return {kind: float(np.mean(ious)) for kind, ious in found.items()}


@contextmanager
def _grab_cut(on: bool) -> Iterator[None]:
    """Prompted masks with or without GrabCut."""
    if on:
        yield
        return
    with patch.object(prompts_module, "settled", lambda _, logits: logits):
        yield

"""SAM 2.1 or EdgeTAM as a function: one frame and what is remembered of an object in, one mask out.

The models of transformers expect an inference session that keeps every frame of a video. Here each call gets a fresh
one that holds this frame's features and the memories named by the caller, so nothing grows. Relied upon, in 4.57 and
5.23 alike: the model's ``forward`` and ``get_image_features``; of the session ``processed_frames``, ``cache``,
``obj_id_to_idx``, ``output_dict_per_obj``, ``frames_tracked_per_obj``, ``obj_with_new_inputs``, ``add_point_inputs``
and ``add_mask_inputs``; that the prompt encoder takes ``input_masks`` and the mask decoder returns the IoU second.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from model_zoo.sam2 import load_sam2, new_inference_session
from pipeline.parts.context import PartContext
from pipeline.parts.device import sixteen_bit_dtype
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.segmenters.serialization import SerializableEmbeddings
from pipeline.types import BoolMask, FrameRGB

_MEAN_RGB, _STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FEATURES, _POSITIONS, _POINTER = "maskmem_features", "maskmem_pos_enc", "object_pointer"
_NO_POINT_LABEL, _BOX_CORNER_LABELS = -1, (2, 3)


@dataclass(frozen=True)
class FrameFeatures:
    """The image encoder's answer to one frame, kept in main memory whatever the device.

    ``maps`` are (cells, 1, channels), from high to low resolution: 16 MiB in float32 with the published sizes, half of
    that where the encoder ran in 16 bits.
    """

    maps: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(each.nbytes for each in self.maps)


@dataclass(frozen=True)
class FrameMemory:
    """What one frame adds to an object's memory, on the model's device.

    ``tensors`` are as the model left them in its session; without features they are the object pointer alone.
    ``nbytes`` leaves out the positions, which all frames share.
    """

    tensors: Mapping[str, torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(tensor.nbytes for name, tensor in self.tensors.items() if name != _POSITIONS)

    def pointer_only(self) -> FrameMemory:
        """The same without its map, for frames too far away to attend to."""
        return FrameMemory({_POINTER: self.tensors[_POINTER]})


@dataclass(frozen=True)
class FrameContext:
    """The frame to segment, and the frames in the object's memory.

    ``conditioning`` are prompted frames, ``recent`` propagated ones, both by frame index. ``reverse`` says that the
    pass goes backward in time.
    """

    frame_index: int
    n_frames: int
    conditioning: Mapping[int, FrameMemory] = field(default_factory=dict)
    recent: Mapping[int, FrameMemory] = field(default_factory=dict)
    reverse: bool = False


@dataclass(frozen=True)
class Sam2Output:
    """One object on one frame: ``logits`` (h, w) float32 in the model's low resolution, ``score`` in [0, 1].

    The score is the predicted IoU times the probability that the object is there at all.
    """

    logits: torch.Tensor
    score: float
    memory: FrameMemory


class Sam2Network(SerializableEmbeddings):
    """See above. Safe to call from several threads; weights are shared, and no call leaves anything behind."""

    _embedding_type = FrameFeatures

    def __init__(self, model: Any, *, name: str, device: str = "cpu", half: bool | None = None) -> None:
        """Take over a model: it moves to the device, into evaluation mode, and needs no gradients any more.

        Args:
            model: from `model_zoo.sam2.load_sam2`.
            name: names architecture and weights, such as "sam2_1_hiera_tiny".
            device: a torch device.
            half: compute in 16 bits (see `sixteen_bit_dtype`), as the model's authors do throughout; otherwise in
                float32. None takes 16 bits on CUDA alone.
        """
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._side_px = int(model.config.image_size)
        cuda = self._device.type == "cuda"
        self._half = cuda if half is None else half
        self._autocast_dtype = sixteen_bit_dtype(self._device)
        self._name = f"{name}_half" if self._half else name
        self.n_memory_frames = int(model.config.num_maskmem) - 1
        self.n_pointer_frames = int(model.config.max_object_pointers_in_encoder) - 1
        # The same for all frames, so they are computed once and shared.
        self._positions: torch.Tensor | None = None
        self._memory_positions: torch.Tensor | None = None
        # Per thread: each call has its own prior and score.
        self._call = threading.local()
        model.prompt_encoder.register_forward_pre_hook(self._give_prior, with_kwargs=True)
        model.mask_decoder.register_forward_hook(self._keep_iou)

    @property
    def name(self) -> str:
        """The model's name, and whether it computes in 16 bits; part of the embedding cache's key."""
        return self._name

    def embed(self, frame_rgb: FrameRGB) -> FrameFeatures:
        """Run the image encoder on a frame (H, W, 3) uint8, resized to the model's square as its own processor does.

        Raises:
            ValueError: the frame is not (H, W, 3) uint8.
        """
        if frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3 or frame_rgb.dtype != np.uint8:
            raise ValueError(f"a frame must be (H, W, 3) uint8, but got {frame_rgb.shape} {frame_rgb.dtype}")
        with torch.inference_mode(), self._autocast():
            encoded = self._model.get_image_features(self.pixel_values(frame_rgb))
            # A bare tuple before 5.x.
            pair = isinstance(encoded, tuple)
            maps = encoded[0] if pair else encoded.fpn_hidden_states
            if self._positions is None:
                self._positions = (encoded[1] if pair else encoded.fpn_position_encoding)[-1].float()
            kept = self._autocast_dtype if self._half else torch.float32
            return FrameFeatures(tuple(each.to("cpu", kept).contiguous() for each in maps))

    def unpack(self, data: bytes) -> FrameFeatures:
        """See `pipeline.embeddings.cache.StorableEmbeddings`."""
        if self._positions is None:
            # Only the encoder tells them, and they are the same for every frame.
            self.embed(np.zeros((self._side_px, self._side_px, 3), np.uint8))
        features: FrameFeatures = super().unpack(data)
        return features

    def pixel_values(self, frame_rgb: FrameRGB) -> torch.Tensor:
        """The image encoder's input (1, 3, side, side) float32 for a frame (H, W, 3) uint8."""
        # torchvision takes seconds to load, and the settings in this file are read for every method.
        from torchvision.transforms.v2.functional import InterpolationMode, normalize, resize

        image = torch.from_numpy(np.array(frame_rgb)).to(self._device).permute(2, 0, 1)[None]
        square = resize(image, [self._side_px, self._side_px], InterpolationMode.BILINEAR, antialias=True)
        normalised: torch.Tensor = normalize(square.float() / 255.0, _MEAN_RGB, _STD_RGB)
        return normalised

    def track(self, features: FrameFeatures, context: FrameContext) -> Sam2Output:
        """Find the object from memory alone; at least one conditioning frame is needed."""
        return self._run(features, context)

    def take_mask(self, features: FrameFeatures, context: FrameContext, mask: BoolMask) -> Sam2Output:
        """Memorise a mask (H, W) bool that is known to be right, as the model does with masks given by a person."""
        whole = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None].to(self._device)
        return self._run(features, context, mask=(self._resized(whole, (self._side_px, self._side_px)) >= 0.5).float())

    def answer_prompts(
        self,
        features: FrameFeatures,
        context: FrameContext,
        prompts: ObjectPrompts,
        size_hw_px: tuple[int, int],
        prior: FloatMap | None = None,
    ) -> Sam2Output:
        """Segment a frame from clicks and a box.

        Args:
            features: of the frame.
            context: a first prompt is answered from the frame alone, as the model does; with a prior the conditioning
                frames take part.
            prompts: in pixels of the frame; without any point and box the prior alone speaks.
            size_hw_px: the frame's height and width.
            prior: logits (H, W) that clicks correct, or None.
        """
        points = self._points(prompts, size_hw_px)
        if prior is None:
            return self._run(features, context, points=points)
        whole = torch.from_numpy(np.ascontiguousarray(prior, np.float32))[None, None].to(self._device)
        self._call.prior = self._resized(whole, tuple(self._model.prompt_encoder.mask_input_size))
        try:
            return self._run(features, context, points=points, corrected=bool(context.conditioning))
        finally:
            del self._call.prior

    def full_size(self, logits: torch.Tensor, size_hw_px: tuple[int, int]) -> FloatMap:
        """Logits (H, W) of the frame's size from logits (h, w) of the model's own."""
        with torch.inference_mode():
            full = F.interpolate(logits[None, None].float(), size_hw_px, mode="bilinear", align_corners=False)
            return np.asarray(full[0, 0].cpu().numpy(), np.float32)

    def _run(
        self,
        features: FrameFeatures,
        context: FrameContext,
        *,
        points: dict[str, torch.Tensor] | None = None,
        mask: torch.Tensor | None = None,
        corrected: bool = False,
    ) -> Sam2Output:
        """Let the model segment one frame in a session of its own; ``corrected`` frames were tracked before."""
        session = new_inference_session(self._model)
        session.processed_frames = range(context.n_frames)  # The model uses only their number.
        session.cache = self._features_cache(context.frame_index, features)
        row = session.obj_id_to_idx(0)
        outputs = {
            "cond_frame_outputs": {index: dict(each.tensors) for index, each in context.conditioning.items()},
            "non_cond_frame_outputs": {index: dict(each.tensors) for index, each in context.recent.items()},
        }
        session.output_dict_per_obj[row] = outputs
        if points is not None:
            session.add_point_inputs(row, context.frame_index, points)
        if mask is not None:
            session.add_mask_inputs(row, context.frame_index, mask)
        if points is not None or mask is not None:
            session.obj_with_new_inputs = [0]
        if corrected:
            session.frames_tracked_per_obj[row][context.frame_index] = {"reverse": context.reverse}
        with torch.inference_mode(), self._autocast():
            answer = self._model(session, frame_idx=context.frame_index, reverse=context.reverse)
            found = outputs["cond_frame_outputs"].get(context.frame_index)
            stored = found or outputs["non_cond_frame_outputs"][context.frame_index]
            presence = float(torch.sigmoid(stored["object_score_logits"].float()).flatten()[0])
            iou = 1.0 if mask is not None else float(self._call.iou.float().max().clamp(0.0, 1.0))
            return Sam2Output(answer.pred_masks[0, 0].float(), iou * presence, self._memory(stored))

    def _memory(self, stored: Mapping[str, torch.Tensor]) -> FrameMemory:
        positions = stored[_POSITIONS]
        if self._memory_positions is None:
            self._memory_positions = positions
        if torch.equal(self._memory_positions, positions):
            positions = self._memory_positions
        return FrameMemory({_FEATURES: stored[_FEATURES], _POSITIONS: positions, _POINTER: stored[_POINTER]})

    def _points(self, prompts: ObjectPrompts, size_hw_px: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Clicks and box as the session takes them: the box's corners first, scaled to the model's square."""
        coordinates = [] if prompts.box_xyxy_px is None else [prompts.box_xyxy_px[:2], prompts.box_xyxy_px[2:]]
        labels = list(_BOX_CORNER_LABELS[: len(coordinates)]) + [int(sign) for sign in prompts.positive]
        coordinates += [(float(x), float(y)) for x, y in prompts.points_xy_px]
        if not labels:
            coordinates, labels = [(0.0, 0.0)], [_NO_POINT_LABEL]
        height_px, width_px = size_hw_px
        scale = torch.tensor([self._side_px / width_px, self._side_px / height_px])
        return {
            "point_coords": (torch.tensor(coordinates, dtype=torch.float32) * scale)[None, None],
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }

    def _features_cache(self, frame_index: int, features: FrameFeatures) -> _OneFrame:
        if self._positions is None:
            raise ValueError("features must come from this network's own embed, but it has embedded nothing yet")
        maps = [each.to(self._device, torch.float32) for each in features.maps]
        return _OneFrame(frame_index, {"vision_feats": maps, "vision_pos_embeds": [self._positions]})

    def _resized(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(1, 1, H, W) float32 at another size, as the model's own processor resizes masks."""
        if tuple(image.shape[-2:]) == size:
            return image
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def _give_prior(
        self, _module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Hand the mask under correction to the prompt encoder; ``forward`` has no argument for it."""
        prior = getattr(self._call, "prior", None)
        return args, kwargs if prior is None else {**kwargs, "input_masks": prior}

    def _keep_iou(self, _module: torch.nn.Module, _inputs: Any, output: tuple[torch.Tensor, ...]) -> None:
        self._call.iou = output[1]

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self._device.type, self._autocast_dtype, enabled=self._half)


@dataclass(frozen=True)
class _OneFrame:
    """Replaces the feature cache of an inference session; holds the features of one frame."""

    frame_index: int
    features: dict[str, list[torch.Tensor]]

    def get_vision_features(self, frame_idx: int) -> dict[str, list[torch.Tensor]] | None:
        """The frame's features; the session knows no other frame."""
        return self.features if frame_idx == self.frame_index else None


def _build(name: str, context: PartContext) -> Sam2Network:
    if context.checkpoint is not None:
        raise ValueError(
            f"method sam2 reads a folder with config.json and model.safetensors, not the single file "
            f"{context.checkpoint}; put them where `ivos models where {name}` says"
        )
    file = context.weights(name)
    model = load_sam2(None if file is None else file.parent, name, context.device)
    return Sam2Network(model, name=name, device=context.device)


build_edgetam = partial(_build, "edgetam")
build_hiera_tiny = partial(_build, "sam2_1_hiera_tiny")
build_hiera_small = partial(_build, "sam2_1_hiera_small")
build_hiera_base_plus = partial(_build, "sam2_1_hiera_base_plus")
build_hiera_large = partial(_build, "sam2_1_hiera_large")

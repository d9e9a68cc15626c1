"""The segmenter on segment-anything: any `Sam` of that package, unchanged.

CRSTM (I-PT, Sec. III-D) reads the image features that leave the mask decoder's two-way transformer and replaces the
dense prompt embedding. The package returns neither, so a forward hook on that transformer keeps its second output, and
the prompt encoder and the mask decoder are called one after the other here, as `SamPredictor.predict_torch` does.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from pipeline.masks import NO_OBJECT_LOGIT
from pipeline.parts.context import PartContext
from pipeline.parts.device import sixteen_bit_dtype
from pipeline.segmenters.base import (
    FloatMap,
    MemoryEntry,
    MemoryQuery,
    MemoryReadout,
    ObjectPrompts,
    PromptBatch,
    ReferenceFrame,
    Segmentation,
)
from pipeline.segmenters.resizing import Resizing, resizing
from pipeline.segmenters.sam_memory import AskedCells, CellLimits, object_box
from pipeline.segmenters.serialization import SerializableEmbeddings
from pipeline.types import FrameRGB

MAX_ROWS, MAX_ROWS_ON_CPU = 16, 2
"""Objects decoded in one call; with SAM's own sizes a row needs about 40 MiB while it is decoded. On a CPU larger
tensors cost more than fewer calls save: the system maps and clears their memory anew in every call."""

SQUARED_LENGTH_PER_TEMPERATURE = 16.0

T = TypeVar("T")


@dataclass(frozen=True)
class SamEmbedding:
    """The image encoder's output for one frame, kept in main memory whatever the device.

    ``features`` is (C, gh, gw), (256, 64, 64) with SAM's own sizes: float32 (4 MiB), or float16 (2 MiB) where the
    encoder ran under autocast, whose results have no more digits than that. Sizes are (height, width) in pixels: of the
    frame, and of the frame resized for the encoder, before the padding at its right and bottom.
    """

    features: torch.Tensor
    original_size_px: tuple[int, int]
    input_size_px: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory used, in bytes."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, torch.Tensor))


class SamSegmenter(SerializableEmbeddings):
    """See `pipeline.segmenters.base.Segmenter`. The memory's tensors (C = V = 256) stay on the device.

    A query is about the cells around the object, and a frame stores those of the image (see
    `pipeline.segmenters.sam_memory`).

    Objects are decoded in batches of equally many points and the same presence of a box: the package knows no attention
    mask, so a row filled up with padding tokens would attend to them and come out different from `SamPredictor`.

    A row without any point and box is not decoded, whatever its mask input: its logits are `NO_OBJECT_LOGIT`, its
    predicted IoU 0, and its query has no cells (N = 0), so that nothing is read for it and nothing memorised.
    """

    uses_mask_prior = False
    # Subclasses whose encoder and decoder return something else replace these, `_encode` and `_masks`.
    _embedding_type: type[SamEmbedding] = SamEmbedding
    _n_candidates = 3

    def __init__(self, model: Sam, *, name: str, device: str = "cpu") -> None:
        """Move the model to the device, into evaluation mode, and switch its gradients off.

        Args:
            model: from `model_zoo.sam.load_sam`, or any other `Sam`.
            name: names architecture and weights, such as "sam_vit_b".
            device: a torch device. CUDA computes in 16 bits, see `sixteen_bit_dtype`; others in float32.
        """
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._transform = ResizeLongestSide(model.image_encoder.img_size)
        self._grid: tuple[int, int] = tuple(model.prompt_encoder.image_embedding_size)
        self._low_res: tuple[int, int] = tuple(model.prompt_encoder.mask_input_size)
        self._channels: int = model.prompt_encoder.embed_dim
        self._cell_limits = CellLimits.on(self._device)
        self._max_rows = MAX_ROWS_ON_CPU if self._device.type == "cpu" else MAX_ROWS
        self._half = self._device.type == "cuda"
        self._autocast_dtype = sixteen_bit_dtype(self._device)
        self._name = f"{name}_half" if self._half else name
        with torch.inference_mode():
            self._image_pe = model.prompt_encoder.get_dense_pe()
        # Per thread, so that a thread never takes the keys of another thread's call.
        self._hooked = threading.local()
        model.mask_decoder.transformer.register_forward_hook(self._keep_keys)

    @property
    def name(self) -> str:
        """The model's name, and whether its embeddings were computed in 16 bits."""
        return self._name

    @property
    def memory_temperature(self) -> float:
        """A sixteenth of the keys' mean squared length, see `pipeline.segmenters.base.memory_temperature`.

        The keys leave a layer normalisation, whose weights w tell it: the sum of w^2, without the offset that all keys
        have in common. Untrained, that is 256 for SAM's 256 channels, and the temperature is 16, the square root of the
        channels by which STCN divides. With 1, as in I-PT, a single cell would answer for nearly every other.
        """
        layers: Any = getattr(self._model.mask_decoder.transformer, "layers", None)
        if not layers:
            return 1.0
        return float(layers[-1].norm4.weight.square().sum()) / SQUARED_LENGTH_PER_TEMPERATURE

    def embed(self, frame_rgb: FrameRGB) -> SamEmbedding:
        """Run the image encoder, as `SamPredictor.set_image` does.

        Raises:
            ValueError: the frame is not (H, W, 3) uint8.
        """
        if frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3 or frame_rgb.dtype != np.uint8:
            raise ValueError(f"a frame must be (H, W, 3) uint8, but got {frame_rgb.shape} {frame_rgb.dtype}")
        resized = self._transform.apply_image(np.ascontiguousarray(frame_rgb))
        with torch.inference_mode():
            image = torch.from_numpy(resized).to(self._device).permute(2, 0, 1).contiguous()[None]
            with self._autocast():
                encoded = self._encode(self._model.preprocess(image))
            dtype = torch.float16 if self._half else torch.float32
            kept = {name: tensor.to("cpu", dtype) for name, tensor in encoded.items()}
        (height, width), input_size_px = frame_rgb.shape[:2], resized.shape[:2]
        return self._embedding_type(original_size_px=(height, width), input_size_px=input_size_px, **kept)

    def features(self, embedding: SamEmbedding) -> torch.Tensor:
        """The image embedding (C, gh, gw) float32 on the device; like the low-resolution logits, it has the padding."""
        return embedding.features.to(self._device, torch.float32)

    def key_features(self, embedding: SamEmbedding) -> torch.Tensor:
        """The same as `features`."""
        return self.features(embedding)

    def learn(self, references: Sequence[ReferenceFrame], previous: Any = None) -> None:  # noqa: ARG002
        """None: SAM has no appearance model."""
        return None

    def adapt(self, appearance: None, embedding: SamEmbedding, low_res_logits: FloatMap) -> None:
        """None: SAM has no appearance model."""

    def segment(
        self,
        embedding: SamEmbedding,
        prompts: PromptBatch,
        *,
        mask_input: Sequence[FloatMap | None] | None = None,
        mask_prior: Sequence[FloatMap | None] | None = None,  # noqa: ARG002
        appearance: Sequence[Any] | None = None,  # noqa: ARG002
        readout: Sequence[MemoryReadout | None] | None = None,
        multimask: bool = False,
    ) -> Segmentation:
        """Prompt encoder and mask decoder; see `pipeline.segmenters.base.Segmenter.segment`.

        ``mask_prior`` and ``appearance`` are not used. With ``multimask`` K is 3, else 1, as in `SamPredictor`.
        A readout replaces the row's dense prompt embedding v by alpha * v + (1 - alpha) * values (I-PT, Eq. 6) around
        the cells that its query is about; one without cells leaves it.

        Raises:
            ValueError: a sequence has not one item per object, or an item the wrong shape.
        """
        n_objects = len(prompts.objects)
        masks = _per_object("mask_input", mask_input, n_objects)
        readouts = _per_object("readout", readout, n_objects)
        shape = (n_objects, self._n_candidates if multimask else 1)
        logits = np.full((*shape, *self._low_res), NO_OBJECT_LOGIT, np.float32)
        predicted_iou = np.zeros(shape, np.float32)
        queries = [MemoryQuery(torch.zeros((self._channels, 0), device=self._device))] * n_objects
        with torch.inference_mode():
            for rows in _batches(prompts.objects, self._max_rows):
                sparse = self._sparse([prompts.objects[row] for row in rows], embedding.original_size_px)
                dense = self._dense([masks[row] for row in rows])
                for position, row in enumerate(rows):
                    self._mix(dense[position], readouts[row])
                decoded, scores, keys = self._decode(embedding, sparse, dense, multimask)
                logits[rows] = decoded.float().cpu().numpy()
                predicted_iou[rows] = scores.float().cpu().numpy().clip(0, 1)
                for position, row in enumerate(rows):
                    best = logits[row, int(predicted_iou[row].argmax())]
                    queries[row] = self._asked(embedding, prompts.objects[row], best, keys[position]).query()
        return Segmentation(logits, predicted_iou, tuple(queries))

    def memorise(self, embedding: SamEmbedding, query: MemoryQuery, low_res_logits: FloatMap) -> MemoryEntry:  # noqa: ARG002
        """The frame's keys, and as values the dense prompt embedding of the mask (I-PT, Sec. III-D1), both (256, M).

        A query without cells and an empty mask give an entry without cells.

        Raises:
            ValueError: the logits do not have the segmenter's own resolution.
        """
        self._check_low_res(low_res_logits)
        mask = low_res_logits > 0
        if not query.keys.shape[1] or not mask.any():
            nothing = torch.zeros((self._channels, 0), device=self._device)
            return MemoryEntry(nothing, nothing)
        asked: AskedCells = query.cells
        with torch.inference_mode():
            cells = asked.stored(mask, self._cell_limits.stored).to(self._device)
            values = self._dense([low_res_logits])[0].flatten(1)
            # Copies: a query holds the keys of all objects of its call, and would keep them alive.
            return MemoryEntry(asked.all_keys[cells].T.contiguous(), values[:, cells].contiguous())

    def to_low_res(self, embedding: SamEmbedding, logits: FloatMap) -> FloatMap:
        """Logits (H, W) at the segmenter's own resolution: resized and padded as the image was, averaged by cell.

        The padding is `NO_OBJECT_LOGIT`, see `Resizing.down`.

        Raises:
            ValueError: the logits do not have the frame's size.
        """
        if logits.shape != embedding.original_size_px:
            raise ValueError(
                f"expected logits of the frame's size {embedding.original_size_px}, but got {logits.shape}"
            )
        with torch.inference_mode():
            full_size = torch.from_numpy(np.ascontiguousarray(logits, np.float32))
            return np.asarray(self._resizing(embedding).down(full_size, NO_OBJECT_LOGIT).numpy(), np.float32)

    def to_full_size(self, embedding: SamEmbedding, low_res_logits: FloatMap) -> FloatMap:
        """Logits (H, W) of the frame's size, equal to those of the package's own `Sam.postprocess_masks`.

        Raises:
            ValueError: the logits do not have the segmenter's own resolution.
        """
        self._check_low_res(low_res_logits)
        with torch.inference_mode():
            low_res = torch.from_numpy(np.ascontiguousarray(low_res_logits, np.float32))
            return np.asarray(self._resizing(embedding).up(low_res).numpy(), np.float32)

    def _resizing(self, embedding: SamEmbedding) -> Resizing:
        """Between the frame's size and the low resolution; on the CPU, as the maps are small."""
        return resizing(
            embedding.original_size_px, embedding.input_size_px, self._transform.target_length, self._low_res
        )

    def _keep_keys(self, _module: torch.nn.Module, _inputs: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        self._hooked.keys = output[1]

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self._device.type, self._autocast_dtype, enabled=self._half)

    def _sparse(self, objects: Sequence[ObjectPrompts], original_size_px: tuple[int, int]) -> torch.Tensor:
        """Point and box tokens (B, tokens, C); the objects have equally many points, and all a box or none."""
        points, boxes = None, None
        if len(objects[0].points_xy_px):
            coordinates = np.stack([each.points_xy_px for each in objects])
            signs = np.stack([each.positive for each in objects])
            points = (self._tensor(self._transform.apply_coords(coordinates, original_size_px)), self._tensor(signs))
        if objects[0].box_xyxy_px is not None:
            corners = np.array([each.box_xyxy_px for each in objects], np.float64)
            boxes = self._tensor(self._transform.apply_boxes(corners, original_size_px))
        # Not under autocast: the positions' sines and cosines need all digits.
        sparse: torch.Tensor = self._model.prompt_encoder(points=points, boxes=boxes, masks=None)[0]
        return sparse

    def _dense(self, masks: Sequence[FloatMap | None]) -> torch.Tensor:
        """Dense prompt embeddings (B, C, gh, gw); rows without a mask have the package's embedding of no mask."""
        encoder = self._model.prompt_encoder
        dense: torch.Tensor = encoder(points=None, boxes=None, masks=None)[1].repeat(len(masks), 1, 1, 1)
        given = [row for row, mask in enumerate(masks) if mask is not None]
        if given:
            present = [mask for mask in masks if mask is not None]
            dense[given] = encoder(points=None, boxes=None, masks=self._mask_tensor(present))[1]
        return dense

    def _mix(self, dense: torch.Tensor, readout: MemoryReadout | None) -> None:
        """Mix a dense prompt embedding (C, gh, gw) in place with what was read from the memory."""
        if readout is None or not readout.values.shape[1]:
            return
        asked: AskedCells = readout.query.cells
        expected = (self._channels, asked.n_cells)
        if tuple(readout.values.shape) != expected:
            raise ValueError(f"a readout must have values {expected}, but got {tuple(readout.values.shape)}")
        asked.mix(dense, readout)

    def _asked(
        self, embedding: SamEmbedding, prompts: ObjectPrompts, low_res_logits: FloatMap, keys: torch.Tensor
    ) -> AskedCells:
        """The cells around an object that the memory is asked about; ``keys`` are (cells, C)."""
        side_px = self._transform.target_length
        image_hw = tuple(-(-px * n // side_px) for px, n in zip(embedding.input_size_px, self._grid, strict=True))
        cells_per_px = embedding.input_size_px[1] / embedding.original_size_px[1] * self._grid[1] / side_px
        box = object_box(low_res_logits, prompts, cells_per_px, self._grid)
        return AskedCells.around(keys, self._grid, (image_hw[0], image_hw[1]), box, self._cell_limits.asked)

    def _decode(
        self, embedding: SamEmbedding, sparse: torch.Tensor, dense: torch.Tensor, multimask: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, K, h, w), predicted IoU (B, K), and the transformer's image features (B, cells, C) float32."""
        inputs = {
            "image_embeddings": self.features(embedding)[None],
            "image_pe": self._image_pe,
            "sparse_prompt_embeddings": sparse,
            "dense_prompt_embeddings": dense,
        }
        with self._autocast():
            logits, predicted_iou = self._masks(embedding, inputs, multimask)
        keys: torch.Tensor = self._hooked.keys
        del self._hooked.keys
        return logits, predicted_iou, keys.float()

    def _encode(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The tensors that an embedding keeps of a preprocessed image (1, 3, side, side), by field name."""
        return {"features": self._model.image_encoder(image)[0]}

    def _masks(self, embedding: Any, inputs: dict[str, torch.Tensor], multimask: bool) -> Any:  # noqa: ARG002
        """Logits (B, K, h, w) and predicted IoU (B, K); ``inputs`` are common to SAM's and HQ-SAM's decoders."""
        return self._model.mask_decoder(**inputs, multimask_output=multimask)

    def _mask_tensor(self, masks: Sequence[FloatMap]) -> torch.Tensor:
        for mask in masks:
            self._check_low_res(mask)
        return self._tensor(np.stack(masks))[:, None]

    def _check_low_res(self, logits: FloatMap) -> None:
        if logits.shape != self._low_res:
            raise ValueError(f"expected logits {self._low_res} of low resolution, but got {logits.shape}")

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)


def _per_object(name: str, values: Sequence[T | None] | None, n_objects: int) -> Sequence[T | None]:
    """An optional sequence of one item per object; None for every object if there is no sequence.

    Raises:
        ValueError: it has more or fewer items; the message uses ``name``.
    """
    if values is None:
        return [None] * n_objects
    if len(values) != n_objects:
        raise ValueError(f"{name} must have one item per object, but got {len(values)} for {n_objects} objects")
    return values


def _batches(objects: Sequence[ObjectPrompts], max_rows: int) -> Iterator[list[int]]:
    """Rows of objects with equally many points and the same presence of a box; rows without prompts are left out."""
    groups: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
    for row, each in enumerate(objects):
        if len(each.points_xy_px) or each.box_xyxy_px is not None:
            groups[len(each.points_xy_px), each.box_xyxy_px is not None].append(row)
    for rows in groups.values():
        for start in range(0, len(rows), max_rows):
            yield rows[start : start + max_rows]


def _build_sam(model_type: str, context: PartContext) -> SamSegmenter:
    from model_zoo.sam import load_sam

    name = f"sam_{model_type}"
    model = load_sam(model_type, context.checkpoint or context.weights(name), context.device)
    return SamSegmenter(model, name=name, device=context.device)


build_vit_b, build_vit_l, build_vit_h = (partial(_build_sam, model_type) for model_type in ("vit_b", "vit_l", "vit_h"))


def build_mobile_sam(context: PartContext) -> SamSegmenter:
    """MobileSAM with its published weights."""
    from model_zoo.sam import load_mobile_sam

    model = load_mobile_sam(context.checkpoint or context.weights("mobile_sam"), context.device)
    return SamSegmenter(model, name="mobile_sam", device=context.device)

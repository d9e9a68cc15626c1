"""The network of segmenter `lite` with the weights that come with the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from model_zoo.checkpoints import load_into, read_weights
from model_zoo.lite.decoder import Decoder
from model_zoo.lite.trunk import CHANNELS, PIXEL_MEAN, PIXEL_SCALE, STRIDE_PX, Trunk

LAST = torch.channels_last
"""Memory format of all that convolutions get."""
Features = list[torch.Tensor]
"""Feature maps (1, C, h, w) of one crop at the strides of `Trunk`."""
WEIGHTS_FILE = Path(__file__).parent / "lite.safetensors"
MAX_CROPS, MAX_CROPS_ON_CPU = 32, 2
"""Crops that run in one batch. On a CPU larger batches leave the processor's cache and take longer for each crop."""


class LiteNetwork(nn.Module):
    """Trunk and decoder. Safe to use from several threads.

    ``key_mean`` (432,) is what stride-16 and stride-32 features of unit length are on average, see `key_maps`.
    ``iou_scale`` (2,) holds a factor and a summand: with them the decoder's IoU logits become those of the IoU that
    masks have on average.
    """

    key_mean: torch.Tensor
    iou_scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.decoder = Trunk(), Decoder()
        self.register_buffer("key_mean", torch.zeros(sum(CHANNELS[3:])))
        self.register_buffer("iou_scale", torch.tensor([1.0, 0.0]))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.key_mean.device

    @torch.inference_mode()
    def key_maps(self, frame_rgb: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """The trunk's feature maps of a frame at strides 16 and 32: (112, h, w) and (320, h / 2, w / 2), on the CPU.

        Args:
            frame_rgb: (H, W, 3). Its right and bottom edges are repeated up to a multiple of 32 pixels.
        """
        height, width = frame_rgb.shape[:2]
        image = self._image(frame_rgb[None])
        image = F.pad(image, (0, -width % STRIDE_PX, 0, -height % STRIDE_PX), mode="replicate")
        maps = self.trunk(image.contiguous(memory_format=LAST))
        return maps[3][0].cpu(), maps[4][0].cpu()

    @torch.inference_mode()
    def features(self, crops_rgb: Sequence[NDArray[np.uint8]]) -> list[Features]:
        """The trunk's features of each crop (R, R, 3); R is a multiple of `STRIDE_PX` and may differ between crops."""
        found: list[Features] = [[]] * len(crops_rgb)
        for rows in self._batches([crop.shape[0] for crop in crops_rgb]):
            maps = self.trunk(self._image(np.stack([crops_rgb[row] for row in rows])).contiguous(memory_format=LAST))
            for place, row in enumerate(rows):
                found[row] = [each[place : place + 1] for each in maps]
        return found

    @torch.inference_mode()
    def masks(
        self,
        features: Sequence[Features],
        crops_rgb: Sequence[NDArray[np.uint8]],
        planes: Sequence[NDArray[np.float32]],
    ) -> list[tuple[NDArray[np.float32], float]]:
        """Mask logits (R, R) of each crop, and the IoU in [0, 1] that the network expects of the mask.

        Args:
            features: of the crops, see `features`.
            crops_rgb: each (R, R, 3).
            planes: each (N_PLANES, R, R), see `model_zoo.lite.decoder.Plane`.
        """
        answers: list[tuple[NDArray[np.float32], float]] = [(np.empty((0, 0), np.float32), 0.0)] * len(crops_rgb)
        for rows in self._batches([crop.shape[0] for crop in crops_rgb]):
            maps = [
                torch.cat(each).contiguous(memory_format=LAST)
                for each in zip(*[features[r] for r in rows], strict=True)
            ]
            image = self._image(np.stack([crops_rgb[row] for row in rows])).contiguous(memory_format=LAST)
            given = torch.from_numpy(np.stack([planes[row] for row in rows])).to(self.device, self.key_mean.dtype)
            logits, iou_logits = self.decoder(maps, given.contiguous(memory_format=LAST), image)
            ious = torch.sigmoid(self.iou_scale[0] * iou_logits.float() + self.iou_scale[1]).cpu()
            for row, mask, iou in zip(rows, logits.float().cpu().numpy(), ious, strict=True):
                answers[row] = mask, float(iou)
        return answers

    def _batches(self, sides_px: Sequence[int]) -> Iterator[list[int]]:
        """Indices of crops of the same size, few enough to run together."""
        limit = MAX_CROPS_ON_CPU if self.device.type == "cpu" else MAX_CROPS
        for side_px in sorted(set(sides_px)):
            rows = [row for row, each in enumerate(sides_px) if each == side_px]
            yield from (rows[begin : begin + limit] for begin in range(0, len(rows), limit))

    def _image(self, pictures_rgb: NDArray[np.uint8]) -> torch.Tensor:
        """(B, H, W, 3) uint8 as the trunk takes it."""
        pictures = torch.from_numpy(np.require(pictures_rgb, requirements=["C", "W"])).to(self.device)
        return ((pictures.to(self.key_mean.dtype) - PIXEL_MEAN) / PIXEL_SCALE).permute(0, 3, 1, 2)


def load_lite(device: str = "cpu", file: Path = WEIGHTS_FILE) -> LiteNetwork:
    """The network with the weights of the package, in float32 on every device.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    network = LiteNetwork()
    weights = {name: value.float() for name, value in read_weights(file, "lite").items()}
    load_into(network, weights, "lite", file)
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=LAST)

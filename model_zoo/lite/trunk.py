"""The trunk of segmenter `lite`: EfficientNet-Lite0 (Liu, 2020) without its classifier, batch norms folded in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = (16, 24, 40, 112, 320)
"""Channels of the feature maps at strides 2, 4, 8, 16 and 32."""
STRIDE_PX = 32
"""Height and width of an input must be multiples of this."""
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
"""The trunk takes (rgb - mean) / scale."""


@dataclass(frozen=True)
class Stage:
    """Blocks with the same number of channels; the first one has the stride, the others add their input."""

    n_blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
TAPPED_STAGES = (0, 1, 2, 4, 6)
"""The stages whose output is used."""


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: for stride 2 and even sizes there is more at the bottom right."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, stride, 0 if stride > 1 else kernel // 2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in, H, W) to (B, c_out, H / stride, W / stride)."""
        if self.stride[0] > 1:
            total = self.kernel_size[0] - self.stride[0]
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        padded: torch.Tensor = super().forward(x)
        return padded


class InvertedResidual(nn.Module):
    """Widen, filter each channel, project (MobileNetV2); adds its input where shapes allow."""

    def __init__(self, c_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = c_in * stage.expansion
        self.expand = nn.Conv2d(c_in, wide, 1) if stage.expansion > 1 else None
        self.depthwise = SameConv(wide, wide, stage.kernel, stride, groups=wide)
        self.project = nn.Conv2d(wide, stage.channels, 1)
        self.adds_input = stride == 1 and c_in == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, c_in, H, W) to (B, stage.channels, H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return torch.add(x, y) if self.adds_input else y


class Trunk(nn.Module):
    """Five feature maps of an image. It is never trained here: its weights are those of ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        channels = 32
        for stage in STAGES:
            blocks = [
                InvertedResidual(channels if i == 0 else stage.channels, stage, stage.stride if i == 0 else 1)
                for i in range(stage.n_blocks)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = stage.channels
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps at strides 2, 4, 8, 16 and 32 with `CHANNELS` channels.

        Args:
            image: (B, 3, H, W) float, normalised by `PIXEL_MEAN` and `PIXEL_SCALE`; H and W multiples of `STRIDE_PX`.
        """
        x = F.relu6(self.stem(image), inplace=True)
        found = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPPED_STAGES:
                found.append(x)
        return found

"""The decoder of segmenter `lite`: from the trunk's features of a crop and the prompts in it to a mask."""

from __future__ import annotations

import math
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import nn

from model_zoo.lite.trunk import CHANNELS


class Plane(IntEnum):
    """What the planes of the prompts hold, each (H, W) float of the crop's size.

    BOX: 1 in the box, -1 outside, 0 without a box. POSITIVE, NEGATIVE: discs of 1 at points. PREVIOUS: a mask that may
    be wrong, from an earlier pass or a neighbouring frame, 2p - 1 for probability p, 0 without one. EVIDENCE: the same
    for what the memory says. REGION_COLOURS: from -1 to 1, how much a pixel's colour is one of what the three marks, 0
    without them; CLICK_COLOURS: the same for points (`pipeline.segmenters.lite.likeness`). VALID: 1 on the frame, 0
    beyond it.
    """

    BOX = 0
    POSITIVE = 1
    NEGATIVE = 2
    PREVIOUS = 3
    EVIDENCE = 4
    REGION_COLOURS = 5
    CLICK_COLOURS = 6
    VALID = 7


N_PLANES = len(Plane)
GROUPS = 8
"""Groups of every group norm."""


class DepthwiseBlock(nn.Module):
    """Filter each channel, then mix them; adds its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return torch.add(x, self.project(F.relu(self.widen(self.norm(self.filter(x))), inplace=True)))


class ResidualBlock(nn.Module):
    """Two convolutions; adds its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return torch.add(x, self.second(F.relu(self.first(x), inplace=True)))


class AttentionBlock(nn.Module):
    """Attention among all tokens, then an MLP that also sees each token's neighbours."""

    def __init__(self, channels: int, n_heads: int = 4) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.neighbours = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, tokens: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
        """(B, N, C) to the same shape, where N is the product of ``grid_hw``."""
        b, n, c = tokens.shape
        q, k, v = (
            self.qkv(self.norm_attention(tokens)).view(b, n, 3, self.n_heads, c // self.n_heads).permute(2, 0, 3, 1, 4)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        tokens = tokens + self.out(attended)
        grid = tokens.transpose(1, 2).reshape(b, c, *grid_hw)
        mixed = tokens + self.neighbours(grid).flatten(2).transpose(1, 2)
        return torch.add(tokens, self.project(F.gelu(self.widen(self.norm_mlp(mixed)))))


class Decoder(nn.Module):
    """Tokens at stride 16 with attention, then a light U-Net up to stride 2; and a head that predicts the IoU."""

    def __init__(self, c16: int = 128, c8: int = 64, c4: int = 48, c2: int = 16, depth: int = 3) -> None:
        super().__init__()
        f2, f4, f8, f16, f32 = CHANNELS
        n = N_PLANES
        self.lateral32, self.norm32 = nn.Conv2d(f32, c16, 1), nn.GroupNorm(GROUPS, c16)
        self.lateral16, self.norm16 = nn.Conv2d(f16, c16, 1), nn.GroupNorm(GROUPS, c16)
        self.lateral8, self.norm8 = nn.Conv2d(f8, c8, 1), nn.GroupNorm(GROUPS, c8)
        self.lateral4, self.norm4 = nn.Conv2d(f4, c4, 1), nn.GroupNorm(GROUPS, c4)
        self.lateral2 = nn.Conv2d(f2, c2, 1)
        self.prompts16 = nn.Sequential(nn.Conv2d(2 * n, 64, 3, padding=1), nn.ReLU(True), nn.Conv2d(64, c16, 1))
        self.prompts8 = nn.Conv2d(2 * n, c8, 3, padding=1)
        self.prompts4 = nn.Conv2d(n, c4, 3, padding=1)
        self.prompts2 = nn.Conv2d(n + 3, c2, 3, padding=1)
        self.attention = nn.ModuleList([AttentionBlock(c16) for _ in range(depth)])
        self.norm_out = nn.LayerNorm(c16)
        self.up8, self.mix8 = nn.Conv2d(c16, c8, 1), nn.Sequential(DepthwiseBlock(c8), DepthwiseBlock(c8))
        self.up4, self.mix4 = nn.Conv2d(c8, c4, 1), nn.Sequential(DepthwiseBlock(c4), DepthwiseBlock(c4))
        self.up2, self.mix2 = nn.Conv2d(c4, c2, 1), nn.Sequential(ResidualBlock(c2), nn.ReLU(True))
        self.mask = nn.Conv2d(c2, 4, 3, padding=1)
        self.iou = nn.Sequential(nn.Linear(c16, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(
        self, features: list[torch.Tensor], planes: torch.Tensor, image: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (B, H, W) and the logit (B,) of the IoU that the mask is expected to have.

        Args:
            features: of the crops, from `Trunk`.
            planes: (B, N_PLANES, H, W), see `Plane`.
            image: (B, 3, H, W), as the trunk took it.
        """
        f2, f4, f8, f16, f32 = features
        means, maxima = _pyramid(planes)
        x = self.norm16(self.lateral16(f16)) + _enlarged(self.norm32(self.lateral32(f32)), f16)
        x = x + self.prompts16(torch.cat([means[3], maxima[3]], 1))
        height, width = int(x.shape[2]), int(x.shape[3])
        tokens = x.flatten(2).transpose(1, 2) + positions(height, width, x.shape[1], x.device)
        for block in self.attention:
            tokens = block(tokens, (height, width))
        tokens = self.norm_out(tokens)
        iou = self.iou(tokens.mean(1))[:, 0]
        x16 = tokens.transpose(1, 2).reshape(x.shape)
        x8 = _enlarged(self.up8(x16), f8) + self.norm8(self.lateral8(f8))
        x8 = self.mix8(x8 + self.prompts8(torch.cat([means[2], maxima[2]], 1)))
        x4 = self.mix4(_enlarged(self.up4(x8), f4) + self.norm4(self.lateral4(f4)) + self.prompts4(means[1]))
        x2 = _enlarged(self.up2(x4), f2) + self.lateral2(f2)
        x2 = self.mix2(x2 + self.prompts2(torch.cat([means[0], F.avg_pool2d(image, 2)], 1)))
        return F.pixel_shuffle(self.mask(x2), 2)[:, 0], iou


def _pyramid(planes: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Means and maxima of the planes at strides 2, 4, 8 and 16."""
    means, maxima = [], []
    mean = maximum = planes
    for _ in range(4):
        mean, maximum = F.avg_pool2d(mean, 2), F.max_pool2d(maximum, 2)
        means.append(mean)
        maxima.append(maximum)
    return means, maxima


def _enlarged(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def positions(height: int, width: int, channels: int, device: torch.device) -> torch.Tensor:
    """Sines and cosines of the position in the crop, (1, height * width, channels)."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device), torch.linspace(-1, 1, width, device=device), indexing="ij"
    )
    n = channels // 4
    frequency = torch.exp2(torch.arange(n, device=device) * (5.0 / n)) * math.pi / 2
    parts = [wave(axis[..., None] * frequency) for axis in (y, x) for wave in (torch.sin, torch.cos)]
    return torch.cat(parts, -1).view(1, height * width, channels)

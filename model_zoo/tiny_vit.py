"""TinyViT as the image encoder of MobileSAM.

K. Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers" (ECCV 2022): a hierarchical network
of four stages, of which the first is built of inverted residuals (MBConv) and the others of attention in windows, with
a depthwise convolution between attention and MLP. C. Zhang et al., "Faster Segment Anything" (2023) take the smallest
one (5M parameters), keep the resolution before the last stage, and end with the neck of SAM's own encoder.

For inference only: there is no dropout, no stochastic depth, and batch normalisation uses its stored statistics.
Parameters have the names of the published file. Maps have channels last in memory throughout, so that neither linear
layers nor convolutions need a copy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (0, 4, 5, 10)
WINDOW_SIDES = (0, 7, 14, 7)
EXPANSION = 4
"""Of the channels within an MBConv and within an MLP."""
DOWNSAMPLING = (2, 2, 1)
"""Stride after each stage but the last; the plain TinyViT halves the resolution a third time."""
OUT_CHANNELS = 256
N_CLASSES = 1000


class ConvBN(nn.Module):
    """A convolution without bias (c) and the batch normalisation of its result (bn), computed as one convolution."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(n_out)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, n_out, H / stride, W / stride)."""
        # Folded at every call: the filters are tiny beside the maps, and a copy of them could go stale.
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None
        assert variance is not None
        scale = self.bn.weight * torch.rsqrt(variance + self.bn.eps)
        weight = self.c.weight * scale[:, None, None, None]
        bias = self.bn.bias - mean * scale
        return F.conv2d(maps, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)


class PatchEmbedding(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvBN(3, WIDTHS[0] // 2, 3, 2), nn.GELU(), ConvBN(WIDTHS[0] // 2, WIDTHS[0], 3, 2))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, H / 4, W / 4)."""
        maps: Tensor = self.seq(image)
        return maps


class ConvTriple(nn.Module):
    """Pointwise, depthwise 3 x 3, pointwise: what MBConv and the reduction between stages share."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvBN(n_in, n_hidden)
        self.conv2 = ConvBN(n_hidden, n_hidden, 3, stride, groups=n_hidden)
        self.conv3 = ConvBN(n_hidden, n_out)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, n_in, H, W) to (B, n_out, H / stride, W / stride); no activation at the end."""
        maps = F.gelu(self.conv1(maps))
        maps = F.gelu(self.conv2(maps))
        reduced: Tensor = self.conv3(maps)
        return reduced


class MBConv(ConvTriple):
    """An inverted residual; unlike MobileNet's, it ends with an activation."""

    def __init__(self, width: int) -> None:
        super().__init__(width, EXPANSION * width, width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return F.gelu(maps + super().forward(maps))


class WindowAttention(nn.Module):
    """Attention among the cells of one window, with a learnt bias for every distance (|dy|, |dx|) and head."""

    distance_index: Tensor

    def __init__(self, width: int, n_heads: int, side: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(n_heads, side * side))
        ys, xs = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
        # Distances are numbered as they occur seen from the first cell, which is row by row.
        index = side * (ys[:, None] - ys).abs() + (xs[:, None] - xs).abs()
        self.register_buffer("distance_index", index, persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """(windows, side * side, C) to the same."""
        n_windows, n_cells, width = windows.shape
        # Query, key and value of one head lie side by side.
        qkv = self.qkv(self.norm(windows)).view(n_windows, n_cells, self.n_heads, 3, -1)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        bias = self.attention_biases[:, self.distance_index].to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        mixed: Tensor = self.proj(attended.transpose(1, 2).reshape(n_windows, n_cells, width))
        return mixed


class Mlp(nn.Module):
    """Two linear layers after a normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, cells: Tensor) -> Tensor:
        """(..., C) to the same."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(self.norm(cells))))
        return mixed


class TransformerBlock(nn.Module):
    """Attention in windows, a depthwise convolution that lets neighbouring windows see each other, and an MLP."""

    def __init__(self, width: int, n_heads: int, window_side: int) -> None:
        super().__init__()
        self.side = window_side
        self.attn = WindowAttention(width, n_heads, window_side)
        self.local_conv = ConvBN(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        cells = maps.permute(0, 2, 3, 1)
        cells = cells + self._attend(cells)
        maps = self.local_conv(cells.permute(0, 3, 1, 2))
        mixed: Tensor = self.mlp(maps.permute(0, 2, 3, 1))
        return maps + mixed.permute(0, 3, 1, 2)

    def _attend(self, cells: Tensor) -> Tensor:
        """(B, H, W, C), cut into windows; zeros fill up the last ones and take part like other cells."""
        batch, height, width, channels = cells.shape
        side = self.side
        padded = F.pad(cells, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
        attended: Tensor = self.attn(windows.reshape(-1, side * side, channels))
        whole = attended.view(batch, rows, columns, side, side, channels).transpose(2, 3).reshape(padded.shape)
        return whole[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one width, and the reduction that leads to the next stage."""

    def __init__(self, index: int) -> None:
        super().__init__()
        width = WIDTHS[index]
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(width, HEADS[index], WINDOW_SIDES[index]) if HEADS[index] else MBConv(width)
                for _ in range(DEPTHS[index])
            )
        )
        is_last = index + 1 == len(WIDTHS)
        self.downsample = (
            nn.Identity()
            if is_last
            else ConvTriple(width, WIDTHS[index + 1], WIDTHS[index + 1], stride=DOWNSAMPLING[index])
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, next stage's C, H / stride, W / stride)."""
        reduced: Tensor = self.downsample(self.blocks(maps))
        return reduced


class TinyViTEncoder(nn.Module):
    """The image encoder: (B, 3, 1024, 1024), normalised as `Sam.preprocess` does, to (B, 256, 64, 64).

    Any other size (H, W) divisible by 16 gives (H / 16, W / 16). ``img_size`` is what segment-anything asks for.
    """

    def __init__(self, img_size: int = 1024) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = PatchEmbedding()
        self.layers = nn.Sequential(*(Stage(index) for index in range(len(WIDTHS))))
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], OUT_CHANNELS, 1, bias=False),
            LayerNorm2d(OUT_CHANNELS),
            nn.Conv2d(OUT_CHANNELS, OUT_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(OUT_CHANNELS),
        )
        # The classifier of the distillation, part of the published file and never run.
        self.norm_head = nn.LayerNorm(WIDTHS[-1])
        self.head = nn.Linear(WIDTHS[-1], N_CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        maps = self.patch_embed(image.contiguous(memory_format=torch.channels_last))
        features: Tensor = self.neck(self.layers(maps))
        return features.contiguous()

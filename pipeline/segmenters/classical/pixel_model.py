"""A small network per object that tells its pixels from the others', trained in a second on the prompted frames."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

HIDDEN = 48
LEARNING_RATE = 3e-3
ADAPTATION_RATE = 1e-3
NOISE = 0.05
BATCH = 1024
CHUNK = 4096
LOGIT_LIMIT = 4.0


@dataclass(frozen=True)
class PixelModel:
    """A trained network on standardised features; ``jitter`` (K, C) are the directions of its training noise."""

    network: nn.Module
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    device: str
    jitter: NDArray[np.float32] | None = None

    @classmethod
    def train(
        cls,
        features: NDArray[np.float32],
        labels: NDArray[np.bool_],
        *,
        steps: int,
        device: str = "cpu",
        weights: NDArray[np.float32] | None = None,
        seed: int = 0,
        jitter: NDArray[np.float32] | None = None,
    ) -> PixelModel:
        """Train on pixels.

        Args:
            features: (N, C) float32.
            labels: (N,) bool; both values must occur.
            steps: of AdamW, on random batches.
            device: torch device.
            weights: (N,) float32, how much a pixel counts; None counts all alike.
            seed: of the initial weights, batches and noise.
            jitter: (K, C) float32 directions; every pixel is moved along each by a normal random amount.
        """
        generator = torch.Generator().manual_seed(seed)
        centre = features.mean(axis=0)
        scale = features.std(axis=0) + 1e-3
        x = torch.from_numpy((features - centre) / scale).to(device)
        y = torch.from_numpy(labels.astype(np.float32)).to(device)
        per_pixel = torch.from_numpy(np.ones(len(labels), np.float32) if weights is None else weights).to(device)
        network = _network(features.shape[1], generator).to(device)
        directions = None if jitter is None else (jitter / scale).astype(np.float32)
        _fit(network, x, y, per_pixel, steps, LEARNING_RATE, generator, directions)
        return cls(network.eval(), centre, scale, device, directions)

    def adapted(self, features: NDArray[np.float32], labels: NDArray[np.bool_], *, steps: int, seed: int) -> PixelModel:
        """A copy trained a little further on pixels, see `train`."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.from_numpy((features - self.centre) / self.scale).to(self.device)
        y = torch.from_numpy(labels.astype(np.float32)).to(self.device)
        network = copy.deepcopy(self.network)
        _fit(network, x, y, torch.ones_like(y), steps, ADAPTATION_RATE, generator, self.jitter)
        return PixelModel(network, self.centre, self.scale, self.device, self.jitter)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) logits of (N, C) features, in +-`LOGIT_LIMIT`."""
        out = np.empty(len(features), np.float32)
        centre, scale = torch.from_numpy(self.centre), torch.from_numpy(self.scale)
        with torch.inference_mode():
            for first in range(0, len(features), CHUNK):
                x = torch.from_numpy(features[first : first + CHUNK]).sub(centre).div_(scale).to(self.device)
                part = self.network(x).squeeze(1).clamp_(-LOGIT_LIMIT, LOGIT_LIMIT)
                out[first : first + CHUNK] = part.cpu().numpy()
        return out


def _fit(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor,
    steps: int,
    rate: float,
    generator: torch.Generator,
    jitter: NDArray[np.float32] | None,
) -> None:
    """Train in place on random batches with feature noise."""
    noise = torch.randn((BATCH, x.shape[1]), generator=generator) * NOISE
    if jitter is not None:
        noise += torch.randn((BATCH, len(jitter)), generator=generator) @ torch.from_numpy(jitter)
    noise = noise.to(x.device)
    optimiser = _Adam(list(network.parameters()), rate)
    for step in range(steps):
        rows = torch.randint(len(y), (BATCH,), generator=generator).to(x.device)
        logits = network(x[rows] + torch.roll(noise, step * 7919 % BATCH, 0)).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows], weight=weights[rows])
        optimiser.step(torch.autograd.grad(loss, optimiser.parameters))


class _Adam:
    """Adam with torch's defaults. torch.optim would first import torch's compiler, which takes several seconds."""

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        self.parameters, self._rate = parameters, rate
        self._mean = [torch.zeros_like(p) for p in parameters]
        self._square = [torch.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        self._steps += 1
        bias_mean, bias_square = 1.0 - 0.9**self._steps, 1.0 - 0.999**self._steps
        with torch.no_grad():
            for p, g, mean, square in zip(self.parameters, gradients, self._mean, self._square, strict=True):
                mean.lerp_(g, 0.1)
                square.mul_(0.999).addcmul_(g, g, value=0.001)
                p.addcdiv_(mean, square.div(bias_square).sqrt_().add_(1e-8), value=-self._rate / bias_mean)


def _network(n_channels: int, generator: torch.Generator) -> nn.Sequential:
    network = nn.Sequential(
        nn.Linear(n_channels, HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN, 1),
    )
    # The layers' own initialisation draws from torch's global generator, which other threads use too.
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                bound = float(np.sqrt(6.0 / layer.in_features)) if layer.out_features > 1 else layer.in_features**-0.5
                layer.weight.copy_((torch.rand(layer.weight.shape, generator=generator) * 2 - 1) * bound)
                layer.bias.zero_()
    return network

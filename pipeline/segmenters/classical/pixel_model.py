"""A small network per object that tells its pixels from the others', trained in a second on the prompted frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

HIDDEN = 48
LEARNING_RATE = 3e-3
NOISE = 0.05
BATCH = 1024
LOGIT_LIMIT = 4.0


@dataclass(frozen=True)
class PixelModel:
    """A trained network on standardised features."""

    network: nn.Module
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    device: str

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
    ) -> PixelModel:
        """Train on pixels.

        Args:
            features: (N, C) float32.
            labels: (N,) bool; both values must occur.
            steps: of AdamW, on random batches.
            device: torch device.
            weights: (N,) float32, how much a pixel counts; None counts all alike.
            seed: of the initial weights, batches and noise.
        """
        generator = torch.Generator().manual_seed(seed)
        centre = features.mean(axis=0)
        scale = features.std(axis=0) + 1e-3
        x = torch.from_numpy((features - centre) / scale).to(device)
        y = torch.from_numpy(labels.astype(np.float32)).to(device)
        per_pixel = torch.from_numpy(np.ones(len(labels), np.float32) if weights is None else weights).to(device)
        network = _network(features.shape[1], generator).to(device)
        noise = torch.randn((BATCH, features.shape[1]), generator=generator).to(device) * NOISE
        optimiser = _Adam(list(network.parameters()))
        for step in range(steps):
            rows = torch.randint(len(labels), (BATCH,), generator=generator).to(device)
            logits = network(x[rows] + torch.roll(noise, step * 7919 % BATCH, 0)).squeeze(1)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows], weight=per_pixel[rows])
            optimiser.step(torch.autograd.grad(loss, optimiser.parameters))
        return cls(network.eval(), centre, scale, device)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) logits of (N, C) features, in +-`LOGIT_LIMIT`."""
        with torch.inference_mode():
            x = torch.from_numpy((features - self.centre) / self.scale).to(self.device)
            out = self.network(x).squeeze(1).clamp_(-LOGIT_LIMIT, LOGIT_LIMIT)
        return np.asarray(out.cpu().numpy(), np.float32)


class _Adam:
    """Adam with torch's defaults. torch.optim would first import torch's compiler, which takes several seconds."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
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
                p.addcdiv_(mean, square.div(bias_square).sqrt_().add_(1e-8), value=-LEARNING_RATE / bias_mean)


def _network(n_channels: int, generator: torch.Generator) -> nn.Sequential:
    network = nn.Sequential(
        nn.Linear(n_channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
    )
    # The layers' own initialisation draws from torch's global generator, which other threads use too.
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                bound = float(np.sqrt(6.0 / layer.in_features)) if layer.out_features > 1 else layer.in_features**-0.5
                layer.weight.copy_((torch.rand(layer.weight.shape, generator=generator) * 2 - 1) * bound)
                layer.bias.zero_()
    return network

"""The appearance model of one object: a small network that separates its pixels from all others."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.segmenters.classical.features import (
    ClassicalEmbedding,
    Projection,
    Region,
    pixel_features,
    pixel_features_at,
    rescaled,
)
from pipeline.types import BoolMask

HIDDEN_UNITS = 48
"""Width of the network's two hidden layers."""
TRAINING_RATE = 3e-3
"""Adam's learning rate on the prompted frames."""
ADAPTATION_RATE = 1e-3
"""Adam's learning rate on later frames."""
FEATURE_NOISE = 0.05
"""Standard deviation of the noise on standardised features in training."""
BATCH_PIXELS = 1024
"""Pixels in a training batch."""
NOISE_ROLL_ROWS = 7919
"""Rows by which the noise is rolled from batch to batch, so that it is drawn only once: a prime."""
INFERENCE_PIXELS = 4096
"""Pixels that the network reads at once; larger parts leave the processor's cache."""
SPREAD_FLOOR = 1e-3
"""Added to a feature's standard deviation before division."""
NETWORK_LOGIT_LIMIT = 4.0
"""The network's logits are clipped to plus or minus this."""
UNTRAINED_LOGIT = -3.0
"""Logit of all pixels where no network could be trained."""

TRAINING_PIXELS = 6000
"""Pixels to learn from on a single prompted frame; twice as many are shared among several frames."""
TRAINING_SHARES = (0.5, 0.3, 0.2)
"""Shares of the training pixels on the object, near it and far from it."""
TRAINING_STEPS = 400
"""Training batches on the prompted frames."""
NEAR_PX = 25
"""Background pixels up to this distance from the object are near ones."""
TRAINING_SCALES = (0.67, 1.5)
"""The prompted object is also shown to the network at these sizes."""
RESCALED_PIXEL_DIVISOR = 3
"""A rescaled frame gives the number of training pixels over this."""
LIGHT_NOISE_LAB = (0.1, 0.05, 0.05)
"""Standard deviation of the common shift of L, a and b in training, in scaled colour."""

RECENT_FRAMES = 6
"""Frames without a prompt whose pixels take part in adaptation."""
RECENT_PIXELS = 500
"""Pixels taken from such a frame: at most half of them on the object, and 30 percent near it."""
ADAPTATION_STEPS = 12
"""Training batches for every further frame."""
SURE_INSIDE_PX = 2.0
"""Object pixels deeper in the mask than this take part in adaptation."""
SURE_OUTSIDE_PX = 4.0
"""Background pixels farther from the mask than this take part in adaptation."""
FAR_PX = 20.0
"""Least distance from the mask at which look-alikes are searched."""
FARTHEST_PX = 90.0
"""Largest distance from the mask at which look-alikes are searched."""
LOOK_ALIKE_PIXELS = 100
"""Far pixels with the highest logits, which are trained to be background before such a look-alike comes close."""
LOOK_ALIKE_CANDIDATES = 10
"""Far pixels that are read for every look-alike taken."""
AREA_RATE = 0.1
"""Share by which a new frame moves the object's usual area."""

LabelledPixels = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Features (N, C) and labels (N,) of pixels to learn from; True is object."""


@dataclass(frozen=True)
class PixelNetwork:
    """A trained network on standardised features.

    ``noise_directions`` (K, C) float32 are standardised directions along which pixels were moved in training.
    """

    network: nn.Module
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    device: str
    noise_directions: NDArray[np.float32] | None = None

    @classmethod
    def train(
        cls,
        features: NDArray[np.float32],
        labels: NDArray[np.bool_],
        *,
        steps: int,
        device: str = "cpu",
        noise_directions: NDArray[np.float32] | None = None,
    ) -> PixelNetwork:
        """Train a new network. Equal pixels give an equal network.

        Args:
            features: (N, C) float32.
            labels: (N,) bool; both values must occur.
            steps: of Adam, on random batches.
            device: torch device.
            noise_directions: (K, C) float32; every pixel is moved along each by a normally distributed amount.
        """
        generator = torch.Generator().manual_seed(0)
        mean = features.mean(axis=0)
        spread = features.std(axis=0) + SPREAD_FLOOR
        x = torch.from_numpy((features - mean) / spread).to(device)
        y = torch.from_numpy(labels.astype(np.float32)).to(device)
        network = _new_network(features.shape[1], generator).to(device)
        directions = None if noise_directions is None else (noise_directions / spread).astype(np.float32)
        _fit(network, x, y, steps, TRAINING_RATE, generator, directions)
        return cls(network.eval(), mean, spread, device, directions)

    def adapted(
        self, features: NDArray[np.float32], labels: NDArray[np.bool_], *, steps: int, seed: int
    ) -> PixelNetwork:
        """Train a copy a little further on other pixels, see `train`."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.from_numpy((features - self.mean) / self.spread).to(self.device)
        y = torch.from_numpy(labels.astype(np.float32)).to(self.device)
        network = copy.deepcopy(self.network)
        _fit(network, x, y, steps, ADAPTATION_RATE, generator, self.noise_directions)
        return replace(self, network=network)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) logits of (N, C) features, within plus or minus `NETWORK_LOGIT_LIMIT`."""
        out = np.empty(len(features), np.float32)
        mean, spread = torch.from_numpy(self.mean), torch.from_numpy(self.spread)
        with torch.inference_mode():
            for first in range(0, len(features), INFERENCE_PIXELS):
                x = torch.from_numpy(features[first : first + INFERENCE_PIXELS]).sub(mean).div_(spread).to(self.device)
                part = self.network(x).squeeze(1).clamp_(-NETWORK_LOGIT_LIMIT, NETWORK_LOGIT_LIMIT)
                out[first : first + INFERENCE_PIXELS] = part.cpu().numpy()
        return out


@dataclass(frozen=True)
class AppearanceModel:
    """The network of one object and the pixels it was trained on.

    ``area_share`` is the share of the frame that the object usually covers. ``prompted`` are the labelled pixels of
    prompted frames, and ``recent`` those of the last frames without a prompt; `adapt` learns from both.
    """

    projection: Projection
    network: PixelNetwork | None
    area_share: float
    prompted: LabelledPixels
    recent: tuple[LabelledPixels, ...] = ()
    n_adaptations: int = 0

    @classmethod
    def learn(
        cls,
        frames: Sequence[tuple[ClassicalEmbedding, BoolMask]],
        *,
        device: str,
        projection: Projection | None = None,
    ) -> AppearanceModel:
        """Train on prompted frames.

        Args:
            frames: embedding and mask (h, w) at work size of each.
            device: where the network trains and runs.
            projection: of an earlier model of the object, which is then kept; None fits a new one.
        """
        rng = np.random.default_rng(0)
        projection = projection or Projection.fit([embedding for embedding, _ in frames])
        scaled = [rescaled(e, m, factor) for e, m in frames if m.any() for factor in TRAINING_SCALES]
        n_pixels = TRAINING_PIXELS if len(frames) == 1 else TRAINING_PIXELS * 2 // len(frames)
        features, labels = [], []
        for k, (embedding, mask) in enumerate([*frames, *scaled]):
            indices = training_pixels(mask, rng, n_pixels if k < len(frames) else n_pixels // RESCALED_PIXEL_DIVISOR)
            features.append(pixel_features_at(embedding, projection(embedding), indices))
            labels.append(mask.ravel()[indices])
        x, y = np.concatenate(features), np.concatenate(labels)
        network = None
        if y.any() and not y.all():
            directions = light_directions(x.shape[1])
            network = PixelNetwork.train(x, y, steps=TRAINING_STEPS, device=device, noise_directions=directions)
        shares = [float(mask.mean()) for _, mask in frames if mask.any()]
        return cls(projection, network, float(np.mean(shares)) if shares else 0.0, (x, y))

    def adapt(self, embedding: ClassicalEmbedding, mask: BoolMask) -> AppearanceModel:
        """Return this model trained further on one more frame, whose mask (h, w) no person has checked.

        The network learns a little from pixels well inside and well outside that mask and those of a few frames
        before it, always together with the prompted pixels (after OnAVOS, Voigtlaender & Leibe 2017).
        """
        if self.network is None or not mask.any():
            return self
        area_share = (1 - AREA_RATE) * self.area_share + AREA_RATE * float(mask.mean())
        near, far = adaptation_pixels(mask, np.random.default_rng(self.n_adaptations))
        if not len(near):
            return replace(self, area_share=area_share)
        projected = self.projection(embedding)
        features = pixel_features_at(embedding, projected, near)
        far_features = pixel_features_at(embedding, projected, far)
        look_alikes = np.argsort(-self.network.logits(far_features), kind="stable")[:LOOK_ALIKE_PIXELS]
        features = np.concatenate([features, far_features[look_alikes]])
        newest = features, np.concatenate([mask.ravel()[near], np.zeros(len(look_alikes), np.bool_)])
        recent = (*self.recent[-(RECENT_FRAMES - 1) :], newest)
        x, y = (np.concatenate(parts) for parts in zip(self.prompted, *recent, strict=True))
        network = self.network.adapted(x, y, steps=ADAPTATION_STEPS, seed=self.n_adaptations)
        return replace(
            self, area_share=area_share, network=network, recent=recent, n_adaptations=self.n_adaptations + 1
        )

    def logits(self, embedding: ClassicalEmbedding, region: Region) -> NDArray[np.float32]:
        """Logits of the network over a region of a frame, (rows, columns) float32."""
        rows, columns = region.y1 - region.y0, region.x1 - region.x0
        if self.network is None:
            return np.full((rows, columns), UNTRAINED_LOGIT, np.float32)
        features = pixel_features(embedding, self.projection(embedding), region)
        return self.network.logits(features.reshape(-1, features.shape[2])).reshape(rows, columns)


def training_pixels(mask: BoolMask, rng: np.random.Generator, n_pixels: int) -> NDArray[np.intp]:
    """Flat indices of pixels of a prompted frame to learn from: on the object, near it and far from it."""
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    groups = mask, ~mask & (distance <= NEAR_PX), distance > NEAR_PX
    picked = []
    for group, share in zip(groups, TRAINING_SHARES, strict=True):
        candidates = np.flatnonzero(group)
        if len(candidates):
            picked.append(rng.choice(candidates, int(n_pixels * share), replace=len(candidates) < n_pixels * share))
    return np.concatenate(picked)


def adaptation_pixels(mask: BoolMask, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of pixels whose label is safe although no person has checked the mask: none close to its border.

    Returns:
        Pixels of and around the object, and pixels so far from it that what resembles it there must be something else.
    """
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    picked = []
    for group, limit in (
        (depth > SURE_INSIDE_PX, RECENT_PIXELS // 2),
        ((distance > SURE_OUTSIDE_PX) & (distance < NEAR_PX), RECENT_PIXELS * 3 // 10),
        ((distance > FAR_PX) & (distance < FARTHEST_PX), LOOK_ALIKE_CANDIDATES * LOOK_ALIKE_PIXELS),
    ):
        candidates = np.flatnonzero(group)
        picked.append(candidates if len(candidates) <= limit else rng.choice(candidates, limit, replace=False))
    if not len(picked[0]) or not len(picked[1]):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    return np.concatenate(picked[:2]), picked[2]


def light_directions(n_features: int) -> NDArray[np.float32]:
    """(3, n_features): how pixel features move when lightness or a chroma changes, in Lab and its blurs alike."""
    directions = np.zeros((3, n_features), np.float32)
    for channel, amount in enumerate(LIGHT_NOISE_LAB):
        directions[channel, channel:12:3] = amount
    return directions


def _fit(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    steps: int,
    rate: float,
    generator: torch.Generator,
    noise_directions: NDArray[np.float32] | None,
) -> None:
    """Train in place on random batches with feature noise."""
    noise = torch.randn((BATCH_PIXELS, x.shape[1]), generator=generator) * FEATURE_NOISE
    if noise_directions is not None:
        amounts = torch.randn((BATCH_PIXELS, len(noise_directions)), generator=generator)
        noise += amounts @ torch.from_numpy(noise_directions)
    noise = noise.to(x.device)
    optimiser = _Adam(list(network.parameters()), rate)
    for step in range(steps):
        rows = torch.randint(len(y), (BATCH_PIXELS,), generator=generator).to(x.device)
        logits = network(x[rows] + torch.roll(noise, step * NOISE_ROLL_ROWS % BATCH_PIXELS, 0)).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
        optimiser.step(torch.autograd.grad(loss, optimiser.parameters))


class _Adam:
    """Adam (Kingma & Ba 2015) with torch's defaults. Importing torch.optim takes seconds: it imports a compiler."""

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


def _new_network(n_channels: int, generator: torch.Generator) -> nn.Sequential:
    """A network of two hidden layers with random weights of ``generator``."""
    network = nn.Sequential(
        nn.Linear(n_channels, HIDDEN_UNITS),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN_UNITS, 1),
    )
    # The layers' own initialisation draws from torch's global generator, which other threads use too.
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                bound = float(np.sqrt(6.0 / layer.in_features)) if layer.out_features > 1 else layer.in_features**-0.5
                layer.weight.copy_((torch.rand(layer.weight.shape, generator=generator) * 2 - 1) * bound)
                layer.bias.zero_()
    return network

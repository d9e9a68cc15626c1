"""Train the decoder of segmenter `lite`."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model_zoo.lite.decoder import Decoder, Plane
from model_zoo.lite.trunk import PIXEL_MEAN, PIXEL_SCALE, Trunk
from pipeline.memory import crstm
from pipeline.segmenters.lite.embedding import grid_keys
from pipeline.segmenters.lite.likeness import put_likeness
from pipeline.segmenters.lite.memory import TEMPERATURE, TOP_K
from tools.train_lite.samples import Sample, Sampler, correct, put_evidence
from tools.train_lite.weights import mean_key

LAST = torch.channels_last


@dataclass(frozen=True)
class Settings:
    """How long and how fast to train.

    Attributes:
        steps: number of optimiser steps. The run behind the weights of the package was stopped after 4,000 of the
            default.
        learning_rate: at the start; a cosine takes it to 3 % of that.
        phases: (share of the steps done, side of the crops in pixels, crops in a batch).
        seed: of weights and samples.
        threads: CPU threads.
    """

    steps: int = 4300
    learning_rate: float = 1.2e-3
    phases: tuple[tuple[float, int, int], ...] = ((0.0, 160, 10), (0.3, 192, 8), (0.8, 256, 5))
    seed: int = 0
    threads: int = 1

    def phase(self, share: float) -> tuple[int, int]:
        """Side of the crops in pixels and crops in a batch, after a share of the steps."""
        _, side_px, n = [phase for phase in self.phases if phase[0] <= share][-1]
        return side_px, n

    def rate(self, step: int) -> float:
        """The learning rate of a step: it rises over the first 60, then falls as a cosine."""
        fall = 0.5 + 0.5 * math.cos(math.pi * (step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / 60) * (0.03 + 0.97 * fall)


def train(pairs: Path, trunk: Trunk, out: Path, settings: Settings) -> None:
    """Train and write ``decoder.pt`` (the mean of the weights over the last steps) and ``history.jsonl``.

    Args:
        pairs: directory of what `compose.compose` wrote.
        trunk: with its weights, which stay as they are.
        out: where to write.
        settings: how long and how fast.

    Raises:
        FileNotFoundError: there are no pairs.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    sampler = Sampler(pairs, settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    mean = mean_key(trunk, pairs)
    trunk = trunk.to(memory_format=torch.channels_last)
    decoder = Decoder().to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(decoder)
    optimiser = torch.optim.AdamW(decoder.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    begin, recent = time.monotonic(), []
    for step in range(settings.steps):
        share = step / settings.steps
        side_px, n = settings.phase(share)
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        recent.append(_step(trunk, decoder, optimiser, mean, sampler.batch(n, side_px), share, rng))
        _average(averaged, decoder, min(0.997, step / (step + 20)))
        if step % 20 == 19:
            line = {"step": step + 1, "minutes": round((time.monotonic() - begin) / 60, 1), "side_px": side_px}
            _report(out, line | _means(recent[-60:]))
        if step % 200 == 199 or step == settings.steps - 1:
            torch.save(averaged.state_dict(), out / "decoder.pt")


def _means(recent: list[tuple[float, float, float]]) -> dict[str, float]:
    """The mean loss, IoU of first masks and IoU of last masks of some steps."""
    means = np.mean(recent, 0)
    return {key: round(float(mean), 4) for key, mean in zip(("loss", "iou_first", "iou_last"), means, strict=True)}


def _report(out: Path, line: dict[str, float]) -> None:
    with (out / "history.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def _step(
    trunk: Trunk,
    decoder: Decoder,
    optimiser: torch.optim.Optimizer,
    mean: torch.Tensor,
    samples: list[Sample],
    share: float,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """One optimiser step, with one or two rounds of clicks; loss, IoU at first and at the end."""
    image = _image([sample.crop for sample in samples])
    features = _features(trunk, image)
    _recall(trunk, features, mean, samples, rng)
    planes, truth = _planes(samples), torch.from_numpy(np.stack([sample.truth for sample in samples])).float()
    optimiser.zero_grad(set_to_none=True)
    rounds = 1 if share < 0.03 else int(rng.choice([1, 2, 3], p=[0.4, 0.45, 0.15]))
    total, ious = 0.0, []
    for index in range(rounds):
        logits, iou_logits = decoder(features, planes, image)
        loss, iou = losses(logits, iou_logits, truth, planes[:, Plane.VALID])
        torch.autograd.backward(loss / min(rounds, 2))
        total += loss.item() / rounds
        ious.append(iou)
        if index + 1 < rounds:
            probability = torch.sigmoid(logits.detach()).numpy()
            for sample, found in zip(samples, probability, strict=True):
                correct(sample.planes, found, sample.truth, rng)
            planes = _planes(samples)
    torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
    optimiser.step()
    return total, ious[0], ious[-1]


def losses(
    logits: torch.Tensor, iou_logits: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Cross entropy (three times as much at borders), Dice, and the cross entropy of the predicted IoU; and the IoU.

    Args:
        logits: (B, R, R).
        iou_logits: (B,).
        truth: (B, R, R) float, 0 or 1.
        valid: (B, R, R), 1 on the frame.
    """
    border = F.max_pool2d(truth[:, None], 5, 1, 2)[:, 0] + F.max_pool2d(-truth[:, None], 5, 1, 2)[:, 0]
    weight = valid * (1 + 2 * border)
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    entropy = (each * weight).sum((1, 2)) / weight.sum((1, 2))
    probability = torch.sigmoid(logits) * valid
    common = (probability * truth).sum((1, 2))
    dice = 1 - (2 * common + 20) / (probability.sum((1, 2)) + truth.sum((1, 2)) + 20)
    with torch.no_grad():
        found, wanted = (logits > 0) & (valid > 0), (truth > 0) & (valid > 0)
        both, either = (found & wanted).sum((1, 2)), (found | wanted).sum((1, 2))
        iou = torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(entropy))
    head = F.binary_cross_entropy_with_logits(iou_logits, iou)
    return entropy.mean() + dice.mean() + 0.15 * head, float(iou.mean())


def _image(crops: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Crops (R, R, 3) as the trunk takes them."""
    image = torch.from_numpy((np.stack(crops).astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE)
    return image.permute(0, 3, 1, 2).contiguous(memory_format=LAST)


def _planes(samples: Sequence[Sample]) -> torch.Tensor:
    """The planes of samples, with what follows from their colours."""
    for sample in samples:
        put_likeness(sample.planes, sample.crop)
    return torch.from_numpy(np.stack([sample.planes for sample in samples])).contiguous(memory_format=LAST)


def _features(trunk: Trunk, image: torch.Tensor) -> list[torch.Tensor]:
    """The trunk's features; parts of four crops stay in the processor's cache, which halves the time."""
    with torch.no_grad():
        parts = [trunk(part) for part in torch.split(image, 4)]
        return [torch.cat(maps).contiguous(memory_format=LAST) for maps in zip(*parts, strict=True)]


def _recall(
    trunk: Trunk,
    features: list[torch.Tensor],
    mean: torch.Tensor,
    samples: Sequence[Sample],
    rng: np.random.Generator,
) -> None:
    """Draw into the samples that have references what a memory of these says, as the segmenter does."""
    crops = [reference.crop for sample in samples for reference in sample.references]
    if not crops:
        return
    known = _features(trunk, _image(crops))
    keys = iter(grid_keys(f16, f32, mean).flatten(1) for f16, f32 in zip(known[3], known[4], strict=True))
    for row, sample in enumerate(samples):
        if not sample.references:
            continue
        shown = [torch.from_numpy(reference.shown.ravel()) for reference in sample.references]
        memory = torch.cat([next(keys)[:, each] for each in shown], 1)
        shares = [torch.from_numpy(reference.shares.ravel()) for reference in sample.references]
        values = torch.cat([each[cells] for each, cells in zip(shares, shown, strict=True)])[None]
        query = grid_keys(features[3][row], features[4][row], mean)
        readout = crstm.read(memory, values, query.flatten(1), TOP_K, TEMPERATURE)[0]
        put_evidence(sample, readout.reshape(query.shape[1:]).numpy(), rng)


def _average(mean: Decoder, decoder: Decoder, keep: float) -> None:
    """Take a new decoder into a running mean of which ``keep`` stays."""
    with torch.no_grad():
        for kept, new in zip(mean.parameters(), decoder.parameters(), strict=True):
            kept.lerp_(new, 1 - keep)

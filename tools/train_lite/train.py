"""Train the decoder of segmenter `lite`."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from model_zoo.lite.decoder import Decoder, Plane
from model_zoo.lite.trunk import Trunk
from tools.train_lite.batches import features_of, images_of, mean_key, planes_of, recall
from tools.train_lite.samples import Sample, Sampler, correct


@dataclass(frozen=True)
class Settings:
    """How long and how fast to train.

    Attributes:
        steps: number of optimiser steps.
        learning_rate: at the start; a cosine takes it to 3 % of that.
        phases: (share of the steps done, side of the crops in pixels, crops in a batch).
        seed: of weights and samples.
        threads: CPU threads.
    """

    steps: int = 3400
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
    image = images_of([sample.crop for sample in samples])
    features = features_of(trunk, image)
    recall(trunk, features, mean, samples, rng)
    planes, truth = planes_of(samples), torch.from_numpy(np.stack([sample.truth for sample in samples])).float()
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
            planes = planes_of(samples)
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


def _average(mean: Decoder, decoder: Decoder, keep: float) -> None:
    """Take a new decoder into a running mean of which ``keep`` stays."""
    with torch.no_grad():
        for kept, new in zip(mean.parameters(), decoder.parameters(), strict=True):
            kept.lerp_(new, 1 - keep)

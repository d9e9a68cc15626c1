"""Where the red thing is."""

import torch


def red_places(rgbs):
    """Centres (S, 2) xy in pixels of the red thing on frames (S, 3, H, W) in [0, 255], and whether it is there (S,)."""
    assert rgbs.shape[1] == 3
    assert 100 < rgbs.max() <= 255
    assert rgbs.min() >= 0
    red = (rgbs[:, 0] - rgbs[:, 1:].amax(1) - 60).clamp(min=0)
    mass = red.sum((1, 2))
    y = torch.arange(red.shape[1], dtype=torch.float32)
    x = torch.arange(red.shape[2], dtype=torch.float32)
    centre = torch.stack([(red.sum(1) * x).sum(1), (red.sum(2) * y).sum(1)], 1) / mass.clamp(min=1)[:, None]
    return centre, mass > 1000

"""Where the red thing is."""

import torch


def red_places(video):
    """Centres (T, 2) xy, counted from the image's corner, on (T, H, W, 3) in [-1, 1], and whether it is there (T,)."""
    assert video.shape[3] == 3
    assert 0 < video.max() <= 1
    assert -1 <= video.min() < 0
    red = (video[..., 0] - video[..., 1:].amax(3) - 0.5).clamp(min=0)
    mass = red.sum((1, 2))
    y = torch.arange(red.shape[1]) + 0.5
    x = torch.arange(red.shape[2]) + 0.5
    centre = torch.stack([(red.sum(1) * x).sum(1), (red.sum(2) * y).sum(1)], 1) / mass.clamp(min=0.1)[:, None]
    return centre, mass > 8

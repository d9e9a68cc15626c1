# ruff: noqa: ARG002
"""Stand-in for nets/pips.py of the official code of PIPS."""

import torch
import utils.samp
from torch import nn


class Pips(nn.Module):
    """A point keeps its place beside the red thing, and must begin a piece where the thing is seen."""

    def __init__(self, S=8, stride=8):
        super().__init__()
        assert (S, stride) == (8, 4)
        self.vis_predictor = nn.Linear(2, 1)

    def forward(
        self,
        xys,
        rgbs,
        coords_init=None,
        feat_init=None,
        iters=3,
        trajs_g=None,
        vis_g=None,
        valids=None,
        sw=None,
        return_feat=False,
        is_train=False,
    ):
        """As upstream: (1, N, 2) on (1, 8, 3, H, W) to tracks, the same again, logits, features and losses."""
        total_loss = torch.tensor(0.0).cuda()
        assert rgbs.shape[:3] == (1, 8, 3)
        assert rgbs.shape[3] % 8 == rgbs.shape[4] % 8 == 0
        places, seen = utils.samp.red_places(rgbs[0])
        assert seen[0], "a piece begins where the point is hidden"
        beside = xys[0] - places[0]
        if feat_init is not None:
            assert (feat_init[0] - beside).abs().max() < 1.0, "features of another point or place"
        tracks = places[:, None] + beside[None]
        tracks[~seen] = 0.0
        logits = (seen.float() * 12 - 6)[:, None].expand(8, xys.shape[1])
        tracks, logits = tracks[None], logits[None] + total_loss
        features = beside[None] if feat_init is None else feat_init
        if return_feat:
            return [tracks * 0, tracks], [tracks * 0, tracks], logits, features, None
        return [tracks * 0, tracks], [tracks * 0, tracks], logits, None

# ruff: noqa: ARG002, I001
"""Stand-in for tapnet/torch/tapir_model.py of the official code of TAPIR."""

import torch
from tapnet.torch import utils
from torch import nn


class TAPIR(nn.Module):
    """A point keeps its place beside the red thing, as it was on the frame of its query."""

    def __init__(self, bilinear_interp_with_depthwise_conv=False, num_pips_iter=4, pyramid_level=1):
        super().__init__()
        assert pyramid_level == 1
        self.extra_convs = nn.Linear(2, 1)

    def forward(
        self,
        video,
        query_points,
        is_training=False,
        query_chunk_size=64,
        get_query_feats=False,
        refinement_resolutions=None,
    ):
        """As upstream: (1, T, H, W, 3) and (1, N, 3) as (t, y, x) to tracks (1, N, T, 2) and logits (1, N, T)."""
        assert video.shape[2] % 8 == video.shape[3] % 8 == 0
        places, seen = utils.red_places(video[0])
        times = query_points[0, :, 0].long()
        assert seen[times].all(), "a query where the point is hidden"
        beside = query_points[0, :, [2, 1]] - places[times]
        tracks = places[None] + beside[:, None]
        tracks[:, ~seen] = 0.0
        logits = torch.where(seen, -3.0, 3.0)[None].expand(len(times), -1)
        sure = torch.full_like(logits, -3.0)
        return {"occlusion": logits[None], "tracks": tracks[None], "expected_dist": sure[None]}

"""Stands in for OSTrack's official code: the same functions, arguments and outputs around a finder of red things."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class OSTrack(nn.Module):
    """Gives the box around all red pixels of the search region, as sure as the middle of the template is red."""

    def __init__(self, search_px: int, template_px: int, stride: int) -> None:
        super().__init__()
        self.search_px, self.template_px, self.cells = search_px, template_px, search_px // stride
        self.certainty = nn.Parameter(torch.tensor(0.9))

    def forward(
        self,
        template: torch.Tensor,
        search: torch.Tensor,
        ce_template_mask: torch.Tensor | None = None,
        ce_keep_rate: float | None = None,
        return_last_attn: bool = False,
    ) -> dict[str, torch.Tensor]:
        """As upstream: normalised RGB (B, 3, S, S) in; maps (B, 1 or 2, G, G) out, x before y."""
        assert ce_keep_rate is None
        assert not return_last_attn
        assert template.shape == (1, 3, self.template_px, self.template_px)
        assert search.shape == (1, 3, self.search_px, self.search_px)
        assert ce_template_mask is not None
        assert ce_template_mask.dtype == torch.bool
        assert ce_template_mask.nonzero().tolist() == [[0, 3 * 8 + 3]]
        middle = slice(self.template_px // 2 - 4, self.template_px // 2 + 4)
        sure = self.certainty * _red(template)[middle, middle].float().mean()
        score = torch.full((1, 1, self.cells, self.cells), 1e-4)
        size, offset = torch.zeros((1, 2, self.cells, self.cells)), torch.zeros((1, 2, self.cells, self.cells))
        red = _red(search).nonzero()
        if len(red):
            low, high = red.amin(dim=0).flip(0).float(), red.amax(dim=0).flip(0).float() + 1
            centre = (low + high) / 2 / self.search_px * self.cells
            column, row = (int(value) for value in centre)
            score[0, 0, row, column] = sure
            size[0, :, row, column] = (high - low) / self.search_px
            offset[0, :, row, column] = centre - centre.floor()
        return {"score_map": score, "size_map": size, "offset_map": offset}


def _red(normalised: torch.Tensor) -> torch.Tensor:
    pixels = (normalised * _STD + _MEAN)[0]
    return (pixels[0] > 0.5) & (pixels[1] < 0.3) & (pixels[2] < 0.3)


def build_ostrack(cfg: SimpleNamespace, training: bool = True) -> OSTrack:
    """As upstream; it reads what upstream reads."""
    assert not training
    assert "OSTrack" not in cfg.MODEL.PRETRAIN_FILE
    backbone = cfg.MODEL.BACKBONE
    assert backbone.TYPE == "vit_base_patch16_224_ce"
    assert (backbone.CE_LOC, backbone.CE_KEEP_RATIO) == ([3, 6, 9], [0.7, 0.7, 0.7])
    assert (backbone.CAT_MODE, backbone.SEP_SEG) == ("direct", False)
    assert (cfg.MODEL.RETURN_INTER, cfg.MODEL.RETURN_STAGES) == (False, [])
    assert (cfg.MODEL.HEAD.TYPE, cfg.MODEL.HEAD.NUM_CHANNELS) == ("CENTER", 256)
    assert 0 <= cfg.TRAIN.DROP_PATH_RATE < 1
    return OSTrack(cfg.DATA.SEARCH.SIZE, cfg.DATA.TEMPLATE.SIZE, backbone.STRIDE)

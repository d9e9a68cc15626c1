"""RAFT from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model_zoo.checkpoints import CheckpointError
from model_zoo.point_trackers import load_raft


def test_weights_come_from_the_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, path = load_raft("raft_small", None), tmp_path / "raft.pth"
    torch.save(model.state_dict(), path)
    loaded = load_raft("raft_small", path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_of_the_other_variant_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "raft.pth"
    torch.save(load_raft("raft_small", None).state_dict(), path)
    with pytest.raises(CheckpointError, match="raft_large"):
        load_raft("raft_large", path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file") as caught:
        load_raft("raft_small", tmp_path / "none.pth")
    assert "\n" not in str(caught.value)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="raft_large, raft_small"):
        load_raft("raft_huge", None)

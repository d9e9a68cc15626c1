"""Which segmenter ``auto`` means on which machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import model_zoo.extras
from model_zoo.registry import load_registry
from model_zoo.store import ModelStore
from pipeline.parts.auto import BEST_FIRST, SMALL, VIDEO_MODELS_BEST_FIRST, resolve_box_tracker, resolve_segmenter
from pipeline.parts.registry import SEGMENTER, own_names
from tests.unverified import put_here, unverified

EVERY_NAME = (*BEST_FIRST, *VIDEO_MODELS_BEST_FIRST)


@pytest.mark.parametrize(
    ("here", "method", "expected"),
    [
        ((), "i_pt", "lite"),
        (("mobile_sam",), "i_pt", "mobile_sam"),
        (("mobile_sam", "sam_vit_b"), "i_pt", "sam_vit_b"),
        (("sam_vit_h", "sam_hq_vit_b", "mobile_sam"), "sam_pt", "sam_vit_h"),
        (BEST_FIRST, "sam_pd", "sam_hq_vit_h"),
        (("sam2_1_hiera_tiny",), "i_pt", "lite"),
        (("edgetam", "mobile_sam"), "sam2", "edgetam"),
        (("edgetam", "sam2_1_hiera_small", "sam2_1_hiera_large"), "sam2", "sam2_1_hiera_large"),
    ],
)
def test_the_best_one_that_is_here(
    here: tuple[str, ...], method: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unverified(monkeypatch, *EVERY_NAME)
    put_here(tmp_path, *here)
    assert resolve_segmenter(method, "auto", ModelStore(tmp_path)) == expected


def test_weights_without_their_package_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unverified(monkeypatch, *EVERY_NAME)
    put_here(tmp_path, "sam_hq_vit_h", "mobile_sam")
    monkeypatch.setattr(model_zoo.extras, "find_spec", lambda _module: None)
    assert resolve_segmenter("i_pt", "auto", ModelStore(tmp_path)) == "mobile_sam"


def test_method_sam2_has_no_download_free_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ivos models pull edgetam"):
        resolve_segmenter("sam2", "auto", ModelStore(tmp_path))


def test_a_name_stays_what_it_is(tmp_path: Path) -> None:
    assert resolve_segmenter("i_pt", "sam_vit_l", ModelStore(tmp_path)) == "sam_vit_l"


def test_boxes_are_tracked_by_the_network_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unverified(monkeypatch, "nanotrack_v2")
    assert resolve_box_tracker("auto", ModelStore(tmp_path)) == "opencv_template"
    put_here(tmp_path, "nanotrack_v2")
    assert resolve_box_tracker("auto", ModelStore(tmp_path)) == "nanotrack_v2"
    assert resolve_box_tracker("mask_box", ModelStore(tmp_path)) == "mask_box"


def test_every_segmenter_with_weights_elsewhere_has_its_place() -> None:
    assert set(EVERY_NAME) == set(own_names(SEGMENTER)) - {"lite"}
    assert set(EVERY_NAME) == {
        name for name, model in load_registry().items() if model.task in ("segmenter", "video method")
    }
    assert BEST_FIRST[-1] == SMALL

"""How each of the project's own parts is built. Nothing heavy is imported before a part is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pipeline.parts.context import PartContext

if TYPE_CHECKING:
    from pipeline.segmenters.base import Segmenter
    from pipeline.trackers.boxes.base import BoxTracker
    from pipeline.trackers.points.base import PointTracker


def _classical(context: PartContext) -> Segmenter:
    from pipeline.segmenters.classical import ClassicalSegmenter

    return ClassicalSegmenter(device=context.device)


def _sam(model_type: str) -> Callable[[PartContext], Segmenter]:
    def build(context: PartContext) -> Segmenter:
        from model_zoo.segment_anything import load_sam
        from pipeline.segmenters.sam import SamSegmenter

        name = f"sam_{model_type}"
        file = context.checkpoint or context.weights(name)
        return SamSegmenter(load_sam(model_type, file, context.device), name=name, device=context.device)

    return build


def _mobile_sam(context: PartContext) -> Segmenter:
    from model_zoo.mobile_sam import load_mobile_sam
    from pipeline.segmenters.sam import SamSegmenter

    model = load_mobile_sam(context.checkpoint or context.weights("mobile_sam"), context.device)
    return SamSegmenter(model, name="mobile_sam", device=context.device)


def _sam_hq(model_type: str) -> Callable[[PartContext], Segmenter]:
    def build(context: PartContext) -> Segmenter:
        from model_zoo.hq_sam import load_hq_sam
        from pipeline.segmenters.hq_sam import HqSamSegmenter

        name = f"sam_hq_{model_type}"
        model = load_hq_sam(model_type, context.checkpoint or context.weights(name), context.device)
        return HqSamSegmenter(model, name=name, device=context.device)

    return build


def _lucas_kanade(context: PartContext) -> PointTracker:  # noqa: ARG001
    from pipeline.trackers.points.lucas_kanade import LucasKanade

    return LucasKanade()


def _raft(variant: str) -> Callable[[PartContext], PointTracker]:
    def build(context: PartContext) -> PointTracker:
        from model_zoo.raft import load_raft
        from pipeline.trackers.points.raft import RaftTracker

        return RaftTracker(load_raft(variant, context.weights(variant), context.device), context.device)

    return build


def _xfeat(context: PartContext) -> PointTracker:
    from model_zoo.xfeat import load_xfeat
    from pipeline.trackers.points.xfeat import XFeatTracker

    return XFeatTracker(load_xfeat(context.store.file("xfeat"), context.device))


def _cotracker3(context: PartContext) -> PointTracker:
    from model_zoo.cotracker import load_cotracker
    from pipeline.trackers.points.cotracker import CoTracker

    network = load_cotracker(context.code("cotracker3"), context.weights("cotracker3"), context.device)
    return CoTracker(network, context.device)


def _pips(context: PartContext) -> PointTracker:
    from model_zoo.pips import load_pips
    from pipeline.trackers.points.pips import Pips

    return Pips(load_pips(context.code("pips"), context.weights("pips"), context.device), context.device)


def _tapir(context: PartContext) -> PointTracker:
    from model_zoo.tapir import load_tapir
    from pipeline.trackers.points.tapir import Tapir

    return Tapir(load_tapir(context.code("tapir"), context.weights("tapir"), context.device), context.device)


def _mask_box(context: PartContext) -> BoxTracker:  # noqa: ARG001
    from pipeline.trackers.boxes.mask_box import MaskBox

    return MaskBox()


def _opencv_template(context: PartContext) -> BoxTracker:  # noqa: ARG001
    from pipeline.trackers.boxes.template import OpenCvTemplate

    return OpenCvTemplate()


def _opencv_mil(context: PartContext) -> BoxTracker:  # noqa: ARG001
    from pipeline.trackers.boxes.opencv import mil

    return mil()


def _opencv_csrt(context: PartContext) -> BoxTracker:  # noqa: ARG001
    from pipeline.trackers.boxes.opencv import csrt

    return csrt()


def _nanotrack(context: PartContext) -> BoxTracker:
    from model_zoo.opencv_trackers import nanotrack
    from pipeline.trackers.boxes.opencv import nano

    files = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")
    return nano(nanotrack(*(context.store.file("nanotrack_v2", file) for file in files)))


def _vittrack(context: PartContext) -> BoxTracker:
    from model_zoo.opencv_trackers import vittrack
    from pipeline.trackers.boxes.opencv import vit

    return vit(vittrack(context.store.file("vittrack")))


def _ostrack(context: PartContext) -> BoxTracker:
    from model_zoo.ostrack import load_ostrack
    from pipeline.trackers.boxes.ostrack import OsTrack

    return OsTrack(load_ostrack(context.code("ostrack"), context.weights("ostrack"), context.device), context.device)


SEGMENTERS: Mapping[str, Callable[[PartContext], Segmenter]] = {
    "classical": _classical,
    "mobile_sam": _mobile_sam,
    **{f"sam_{kind}": _sam(kind) for kind in ("vit_b", "vit_l", "vit_h")},
    **{f"sam_hq_{kind}": _sam_hq(kind) for kind in ("vit_tiny", "vit_b", "vit_l", "vit_h")},
}
POINT_TRACKERS: Mapping[str, Callable[[PartContext], PointTracker]] = {
    "lucas_kanade": _lucas_kanade,
    "xfeat": _xfeat,
    **{variant: _raft(variant) for variant in ("raft_small", "raft_large")},
    "cotracker3": _cotracker3,
    "pips": _pips,
    "tapir": _tapir,
}
BOX_TRACKERS: Mapping[str, Callable[[PartContext], BoxTracker]] = {
    "opencv_template": _opencv_template,
    "mask_box": _mask_box,
    "nanotrack_v2": _nanotrack,
    "vittrack": _vittrack,
    "opencv_csrt": _opencv_csrt,
    "opencv_mil": _opencv_mil,
    "ostrack": _ostrack,
}

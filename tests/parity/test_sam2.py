"""SAM 2 and EdgeTAM give the masks that transformers' own video inference gives, with random weights."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pipeline.methods.base import Anchor
from pipeline.segmenters.base import FloatMap, ObjectPrompts
from pipeline.types import BoolMask
from tests.pipeline.methods.sam2_clip import (
    IMAGES,
    MASKS,
    N_FRAMES,
    OTHER,
    PROMPTS,
    SIZE,
    by_frame,
    clicks,
    every_model,
    first_mask,
    network,
    opened,
    task,
    tiny_method,
)
from tests.tiny_sam2 import SIDE_PX, build_tiny_sam2

pytestmark = pytest.mark.long


def processor() -> Any:
    """Transformers' own, for models of `SIDE_PX`."""
    size = {"height": SIDE_PX, "width": SIDE_PX}
    # Renamed in 5.x.
    image_class: Any = getattr(transformers, "Sam2ImageProcessor", None) or transformers.Sam2ImageProcessorFast
    return transformers.Sam2VideoProcessor(
        image_processor=image_class(size=size),
        video_processor=transformers.Sam2VideoVideoProcessor(size=size),
        target_size=SIDE_PX,
    )


class Reference:
    """Transformers' own way through a video, but for the frames' last digits.

    They are prepared as the network does it (see the test of that), because the memory's rounding to bfloat16 enlarges
    a last digit a thousandfold over a few frames.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.processor = model, processor()
        self.session = self.processor.init_video_session(video=list(IMAGES))
        prepared = {index: network().pixel_values(image)[0] for index, image in enumerate(IMAGES)}
        self.session.processed_frames = prepared

    def prompt(self, frame_index: int, given: dict[int, ObjectPrompts | BoolMask]) -> dict[int, FloatMap]:
        """Give prompts of several objects on one frame, and segment it."""
        for object_id, prompts in given.items():
            if isinstance(prompts, np.ndarray):
                words: dict[str, Any] = {"input_masks": [prompts]}
            else:
                words = {}
                if len(prompts.points_xy_px):
                    words["input_points"] = [[prompts.points_xy_px.tolist()]]
                    words["input_labels"] = [[prompts.positive.astype(int).tolist()]]
                if prompts.box_xyxy_px is not None:
                    words["input_boxes"] = [[list(prompts.box_xyxy_px)]]
            self.processor.add_inputs_to_inference_session(
                inference_session=self.session, frame_idx=frame_index, obj_ids=object_id, **words
            )
        self.session.obj_with_new_inputs = list(given)
        return self.masks(self.model(self.session, frame_idx=frame_index))

    def propagate(self, start: int, *, reverse: bool = False) -> dict[int, dict[int, FloatMap]]:
        """Logits by frame and object."""
        outputs = self.model.propagate_in_video_iterator(self.session, start_frame_idx=start, reverse=reverse)
        return {output.frame_idx: self.masks(output) for output in outputs}

    def masks(self, output: Any) -> dict[int, FloatMap]:
        full = self.processor.post_process_masks([output.pred_masks], [SIZE], binarize=False)[0]
        return {object_id: full[row, 0].numpy() for row, object_id in enumerate(self.session.obj_ids)}


def assert_same(found: FloatMap, wanted: FloatMap) -> None:
    assert found.shape == wanted.shape == SIZE
    assert found.dtype == np.float32
    assert float(np.abs(found - wanted).max()) <= 1e-3 * float(np.abs(wanted).max())


@every_model
@pytest.mark.parametrize(("kind", "n_objects"), [*((kind, 1) for kind in PROMPTS), ("box", 2), ("mask", 2)])
def test_propagation_is_that_of_transformers(name: str, kind: str, n_objects: int) -> None:
    # Transformers' EdgeTAM cannot take a mask of one object and clicks of another on the same frame.
    other = MASKS[4] if kind == "mask" else OTHER
    given = {1: PROMPTS[kind], 2: other} if n_objects == 2 else {1: PROMPTS[kind]}
    reference = Reference(build_tiny_sam2(name))
    first = reference.prompt(0, given)
    wanted = reference.propagate(0)
    video = opened(tiny_method(name))
    for object_id, prompts in given.items():
        anchor = first_mask(video, 0, prompts, object_id)
        if kind != "mask":
            assert (anchor.mask == (first[object_id] > 0)).all()
        memory = video.begin_round(task(anchor, object_id=object_id))
        found = by_frame(list(video.propagate(anchor, range(1, N_FRAMES), memory)))
        assert list(found) == list(range(1, N_FRAMES))
        for frame_index, logits in found.items():
            assert_same(logits, wanted[frame_index][object_id])
        # Otherwise the comparison would say nothing of the memory: masks differ from frame to frame and have edges.
        spread = np.abs(found[1] - found[2]).mean() / np.abs(found[1]).mean()
        assert spread > 0.01
        assert any(0 < (logits > 0).mean() < 1 for logits in found.values())


@every_model
def test_backward_propagation_is_that_of_transformers(name: str) -> None:
    reference = Reference(build_tiny_sam2(name))
    reference.prompt(N_FRAMES - 1, {1: PROMPTS["clicks"]})
    wanted = reference.propagate(N_FRAMES - 1, reverse=True)
    video = opened(tiny_method(name))
    anchor = first_mask(video, N_FRAMES - 1, PROMPTS["clicks"])
    backward = range(N_FRAMES - 2, -1, -1)
    found = by_frame(list(video.propagate(anchor, backward, video.begin_round(task(anchor)))))
    assert list(found) == list(backward)
    for frame_index, logits in found.items():
        assert_same(logits, wanted[frame_index][1])


@every_model
def test_all_prompted_frames_condition_a_pass_as_in_transformers(name: str) -> None:
    reference = Reference(build_tiny_sam2(name))
    reference.prompt(0, {1: PROMPTS["box"]})
    reference.prompt(5, {1: MASKS[5]})
    wanted = reference.propagate(0)
    video = opened(tiny_method(name))
    left, right = first_mask(video, 0, PROMPTS["box"]), Anchor(5, MASKS[5])
    both = by_frame(list(video.propagate(left, range(1, 5), video.begin_round(task(left, right)))))
    for frame_index, logits in both.items():
        assert_same(logits, wanted[frame_index][1])
    alone = by_frame(list(video.propagate(left, range(1, 5), video.begin_round(task(left)))))
    assert all(np.abs(both[index] - alone[index]).max() > 1e-2 for index in both)


@every_model
@pytest.mark.parametrize("corrected", [0, 4])
def test_a_correction_sees_the_old_mask_and_the_memory_as_in_transformers(name: str, corrected: int) -> None:
    """Its ``forward`` has no way to hand the old mask in, the method below it has; the masks must agree."""
    prompted = 2
    model = build_tiny_sam2(name)
    reference = Reference(model)
    reference.prompt(prompted, {1: PROMPTS["box"]})
    prior = np.where(MASKS[corrected], 4.0, -4.0).astype(np.float32)
    low_res = torch.nn.functional.interpolate(
        torch.from_numpy(prior)[None, None],
        tuple(model.prompt_encoder.mask_input_size),
        mode="bilinear",
        antialias=True,
    )
    click = clicks((30, 50, True), (140, 60, False))
    scale = np.array([SIDE_PX / SIZE[1], SIDE_PX / SIZE[0]], np.float32)
    words = {
        "inference_session": reference.session,
        "frame_idx": corrected,
        "obj_idx": 0,
        "batch_size": 1,
        "is_init_cond_frame": False,
        "point_inputs": {
            "point_coords": torch.from_numpy(click.points_xy_px * scale)[None, None],
            "point_labels": torch.from_numpy(click.positive.astype(np.int32))[None, None],
        },
        "mask_inputs": None,
        "reverse": corrected < prompted,
        "prev_sam_mask_logits": low_res,
    }
    if "run_mem_encoder" in inspect.signature(model._run_single_frame_inference).parameters:
        words["run_mem_encoder"] = False
    with torch.inference_mode():
        low = model._run_single_frame_inference(**words)["pred_masks"]
    wanted = reference.processor.post_process_masks([low], [SIZE], binarize=False)[0][0, 0].numpy()
    video = opened(tiny_method(name))
    memory = video.begin_round(task(first_mask(video, prompted, PROMPTS["box"])))
    found = video.segment_prompted(corrected, click, prior=prior, memory=memory)
    assert_same(found.logits, wanted)
    for other in (None, -prior):
        different = video.segment_prompted(corrected, click, prior=other, memory=memory)
        assert np.abs(different.logits - found.logits).max() > 1e-2


def test_frames_are_prepared_as_transformers_does() -> None:
    wanted = processor().init_video_session(video=list(IMAGES)).processed_frames
    for frame_index, image in enumerate(IMAGES):
        torch.testing.assert_close(network().pixel_values(image)[0], wanted[frame_index], atol=1e-5, rtol=1e-5)

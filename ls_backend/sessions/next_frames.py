"""Where to correct next, in Label Studio's words: labels, percent, and frames as its pager counts them."""

from __future__ import annotations

from ls_backend.protocol.label_config import NEXT_CONTROL, LabelConfig
from ls_backend.protocol.payloads import PCT, Json
from ls_backend.protocol.regions import NEXT_NOTE_ID, SCORE_DIGITS, region_id
from ls_backend.sessions.task_session import TaskSession
from pipeline.session.next_frame import Suggestion

N_IN_NOTE = 3
PCT_DIGITS = 2


def next_frames(session: TaskSession, count: int) -> list[Json]:
    """At most ``count`` places to look at, the most worthwhile first; none before the first masks are there.

    ``frame_index`` counts from 0, ``ls_frame`` from 1, as the editor does; ``x_pct`` and ``y_pct`` are percent of the
    image; ``gain`` is what the ranking goes by, ``score`` the confidence in [0, 1] of the mask there. Never waits for a
    round.
    """
    labels = session.labels()
    found = [suggestion for suggestion in session.pipeline.suggestions(count) if suggestion.object_id in labels]
    return [_entry(suggestion, labels[suggestion.object_id], session.frames.size_hw_px) for suggestion in found]


def _entry(suggestion: Suggestion, label: str, size_hw_px: tuple[int, int]) -> Json:
    height_px, width_px = size_hw_px
    return {
        "frame_index": suggestion.frame_index,
        "ls_frame": suggestion.frame_index + 1,
        "label": label,
        "region_id": region_id(label, suggestion.frame_index),
        "x_pct": round(suggestion.x_px / width_px * PCT, PCT_DIGITS),
        "y_pct": round(suggestion.y_px / height_px * PCT, PCT_DIGITS),
        "positive": suggestion.positive,
        "gain": round(suggestion.gain, SCORE_DIGITS),
        "score": round(suggestion.score, SCORE_DIGITS),
    }


def note_region(session: TaskSession, config: LabelConfig) -> list[Json]:
    """The best of `next_frames` as a line of text above the labels; nothing where the project has no place for it."""
    if not config.has_next:
        return []
    return [
        {
            "id": NEXT_NOTE_ID,
            "from_name": NEXT_CONTROL,
            "to_name": config.image_name,
            "type": "textarea",
            "origin": "prediction",
            "value": {"text": [_sentence(next_frames(session, N_IN_NOTE))]},
        }
    ]


def _sentence(entries: list[Json]) -> str:
    if not entries:
        return "No frame stands out."
    best, *others = entries
    where = f"Frame {best['ls_frame']}, {best['label']}, at {best['x_pct']:.0f} % across, {best['y_pct']:.0f} % down"
    then = f" Then {', '.join(str(entry['ls_frame']) for entry in others)}." if others else ""
    return f"{where} (score {best['score']:.2f}).{then}"

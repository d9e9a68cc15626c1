"""Folders that stand in for the official code of models; see README.md."""

from pathlib import Path

FOLDER = Path(__file__).parent
PIPS, TAPNET, CO_TRACKER = FOLDER / "pips", FOLDER / "tapnet", FOLDER / "co-tracker"

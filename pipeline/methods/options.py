"""A method's own settings as words: ``refinement_iterations=1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """Settings by name from ``NAME=VALUE`` words; `build_method` checks names and values.

    Raises:
        ValueError: a word is something else, or a name comes twice.
    """
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise ValueError(f"an option of the method needs the form NAME=VALUE, but got {word!r}")
        if name.strip() in options:
            raise ValueError(f"option {name.strip()} of the method is given twice")
        options[name.strip()] = value.strip()
    return options


def option_words(options: Mapping[str, Any]) -> list[str]:
    """The words of settings, in order of their names: what `parse_options` reads."""
    return sorted(f"{name}={value}" for name, value in options.items())

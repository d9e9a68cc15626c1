"""Reads the Dockerfile, as far as the tests need it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from tests.clips import REPOSITORY

DOCKER = REPOSITORY / "docker"


@dataclass(frozen=True)
class Stage:
    """One build stage: its name, what it is built on, and its instructions after FROM as (keyword, rest)."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        """What follows every instruction of one kind."""
        return [rest for name, rest in self.instructions if name == keyword]


def stages() -> dict[str, Stage]:
    """The stages of docker/Dockerfile by name, in order."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found: dict[str, Stage] = {}
    for keyword, _, rest in (line.strip().partition(" ") for line in instructions if line.strip()):
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(name, base, ())
        elif found:
            last = list(found.values())[-1]
            found[last.name] = Stage(last.name, last.base, (*last.instructions, (keyword, rest)))
    return found


def lineage(name: str) -> list[Stage]:
    """A stage and the stages it is built on, the oldest first."""
    known = stages()
    chain: list[Stage] = []
    while name in known:
        chain.insert(0, known[name])
        name = known[name].base
    return chain


def environment(name: str) -> dict[str, str]:
    """The variables an image sets."""
    pairs = [pair for stage in lineage(name) for rest in stage.all("ENV") for pair in rest.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def last(name: str, keyword: str) -> str:
    """The instruction of one kind that counts in an image."""
    return [rest for stage in lineage(name) for rest in stage.all(keyword)][-1]


def health_command(name: str) -> list[str]:
    """The command that an image's health check runs."""
    return list(json.loads(last(name, "HEALTHCHECK").partition("CMD ")[2]))

"""Write the tables of settings in the documents from the classes that hold the settings.

`make docs` runs this. A table stands between the lines ``<!-- generated: NAME -->`` and ``<!-- end -->`` of a document.
With ``--check`` nothing is written, and a table that differs from its class is an error.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ls_backend.settings import Settings
from pipeline.methods.choice import settings_class
from pipeline.parts.registry import METHOD, own_names
from pipeline.settings import PREFIX

FOLDER = Path(__file__).resolve().parent
SETTINGS_BY_METHOD: dict[str, type[Any]] = {name: settings_class(name) for name in own_names(METHOD)}
TABLES_BY_DOCUMENT = {
    "admin.md": ["settings"],
    "methods.md": [f"method {name}" for name in SETTINGS_BY_METHOD],
}
BLOCK = re.compile(r"(?<=<!-- generated: )([\w ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def backend_settings() -> str:
    """The table of all ``IVOS_*`` variables."""
    rows = []
    for name, field in Settings.model_fields.items():
        if not field.description:
            raise SystemExit(f"the field {name} of {Settings.__name__} needs a description")
        default = {} if field.default_factory is dict else None if field.default_factory else field.default
        rows.append((f"`{PREFIX}{name.upper()}`", _default_text(default), field.description))
    return _table("variable", rows)


def method_settings(method: str) -> str:
    """The table of a method's settings. Only the differences, if it extends another method's settings."""
    kind = SETTINGS_BY_METHOD[method]
    others = {other: name for name, other in SETTINGS_BY_METHOD.items() if name != method}
    base = next((other for other in kind.__mro__[1:] if other in others), None)
    common = {} if base is None else {field.name: field.default for field in fields(base)}
    meanings: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        meanings.update(_documented_attributes(ancestor))
    rows = []
    for field in fields(kind):
        if field.name in common and common[field.name] == field.default:
            continue
        if field.name not in meanings:
            raise SystemExit(f"{kind.__name__} must describe {field.name} below `Attributes:` in its docstring")
        rows.append((f"`{field.name}`", _default_text(field.default), meanings[field.name]))
    intro = "" if base is None else f"The settings of `{others[base]}`, with these differences:\n\n"
    return intro + _table("setting", rows)


def _documented_attributes(kind: type) -> Iterator[tuple[str, str]]:
    """Each name below ``Attributes:`` of a docstring, with its text in one line."""
    _, _, section = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
    for entry in re.split(r"\n {4}(?=\S)", "\n" + section.split("\n\n")[0])[1:]:
        names, _, text = entry.partition(":")
        for name in names.split(","):
            yield name.strip(), " ".join(text.split())


def _default_text(default: object) -> str:
    """A default as it is written in a variable or option; empty for none."""
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def _table(first_column: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| {first_column} | default | meaning |", "|---|---|---|"]
    for name, default, meaning in rows:
        text = meaning.replace("``", "`").replace("|", "\\|")
        lines.append(f"| {name} | {default} | {text[:1].upper()}{text[1:]} |")
    return "\n".join(lines) + "\n"


def _generated(name: str) -> str:
    return backend_settings() if name == "settings" else method_settings(name.removeprefix("method "))


def main(check: bool) -> None:
    """Write or check all documents."""
    for document, names in TABLES_BY_DOCUMENT.items():
        path = FOLDER / document
        text = path.read_text()
        found = [block[1] for block in BLOCK.finditer(text)]
        if sorted(found) != sorted(names):
            raise SystemExit(f"docs/{document} must have the generated tables {names}, but has {found}")
        generated = BLOCK.sub(lambda block: block[1] + block[2] + _generated(block[1]), text)
        if check and generated != text:
            raise SystemExit(f"a table of docs/{document} differs from its class: run `make docs`")
        if generated != text:
            path.write_text(generated)


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])

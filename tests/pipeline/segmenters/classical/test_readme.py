"""The table of constants in the README of the classical segmenter equals the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pipeline.segmenters.classical

FOLDER = Path(pipeline.segmenters.classical.__file__).parent
HEADER = "| file | constant | value | meaning | chosen |"

Constants = dict[tuple[str, str], tuple[object, str]]
"""Value and meaning, by file and name."""


def in_code() -> Constants:
    found: Constants = {}
    for file in FOLDER.glob("*.py"):
        body = ast.parse(file.read_text()).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.Assign):
                (target,) = node.targets
                assert isinstance(target, ast.Name), f"{file.name}:{node.lineno}: one constant a line"
                if target.id.isupper():
                    doc = after.value if isinstance(after, ast.Expr) else None
                    assert isinstance(doc, ast.Constant), f"{file.name}: {target.id} needs a docstring"
                    found[file.stem, target.id] = ast.literal_eval(node.value), str(doc.value)
    return found


def in_table() -> tuple[Constants, set[str]]:
    _, _, table = (FOLDER / "README.md").read_text().partition(HEADER + "\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:] if line]
    constants = {
        (file, name.strip("`")): (ast.literal_eval(value.strip("`")), doc) for file, name, value, doc, _ in rows
    }
    assert len(constants) == len(rows), "a constant stands there twice"
    return constants, {row[-1] for row in rows}


def test_table_and_code_agree() -> None:
    table, chosen = in_table()
    code = in_code()
    assert table.keys() == code.keys()
    assert {key: table[key] for key in table if table[key] != code[key]} == {}
    assert "" not in chosen

# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts send nobody to a button that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.shared import ROOT

ADDON = sorted((ROOT / "diffspeaker_blender").rglob("*.py"))
LABELS = {"text", "name", "label", "title", "confirm_text", "fix_label", "bl_label"}
BLENDERS = {
    "Allow Online Access", "Edit Mode", "External Data", "Find Missing Files", "Lip-Sync",
    "Merge by Distance", "Mesh Cache", "Object Mode", "Shape Keys", "Time Stretching",
    "Library Override", "Make Instances Real", "Make Local", "Rest Position", "Selected Objects",
}  # fmt: skip
"""What Blender itself calls so."""
NAMES = {"Apple GPU", "CSV UTF-8", "Microsoft Visual"}
_JOINS = re.compile(r"^(to|for|of|from|by|the|is|in) ")
_TITLE = re.compile(r"[A-Z][\w-]+(?: (?:(?:to|for|of|from|by|the|is|in) )?[A-Z][\w-]+)+")


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the texts of an expression, with a blank letter for what is filled in."""
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "x" for v in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def documentation(tree: ast.AST) -> set[int]:
    """Return the numbers of strings that stand alone: docstrings say what they like."""
    alone = (n for n in ast.walk(tree) if isinstance(n, ast.Expr))
    return {id(n.value) for n in alone if isinstance(n.value, ast.Constant)}


def shown() -> set[str]:
    """Return every label that the add-on shows: buttons, fields, panels, choices and fixes."""
    found = set()
    for path in ADDON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in LABELS:
                found |= set(strings(node.value))
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in LABELS:
                found |= set(strings(node.value))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                found |= {text for argument in node.args[2:] for text in strings(argument)}
            if isinstance(node, ast.Tuple) and len(node.elts) >= 3:  # a choice's name
                found |= set(strings(node.elts[1]))
    return found


def sentences() -> Iterator[tuple[str, str]]:
    """Yield file and text of everything that ends like a sentence, or goes on to one."""
    for path in ADDON:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        apart = documentation(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in apart:
                for text in strings(node):
                    if text.count(" ") >= 3:
                        yield path.name, text


def named(text: str) -> Iterator[str]:
    """Yield what a sentence names with capitals; its own first word is none of it."""
    for match in _TITLE.finditer(text):
        phrase, before = match.group(), text[: match.start()].rstrip()
        if not before or before[-1] in ".:!?":
            phrase = _JOINS.sub("", phrase.partition(" ")[2])
        if " " in phrase:
            yield phrase


def test_what_a_text_names_is_there() -> None:
    """Every button, field, panel or menu that a message sends one to has that very name."""
    known = {text.rstrip("…") for text in shown()} | BLENDERS | NAMES
    missing = {
        (where, phrase)
        for where, text in sentences()
        for phrase in named(text)
        if phrase not in known and not any(phrase in label for label in known)
    }
    assert sorted(missing) == []

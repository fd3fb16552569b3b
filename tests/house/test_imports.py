# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the house, held by its imports: no circle, nothing shipped on what does not ship."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared import ROOT

PACKAGES = ("diffspeaker_blender", "model")
PURE = ("errors", "paths", "worker", "motion", "files")
"""Rooms of the add-on that know nothing of Blender."""
ENGINES = {"torch", "onnxruntime", "transformers"}


def modules(package: str) -> dict[str, Path]:
    """Return dotted name → file of every module of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "presets" not in parts[:-1]:  # a preset is a script that Blender runs, not a module
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """Yield every dotted name that a file imports, at its top or inside a function."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = above[: len(above) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def arrows(package: str) -> dict[str, set[str]]:
    """Return module → the modules of its package that it imports."""
    known = modules(package)
    graph = {}
    for name, path in known.items():
        asked = {target for target in imports(name, path) if target in known}
        inner = {target.rpartition(".")[0] for target in asked}  # `from .room import module`
        graph[name] = asked - inner - {name, package}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return every set of nodes that can reach each other (Tarjan's strongly connected sets)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in order:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], order[target])
        if low[node] == order[node]:
            circle = [stack.pop()]
            while circle[-1] != node:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def room(name: str) -> str:
    """Return the room of a module: the folder under its package, or the file's own name there."""
    return name.split(".")[1] if "." in name else name


def shipped_rooms() -> tuple[str, ...]:
    """Return the rooms of `model` that the packing script takes along."""
    spec = importlib.util.spec_from_file_location("build_script", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return tuple(script.SHIPPED_ROOMS)


def test_circles_are_found() -> None:
    """The judge itself: a circle of three is one, a line is none."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_modules_import_each_other(package: str) -> None:
    assert circles(arrows(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_rooms_import_each_other(package: str) -> None:
    graph: dict[str, set[str]] = {}
    for name, targets in arrows(package).items():
        graph.setdefault(room(name), set()).update(room(target) for target in targets)
    assert circles({name: targets - {name} for name, targets in graph.items()}) == []


def test_nothing_shipped_imports_what_does_not_ship() -> None:
    ships = {*shipped_rooms(), "__init__", "__main__", "model"}
    wrong = [
        f"{name} → {target}"
        for name, targets in arrows("model").items()
        for target in targets
        if room(name) in ships and room(target) not in ships
    ]
    assert wrong == []


def test_the_wall_between_blender_and_the_model() -> None:
    """No engine in the add-on, no Blender in the model, and none in the add-on's pure rooms."""
    for name, path in modules("diffspeaker_blender").items():
        roots = {target.split(".")[0] for target in imports(name, path)}
        assert not roots & ENGINES, name
        assert "model" not in roots, name
        if room(name) in PURE:
            assert "bpy" not in roots, name
    for name, path in modules("model").items():
        assert not {target.split(".")[0] for target in imports(name, path)} & {
            "bpy",
            "diffspeaker_blender",
        }, name

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a character itself says of its face: VRM expressions, MMD morphs and their categories.

Such a table is worth more than names: it says which shapes together are an "aa", whatever they are
called. It is kept by the add-on that brought the character, as its properties; in a file that is
opened without that add-on the same tables are still there as plain ID properties. Both are read,
and nothing is trusted: whatever is missing or of another kind is passed over, and what an
expression does on the mesh is measured like any other shape (`proposal`).

An expression of one shape at full strength is that shape. One of several, or of a part of one, is
added to the meshes as a shape of its own (`Declared.added`), measured, and taken apart again when
the mapping is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from . import names as naming
from .names import Convention, Guess
from .probe import Part

MOUTH, EYES, BROWS = "mouth", "eyes", "brows"

_PRESETS = {
    "a": "aa", "i": "ih", "u": "ou", "e": "E", "o": "oh",
    "aa": "aa", "ih": "ih", "ou": "ou", "ee": "E", "oh": "oh",
    "blink": "eyeBlink*", "blinkl": "eyeBlinkLeft", "blinkr": "eyeBlinkRight",
    "blinkleft": "eyeBlinkLeft", "blinkright": "eyeBlinkRight",
    "lookup": "eyeLookUp*", "lookdown": "eyeLookDown*",
}  # fmt: skip
"""VRM's presets, 0.x and 1.0 → our visemes and controls."""
_PRESET_NUMBERS = (
    "unknown", "neutral", "a", "i", "u", "e", "o", "blink", "joy", "angry", "sorrow", "fun",
    "lookup", "lookdown", "lookleft", "lookright", "blink_l", "blink_r",
)  # fmt: skip
"""VRM 0.x presets in the order of their numbers, as a raw property keeps them."""
_CATEGORIES = ("SYSTEM", "EYEBROW", "EYE", "MOUTH", "OTHER")
"""MMD's categories in the order of their numbers."""
_AREAS = {"EYEBROW": BROWS, "EYE": EYES, "MOUTH": MOUTH}
_NAMELESS = re.compile(r"(?:target|key|morph|shape|blend\w*)?[ _.-]*\d+", re.IGNORECASE)
"""Names that importers give to shapes without any: alike on two meshes, they mean nothing."""
_LEAST = 0.01
"""Strength from which a shape is a part of an expression."""

Bind = tuple[str, str, float]
"""Mesh object ("" for every mesh that has it), shape, strength."""


@dataclass(frozen=True)
class Expression:
    """One pose of the face that the character names."""

    name: str
    """As the character calls it: "A", "aa", "jawOpen"."""
    binds: tuple[Bind, ...]
    role: str = ""
    """Our viseme or control where the format fixes it; else the name is looked up."""


@dataclass(frozen=True)
class Declared:
    """Everything that a character says of its face."""

    title: str = ""
    expressions: tuple[Expression, ...] = ()
    areas: dict[str, str] = field(default_factory=dict)
    """Shape → which part of the face it is filed under."""

    def added(self, parts: Iterable[Part]) -> tuple[list[Part], dict[str, tuple[Bind, ...]]]:
        """Return the meshes with a shape for each expression, and what these are made of.

        The second says for each expression's name, `shape_of`, which shapes of which meshes it is;
        an expression that is one shape alone is that shape and adds none.
        """
        parts = list(parts)
        made: dict[str, tuple[Bind, ...]] = {}
        for expression in self.expressions:
            binds = _resolved(expression.binds, parts)
            if not binds or not _known(expression):
                continue
            keys = {key for _, key, _ in binds}
            if len(keys) > 1 or any(abs(weight - 1.0) > _LEAST for _, _, weight in binds):
                made[shape_of(expression)] = binds
        return [_with(part, made) for part in parts], made

    def guesses(self, parts: Iterable[Part]) -> list[Guess]:
        """Return what the expressions propose, as names do; `parts` are those of `added`."""
        parts = list(parts)
        there = {name for part in parts for name in part.keys}
        shapes: dict[str, str] = {}
        for expression in self.expressions:
            binds = _resolved(expression.binds, parts)
            shape = shape_of(expression)
            if shape not in there:
                shape = binds[0][1] if len({key for _, key, _ in binds}) == 1 else ""
            if shape:
                shapes.setdefault(expression.name, shape)
        sides_first = sorted(self.expressions, key=lambda one: one.role.endswith("*"))
        fixed: dict[str, tuple[str, ...]] = {
            e.role: (shapes[e.name],) for e in sides_first if e.role and e.name in shapes
        }
        found = [_guess(self.title, fixed)] if fixed else []
        free = [e.name for e in self.expressions if not e.role and e.name in shapes]
        for guess in naming.guesses(free)[:1]:
            table = {
                role: tuple(shapes[name] for name in hits)
                for role, hits in (*guess.visemes.items(), *guess.controls.items())
            }
            found.append(_guess(f"{self.title}, {guess.convention.title}", table))
        return found

    def elsewhere(self, key: str) -> str:
        """Return the part of the face, other than the mouth, that a shape is filed under."""
        area = self.areas.get(key, "")
        return "" if area == MOUTH else area


def shape_of(expression: Expression) -> str:
    """Return the name of the shape that stands for an expression while it is measured."""
    return f"“{expression.name}”"


def _known(expression: Expression) -> bool:
    """Return whether an expression is one that speech could ask for."""
    if expression.role:
        return True
    return any(guess.controls or guess.visemes for guess in naming.guesses([expression.name]))


def _guess(title: str, table: dict[str, tuple[str, ...]]) -> Guess:
    visemes = {role: keys for role, keys in table.items() if role in naming.VISEMES}
    controls = {role: keys for role, keys in table.items() if role not in naming.VISEMES}
    return Guess(Convention("declared", title, controls, visemes), controls, visemes, len(table))


def _resolved(binds: Iterable[Bind], parts: list[Part]) -> tuple[Bind, ...]:
    """Return what an expression moves on these meshes: also where a named mesh was taken apart.

    A shape that bears a name of its own is the same on every mesh that has it.
    """
    found: dict[tuple[str, str], float] = {}
    there = {part.name for part in parts}
    for mesh, key, weight in binds:
        anywhere = mesh not in there or not _NAMELESS.fullmatch(key)
        for part in parts:
            if key in part.keys and (part.name == mesh or anywhere):
                found.setdefault((part.name, key), weight)
    for mesh, key, weight in binds:
        if (mesh, key) in found:
            found[mesh, key] = weight
    return tuple((mesh, key, weight) for (mesh, key), weight in found.items())


def _with(part: Part, made: dict[str, tuple[Bind, ...]]) -> Part:
    """Return a mesh with the sums of shapes that lie on it."""
    keys = dict(part.keys)
    for name, binds in made.items():
        mine = [part.keys[key] * weight for mesh, key, weight in binds if mesh == part.name]
        if mine:
            keys[name] = sum(mine[1:], mine[0])
    return replace(part, keys=keys) if len(keys) > len(part.keys) else part


# -- reading ----------------------------------------------------------------------------------


def read(objects: Iterable[Any]) -> Declared:
    """Return what a character's objects declare: its armature's VRM, or its root's MMD tables."""
    objects = list(dict.fromkeys(obj for one in objects for obj in _line(one)))
    for obj in objects:
        for version, extension in _extensions(obj):
            expressions = tuple(_vrm1(extension) if version else _vrm0(extension))
            if expressions:
                return Declared(f"VRM {'1' if version else '0'} expressions", expressions)
    for obj in objects:
        for root in _held(obj, "mmd_root"):
            found = _mmd(root)
            if found.areas or found.expressions:
                return found
    return Declared()


def _line(obj: Any) -> Iterator[Any]:
    """Yield an object and its ancestors."""
    while obj is not None:
        yield obj
        obj = obj.parent


def _held(owner: Any, name: str) -> Iterator[Any]:
    """Yield what an add-on keeps on a datablock: its own properties, else the raw ones of a file.

    Blender 5 keeps the latter apart from the user's properties.
    """
    found = getattr(owner, name, None)
    if found is not None:
        yield found
        return
    stores = [owner]
    if hasattr(owner, "bl_system_properties_get"):
        stores.insert(0, owner.bl_system_properties_get())
    for store in stores:
        found = store.get(name) if store is not None and hasattr(store, "get") else None
        if found is not None and hasattr(found, "keys"):
            yield found


def _value(holder: Any, name: str, default: Any = None) -> Any:
    """Return a property of a property group or of a raw one."""
    if holder is None:
        return default
    if type(holder).__name__ == "IDPropertyGroup" or isinstance(holder, dict):
        found = holder.get(name)
    else:
        found = getattr(holder, name, None)
    return default if found is None else found


def _rows(holder: Any, name: str) -> list[Any]:
    """Return a list that a property group holds, empty where it is something else."""
    found = _value(holder, name)
    if isinstance(found, str) or not hasattr(found, "__iter__"):
        return []
    return [row for row in found if row is not None]


def _extensions(obj: Any) -> Iterator[tuple[int, Any]]:
    """Yield the (version, tables) of a VRM armature, those of its own version first."""
    if obj.type != "ARMATURE" or obj.data is None:
        return
    for extension in _held(obj.data, "vrm_addon_extension"):
        own = str(_value(extension, "spec_version", ""))
        for version in (1, 0) if own.startswith("1") else (0, 1):
            tables = _value(extension, f"vrm{version}")
            if tables is not None:
                yield version, tables


def _vrm0(tables: Any) -> Iterator[Expression]:
    for group in _rows(_value(tables, "blend_shape_master"), "blend_shape_groups"):
        preset = _value(group, "preset_name", "unknown")
        if isinstance(preset, int):
            preset = _PRESET_NUMBERS[preset] if 0 <= preset < len(_PRESET_NUMBERS) else "unknown"
        name = str(_value(group, "name", "") or preset)
        if preset != "unknown" and _plain(preset) not in _PRESETS:
            continue  # moods and glances
        yield from _expression(name, _rows(group, "binds"), "mesh", str(preset))


def _vrm1(tables: Any) -> Iterator[Expression]:
    expressions = _value(tables, "expressions")
    presets = _value(expressions, "preset")
    for name in ("aa", "ih", "ou", "ee", "oh", "blink", "blink_left", "blink_right",
                 "look_up", "look_down"):  # fmt: skip
        binds = _rows(_value(presets, name), "morph_target_binds")
        yield from _expression(name, binds, "node", name)
    for custom in _rows(expressions, "custom"):
        name = str(_value(custom, "custom_name", ""))
        yield from _expression(name, _rows(custom, "morph_target_binds"), "node", "")


def _plain(name: Any) -> str:
    return str(name).lower().replace("_", "")


def _expression(name: str, binds: Iterable[Any], mesh: str, preset: str) -> Iterator[Expression]:
    """Yield an expression if it moves anything; mesh: what its binds call their mesh."""
    found = []
    for bind in binds:
        key, weight = str(_value(bind, "index", "")), _value(bind, "weight", 1.0)
        if key and isinstance(weight, int | float) and weight > _LEAST:
            found.append((_mesh_name(_value(bind, mesh)), key, min(float(weight), 1.0)))
    if name and found:
        yield Expression(name, tuple(found), _PRESETS.get(_plain(preset), ""))


def _mesh_name(holder: Any) -> str:
    """Return the mesh object that a bind names, "" where it does not say."""
    obj = _value(holder, "bpy_object")
    if obj is not None and hasattr(obj, "name"):
        return str(obj.name)
    return str(_value(holder, "mesh_object_name", "") or _value(holder, "value", ""))


def _mmd(root: Any) -> Declared:
    """Return MMD's morphs under their English names, and where each is filed."""
    expressions, areas = [], {}
    for morph in _rows(root, "vertex_morphs"):
        name = str(_value(morph, "name", ""))
        area = _area(morph)
        if not name:
            continue
        if area:
            areas[name] = area
        english = str(_value(morph, "name_e", ""))
        if english and english != name and area:
            expressions.append(Expression(english, (("", name, 1.0),)))
    for morph in _rows(root, "group_morphs"):
        binds = [
            ("", str(_value(one, "name", "")), float(_value(one, "factor", 1.0)))
            for one in _rows(morph, "data")
            if _value(one, "morph_type", "vertex_morphs") in ("vertex_morphs", 3)
        ]
        kept = tuple(bind for bind in binds if bind[1] and bind[2] > _LEAST)
        name = str(_value(morph, "name", ""))
        if name and kept and _area(morph):
            expressions.append(Expression(name, kept))
    return Declared("MMD morphs", tuple(expressions), areas)


def _area(morph: Any) -> str:
    category = _value(morph, "category", "OTHER")
    if isinstance(category, int):
        category = _CATEGORIES[category] if 0 <= category < len(_CATEGORIES) else "OTHER"
    return _AREAS.get(str(category), "")

# SPDX-License-Identifier: GPL-3.0-or-later
"""What chooses a drawn mouth on a character: found in the scene, and turned into a mapping.

Layers, objects and shape keys are shown one at a time; a Time Offset, an image sequence, a custom
property or an input of Geometry Nodes takes the number of the drawing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bpy

from ..errors import HeadError
from . import charts, detect
from . import names as naming
from .drawn import NOTHING, DrawnMouths
from .mapping import DRAWN, Mapping, Place, Row, Term, group_of

_BOUND = 1e6
_LONG_AGO = -100_000
"""Frame on which an image sequence starts: before its start it shows one image less."""
_MOST = 40
"""Drawings a switch may have; more are no mouths."""
_GUESSED = 9
"""Drawings of a number that tells no range."""
_MOUTHISH = re.compile(r"mouth|lip|phoneme|viseme|talk|口", re.IGNORECASE)
_SEQUENCE = re.compile(r"(.*?)(\d+)(\.[^.]+)$")
UPPER = ("lids", "brows", "eyes", "cheeks")
"""Groups of a face that go on moving beside a drawn mouth."""
KEYS = "shape keys"
TIME = ("GREASE_PENCIL_TIME", "GP_TIME")


@dataclass(frozen=True)
class State:
    """One drawing."""

    label: str
    """Of a layer, an object, a shape key; "Drawing 3" of a number."""
    value: float = 1.0
    """Number that shows it."""
    places: tuple[Place, ...] = ()
    """What shows it at `value`; empty where all states share the switch's one number."""
    off: float = 0.0
    """What hides it."""


@dataclass(frozen=True)
class Switch:
    """Something that can choose a drawing."""

    title: str
    """What it is, for the list: "Time Offset of Mouth"."""
    kind: str
    """"Grease Pencil layers", "an image sequence" … for the sentence."""
    speaker: str
    """Object that keeps the mapping."""
    states: tuple[State, ...]
    place: Place | None = None
    """The number, where one chooses among all."""
    prepare: tuple[str, ...] = ()
    """What has to be set for it to choose: see `prepare`."""
    sounds: dict[str, str] = field(default_factory=dict, compare=False)
    """State's label → sound, read from names."""

    @property
    def told(self) -> bool:
        """Return whether names tell which drawing is which."""
        return bool(self.sounds)

    def proposed(self, chart: str = "") -> list[str]:
        """Return a sound for each state: in a chart's order, as named, or as is usual."""
        if not chart and self.told:
            return [self.sounds.get(state.label, NOTHING) for state in self.states]
        return charts.in_order(chart or charts.usual(len(self.states)), len(self.states))


def _named(switch: Switch) -> Switch:
    return replace(switch, sounds=charts.read([state.label for state in switch.states]))


# -- what there is ----------------------------------------------------------------------------


def find(obj: Any) -> list[Switch]:
    """Return what may choose a mouth on the character an object is of, the likeliest first."""
    if obj is None:
        return []
    found: list[Switch] = []
    everyone = detect.company(obj)
    for one in everyone:
        found += [*_grease(one), *_images(one), *_numbers(one), *_nodes(one), *_keys(one)]
    found += _objects(obj, everyone)
    usable = [switch for switch in map(_named, found) if 1 < len(switch.states) <= _MOST]
    return sorted(usable, key=lambda switch: -_likely(switch, obj))


def certain(obj: Any) -> Switch | None:
    """Return the switch whose names tell that it is a mouth, None where there is none.

    Shape keys must have been measured: those whose names alone are a mouth's are asked about.
    """
    return next((one for one in find(obj) if one.told and one.kind != KEYS), None)


def likely(obj: Any) -> Switch | None:
    """Return what may well choose a mouth, None where it would be a mere guess."""
    return next((one for one in find(obj) if _likely(one, obj) >= 3.0), None)


def _likely(switch: Switch, obj: Any) -> float:
    own = 2.0 * float(switch.speaker == obj.name)
    mouthish = 4.0 * bool(_MOUTHISH.search(switch.title))
    usual = 3.0 * float(switch.place is not None and switch.kind != "a number")
    return 10.0 * min(len(set(switch.sounds.values())), 5) + own + mouthish + usual


def _grease(obj: Any) -> Iterator[Switch]:
    """Yield the layers of a Grease Pencil object, and its Time Offset, there or to be added."""
    if obj.type not in {"GREASEPENCIL", "GPENCIL"}:
        return
    layers = list(obj.data.layers)
    yield Switch(
        f"Layers of {obj.name}",
        "Grease Pencil layers",
        obj.name,
        tuple(_layer(obj, layer) for layer in layers),
    )
    frames = sorted({frame.frame_number for layer in layers for frame in layer.frames})
    states = tuple(State(f"Drawing {k + 1}", float(at)) for k, at in enumerate(frames))
    stack, word = _stack(obj)
    known = [modifier for modifier in stack if modifier.type in TIME]
    for name in [modifier.name for modifier in known] or ["Time Offset"]:
        path = f'{word}["{bpy.utils.escape_identifier(name)}"].offset'
        yield Switch(
            f"{name} of {obj.name}" + ("" if known else " (is added)"),
            "a Time Offset",
            obj.name,
            states,
            Place("setting", obj.name, path),
            ("time", name),
        )


def _stack(obj: Any) -> tuple[Any, str]:
    """Return the modifiers of a Grease Pencil object and what they are called in a data path."""
    word = "grease_pencil_modifiers" if obj.type == "GPENCIL" else "modifiers"
    return getattr(obj, word), word


def _layer(obj: Any, layer: Any) -> State:
    """Return a layer as a drawing: by its opacity, and by its eye where that is shut now."""
    label = getattr(layer, "info", None) or layer.name
    start = f'layers["{bpy.utils.escape_identifier(label)}"]'
    return State(label, 1.0, (Place("setting", obj.name, f"{start}.opacity", "data"),))


def _images(obj: Any) -> Iterator[Switch]:
    """Yield image sequences: of an image empty, and in the materials of an object."""
    if obj.type == "EMPTY" and obj.empty_display_type == "IMAGE" and obj.data is not None:
        yield from _image(obj, obj.data, Place("setting", obj.name, "image_user.frame_offset"), "")
    for slot, holder in enumerate(getattr(obj, "material_slots", ())):
        tree = holder.material.node_tree if holder.material is not None else None
        for node in tree.nodes if tree is not None else ():
            image = getattr(node, "image", None)
            if image is None or not hasattr(node, "image_user"):
                continue
            start = f'nodes["{bpy.utils.escape_identifier(node.name)}"].image_user'
            place = Place("setting", obj.name, f"{start}.frame_offset", "material", slot)
            yield from _image(obj, image, place, f", {holder.material.name}")


def _image(obj: Any, image: Any, place: Place, where: str) -> Iterator[Switch]:
    if image.source not in {"SEQUENCE", "MOVIE"}:
        return
    numbers = _files(image) or list(range(1, _GUESSED + 1))
    states = tuple(State(f"Image {n}", float(n - 1)) for n in numbers)
    title = f"{image.name} on {obj.name}{where}"
    yield Switch(title, "an image sequence", obj.name, states, place, ("image",))


def _files(image: Any) -> list[int]:
    """Return the numbers of an image sequence's files that are there."""
    if image.source == "MOVIE":
        return list(range(1, int(image.frame_duration) + 1))
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    pattern = _SEQUENCE.fullmatch(path.name)
    if pattern is None or not path.parent.is_dir():
        return []
    start, _, end = pattern.groups()
    found = re.compile(re.escape(start) + r"(\d+)" + re.escape(end))
    hits = (found.fullmatch(other.name) for other in path.parent.iterdir())
    return sorted({int(hit.group(1)) for hit in hits if hit})


def _numbers(obj: Any) -> Iterator[Switch]:
    """Yield custom properties that are a whole number, or are called a mouth."""
    holders: list[tuple[Any, str, str]] = [(obj, "", obj.name)]
    if obj.type == "ARMATURE":
        holders += [(bone, bone.name, bone.name) for bone in obj.pose.bones]
    if obj.data is not None and obj.type != "MESH":
        holders.append((obj.data, "data", obj.data.name))
    for holder, path, title in holders:
        for name in holder.keys():  # noqa: SIM118 ID properties
            value = holder[name]
            if name.startswith(("diffspeaker", "_")) or not isinstance(value, int | float):
                continue
            if isinstance(value, bool) or (isinstance(value, float) and not _MOUTHISH.search(name)):
                continue
            states = _range(holder, name)
            place = Place("property", obj.name, name, path)
            yield Switch(f"Property {name} of {title}", "a number", obj.name, states, place)


def _range(holder: Any, name: str) -> tuple[State, ...]:
    """Return the states of a custom property, by its names or its limits."""
    try:
        known = holder.id_properties_ui(name).as_dict()
    except TypeError:
        known = {}
    items = known.get("items") or ()
    if items:
        return tuple(State(str(item[1]), float(item[4])) for item in items)
    low, high = known.get("min", 0), known.get("max", 0)
    if not 0 < high - low <= _MOST:
        low, high = 0, _GUESSED - 1
    return tuple(State(f"Number {n}", float(n)) for n in range(round(low), round(high) + 1))


def _nodes(obj: Any) -> Iterator[Switch]:
    """Yield whole numbers that Geometry Nodes take."""
    for modifier in getattr(obj, "modifiers", ()):
        group = modifier.node_group if modifier.type == "NODES" else None
        for item in group.interface.items_tree if group is not None else ():
            if getattr(item, "in_out", "") != "INPUT" or item.socket_type != "NodeSocketInt":
                continue
            start = f'modifiers["{bpy.utils.escape_identifier(modifier.name)}"]'
            path = f'{start}["{item.identifier}"]'
            if "properties" in modifier.bl_rna.properties:
                path = f"{start}.properties.inputs.{item.identifier}.value"
            low, high = item.min_value, item.max_value
            if not 0 < high - low <= _MOST:
                low, high = 0, _GUESSED - 1
            states = tuple(State(f"Number {n}", float(n)) for n in range(low, high + 1))
            title = f"{item.name} of {modifier.name}, {obj.name}"
            yield Switch(title, "a number", obj.name, states, Place("setting", obj.name, path))


def _keys(obj: Any) -> Iterator[Switch]:
    """Yield shape keys that are called mouths of a chart; each is shown fully or not at all."""
    key = obj.data.shape_keys if obj.type == "MESH" else None
    if key is None:
        return
    held = detect.driven_keys(key)
    names = [b.name for b in key.key_blocks if b != key.reference_key and b.name not in held]
    found = [name for name in charts.read(names) if _moves(key.key_blocks[name])]
    states = tuple(State(name, 1.0, (Place("key", obj.name, name),)) for name in found)
    yield Switch(f"Shape keys of {obj.name}, stepped", KEYS, obj.name, states)


def _moves(block: Any) -> bool:
    """Return whether a shape key moves anything."""
    under = detect.coordinates(block.relative_key.points)
    return bool((detect.coordinates(block.points) != under).any())


def _objects(obj: Any, everyone: Sequence[Any]) -> Iterator[Switch]:
    """Yield objects that are one mouth each, by their names."""
    by_stem = {detect.stem(one.name): one for one in everyone}
    found = charts.read(list(by_stem))
    states = tuple(
        State(
            name,
            0.0,
            tuple(
                Place("shown", by_stem[name].name, name, path)
                for path in ("hide_viewport", "hide_render")
            ),
            1.0,
        )
        for name in found
    )
    if states:
        parent = by_stem[states[0].label].parent
        speaker = obj.name if obj.type != "ARMATURE" or parent is None else parent.name
        yield Switch(f"Objects {states[0].label} …", "objects", speaker, states)


# -- what is made of it -----------------------------------------------------------------------


def mapping_of(
    switch: Switch, sounds: Iterable[str], former: Mapping | None = None, **timing: int
) -> Mapping:
    """Return the mapping of a switch whose states show some sounds ("" for no mouth).

    former: the character's mapping, whose brows, lids and eyes stay. timing: `hold` and `lead`.
    Raises HeadError where no mouth is left to choose from.
    """
    pairs = [(s, sound) for s, sound in zip(switch.states, sounds, strict=True) if sound]
    if len({sound for _, sound in pairs}) < 2:
        raise HeadError(
            "Fewer than two drawings have a sound.", "Say of each drawing which mouth it is."
        )
    drawn = DrawnMouths(
        tuple(state.label for state, _ in pairs),
        tuple(sound for _, sound in pairs),
        switch.kind,
        **timing,
    )
    rows = []
    if switch.place is not None:
        terms = tuple(Term(state.value, (state.label,)) for state, _ in pairs if state.value)
        rows.append(Row((switch.place,), terms, 0.0, -_BOUND, _BOUND, DRAWN))
    for state, _ in pairs:
        if state.places:
            term = Term(state.value - state.off, (state.label,))
            rows.append(Row(state.places, (term,), state.off, 0.0, 1.0, DRAWN))
    own = {place for row in rows for place in row.places}
    beside = former.rows if former is not None else upper(bpy.data.objects[switch.speaker])
    kept = tuple(row for row in beside if row.group in UPPER and not own & set(row.places))
    return replace(
        former or Mapping(""),
        title="Drawn mouths",
        rows=kept,
        few=None,
        few_rows=(),
        lips="drawing",
        drawn=drawn,
        drawn_rows=tuple(rows),
    )


def upper(obj: Any) -> tuple[Row, ...]:
    """Return rows for lids and brows of a character whose mouth is drawn, as their names say."""
    parts = detect.read_parts(detect.members(obj))
    terms: dict[str, list[Term]] = {}
    done: set[str] = set()
    for guess in naming.guesses({key for part in parts for key in part.keys})[:3]:
        for control, hits in guess.controls.items():
            sides = [
                control.replace("*", side) for side in ("Left", "Right")[: 1 + control.count("*")]
            ]
            if control.startswith(("eyeBlink", "brow")) and not done & set(sides):
                done |= set(sides)
                share = round(1 / len(sides), 2)
                terms.setdefault(hits[0], []).extend(Term(share, (side,)) for side in sides)
    return tuple(
        Row(
            tuple(Place("key", part.name, key) for part in parts if key in part.keys),
            tuple(found),
            group=group_of(found[0].controls[0]),
        )
        for key, found in terms.items()
    )


def prepare(switch: Switch) -> None:
    """Set what a switch needs: a fixed Time Offset, an image that stands still, eyes that see."""
    obj: Any = bpy.data.objects[switch.speaker]
    for place in (place for state in switch.states for place in state.places):
        shown = bpy.data.objects[place.owner]
        if place.kind == "shown" and shown.name in bpy.context.view_layer.objects:
            shown.hide_set(False)
        elif place.kind == "setting" and obj.type in {"GREASEPENCIL", "GPENCIL"}:
            shown.data.path_resolve(place.name.rpartition(".")[0]).hide = False
    if switch.prepare[:1] == ("time",):
        stack, _ = _stack(obj)
        modifier = stack.get(switch.prepare[1])
        if modifier is None:
            kind = TIME[obj.type == "GPENCIL"]
            modifier = stack.new(switch.prepare[1], kind)
        modifier.mode = "FIX"
    elif switch.prepare and switch.place is not None:
        where = detect.setting(obj, switch.place)
        assert where is not None
        user = where[0].path_resolve(where[1].rpartition(".")[0])
        user.frame_duration, user.frame_start, user.use_cyclic = 1, _LONG_AGO, False
        user.use_auto_refresh = True


def keep(switch: Switch, mapping: Mapping, obj: Any) -> Any:
    """Keep the mapping of drawn mouths on its character, ready to be played; return who speaks."""
    prepare(switch)
    face = detect.speaker_of(obj) or bpy.data.objects[switch.speaker]
    detect.store(face, mapping)
    return face

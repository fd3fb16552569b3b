# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs as other makers name and turn them, built around one head whose own shapes are the truth.

A `Skin` knows the head's meshes, how its shapes move them, and where lips, lids, eyes and tongue
are; `RIGS` are tables of bones; `build` adds an armature with weights as a rigger paints them: the
jaw takes what the jaw's shape moves, bones at the lips take what is near them on their own lip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from diffspeaker_blender.animation import channels, clips, mapped
from diffspeaker_blender.character import detect
from diffspeaker_blender.character.probe import Face, Part
from diffspeaker_blender.character.proposal import propose
from diffspeaker_blender.motion.motion import Motion
from tests.character import scoring
from tests.shared import shared

Point = tuple[float, float, float]
JAW = (0.0, -0.035, 0.648)
CHIN = (0.0, -0.125, 0.590)
HEAD = (0.0, -0.03, 0.62)
TOP = (0.0, -0.03, 0.78)
EYE = (0.0289, -0.1115, 0.6795)
TONGUE = (
    (0.0, -0.0607, 0.6150),
    (0.0, -0.0850, 0.6200),
    (0.0, -0.1050, 0.6190),
    (0.0, -0.1240, 0.6140),
)
LIPS: dict[str, Point] = {
    "top": (0.0, -0.1420, 0.6235),
    "bot": (0.0, -0.1420, 0.6140),
    "top1": (0.0100, -0.1385, 0.6235),
    "bot1": (0.0100, -0.1385, 0.6150),
    "top2": (0.0160, -0.1345, 0.6210),
    "bot2": (0.0160, -0.1340, 0.6155),
    "corner": (0.0210, -0.1300, 0.6170),
}
"""Where bones of the lips sit, of the left half."""


@dataclass(frozen=True)
class Bone:
    """One bone of a rig."""

    name: str
    role: str
    """What it moves: "head", "jaw", "top", "bot", "corner", "lidT", "lidB", "eye", "brow",
    "tongue0" …, "teethT", "teethB"; "" moves nothing by itself."""
    head: Point
    tail: Point
    parent: str = ""
    side: str = ""
    radius: float = 0.011
    copies: str = ""
    """A bone that this one copies, as deform bones follow their controls."""
    tracks: str = ""
    """A bone that this one looks at."""


@dataclass(frozen=True)
class Rig:
    """A rig of one maker."""

    bones: tuple[Bone, ...]
    scale: float = 1.0
    """Size of the armature's own unit in the world; 0.01 as FBX brings it."""
    lying: bool = False
    """Turned by 90°, as FBX brings it."""
    along: str = ""
    """Axis that all bones point along ("X", "Z"), as game engines have it; "" along the anatomy."""
    mode: str = "QUATERNION"


def _mirror(bones: Sequence[Bone], left: str, right: str) -> list[Bone]:
    """Return bones with those of the right half added."""
    found = list(bones)
    sided = {bone.name for bone in bones if bone.side == "L"}

    def other(name: str) -> str:
        return name.replace(left, right, 1) if name in sided else name

    for bone in bones:
        if bone.side != "L":
            continue

        found.append(
            Bone(
                other(bone.name), bone.role, _flip(bone.head), _flip(bone.tail),
                other(bone.parent), "R", bone.radius, other(bone.copies), other(bone.tracks),
            )
        )  # fmt: skip
    return found


def _flip(point: Point) -> Point:
    return -point[0], point[1], point[2]


def _out(point: Point, length: float = 0.012) -> Point:
    """Return a point before another: where a small bone ends."""
    return point[0], point[1] - length, point[2]


def _lip(name: str, place: str, parent: str, side: str = "", radius: float = 0.011) -> Bone:
    return Bone(name, place[:3] if place != "corner" else place, LIPS[place], _out(LIPS[place]),
                parent, side, radius)  # fmt: skip


def _lid(name: str, role: str, parent: str) -> Bone:
    """Return a lid's bone: from the middle of the eye to its margin, so that it turns about it."""
    up = 0.006 if role == "lidT" else -0.006
    return Bone(name, role, EYE, (EYE[0], EYE[1] - 0.02, EYE[2] + up), parent, "L")


def _chain(names: Sequence[str], parent: str) -> list[Bone]:
    ends = np.array(TONGUE)
    along = np.linspace(0, len(ends) - 1, len(names) + 1)
    points = [tuple(np.array([np.interp(a, range(len(ends)), ends[:, k]) for k in range(3)]))
              for a in along]  # fmt: skip
    return [
        Bone(name, f"tongue{k}", points[k], points[k + 1], names[k - 1] if k else parent)
        for k, name in enumerate(names)
    ]


def _head(name: str, jaw: str) -> list[Bone]:
    return [Bone(name, "head", HEAD, TOP), Bone(jaw, "jaw", JAW, CHIN, name)]


def _auto_rig_pro() -> Rig:
    bones = _head("c_head.x", "c_jawbone.x")
    bones[1] = Bone("c_jawbone.x", "", JAW, CHIN, "c_head.x")
    bones += [Bone("jawbone.x", "jaw", JAW, CHIN, "c_head.x", copies="c_jawbone.x")]
    bones += _mirror(
        [
            _lip("c_lips_top.x", "top", "c_head.x"),
            _lip("c_lips_bot.x", "bot", "jawbone.x"),
            _lip("c_lips_top.l", "top1", "c_head.x", "L"),
            _lip("c_lips_bot.l", "bot1", "jawbone.x", "L"),
            _lip("c_lips_top_01.l", "top2", "c_head.x", "L", 0.008),
            _lip("c_lips_bot_01.l", "bot2", "jawbone.x", "L", 0.008),
            _lip("c_lips_smile.l", "corner", "c_head.x", "L"),
            _lid("c_eyelid_top.l", "lidT", "c_head.x"),
            _lid("c_eyelid_bot.l", "lidB", "c_head.x"),
            Bone("c_eye.l", "eye", EYE, _out(EYE, 0.03), "c_head.x", "L"),
            Bone("c_eyebrow_full.l", "brow", (0.03, -0.135, 0.7), (0.03, -0.15, 0.7),
                 "c_head.x", "L", 0.02),
        ], ".l", ".r",
    )  # fmt: skip
    bones += [Bone("c_teeth_bot_master.x", "teethB", (0, -0.11, 0.61), (0, -0.125, 0.61),
                   "jawbone.x")]  # fmt: skip
    bones += _chain(["c_tong_01.x", "c_tong_02.x", "c_tong_03.x"], "jawbone.x")
    return Rig(tuple(bones), mode="XYZ")


def _game(jaw: str, head: str, left: str, right: str, **turned: Any) -> Rig:
    eye = Bone(left, "eye", EYE, _out(EYE, 0.03), head, "L")
    return Rig((*_head(head, jaw), *_mirror([eye], left, right)), **turned)


def _mhx() -> Rig:
    bones = _head("head", "lowerJaw")
    bones += _mirror(
        [
            _lip("LipUpperMiddle", "top", "head"),
            _lip("LipLowerMiddle", "bot", "lowerJaw"),
            _lip("LipUpperInner.L", "top1", "head", "L"),
            _lip("LipLowerInner.L", "bot1", "lowerJaw", "L"),
            _lip("LipUpperOuter.L", "top2", "head", "L", 0.008),
            _lip("LipLowerOuter.L", "bot2", "lowerJaw", "L", 0.008),
            _lip("LipCorner.L", "corner", "head", "L"),
            _lid("EyelidUpper.L", "lidT", "head"),
            _lid("EyelidLower.L", "lidB", "head"),
            Bone("eye.L", "eye", EYE, _out(EYE, 0.03), "head", "L"),
        ], ".L", ".R",
    )  # fmt: skip
    bones += _chain(["tongue_base", "tongue_mid", "tongue_tip"], "lowerJaw")
    return Rig(tuple(bones), mode="XYZ")


def _metahuman() -> Rig:
    root = "FACIAL_C_FacialRoot"
    bones = [Bone("head", "", HEAD, TOP), Bone(root, "head", HEAD, TOP, "head"),
             Bone("FACIAL_C_Jaw", "jaw", JAW, CHIN, root)]  # fmt: skip
    low = "FACIAL_C_LipLowerRotation"
    bones += [Bone(low, "", JAW, CHIN, "FACIAL_C_Jaw")]
    bones += _mirror(
        [
            _lip("FACIAL_C_LipUpper", "top", root),
            _lip("FACIAL_C_LipLower", "bot", low),
            _lip("FACIAL_L_LipUpper", "top1", root, "L"),
            _lip("FACIAL_L_LipLower", "bot1", low, "L"),
            _lip("FACIAL_L_LipUpperOuter", "top2", root, "L", 0.008),
            _lip("FACIAL_L_LipLowerOuter", "bot2", low, "L", 0.008),
            _lip("FACIAL_L_LipCorner", "corner", root, "L"),
            _lid("FACIAL_L_EyelidUpperA", "lidT", root),
            _lid("FACIAL_L_EyelidLowerA", "lidB", root),
            Bone("FACIAL_L_Eye", "eye", EYE, _out(EYE, 0.03), root, "L"),
        ], "_L_", "_R_",
    )  # fmt: skip
    bones += [Bone("FACIAL_C_TeethLower", "teethB", (0, -0.11, 0.61), (0, -0.125, 0.61),
                   "FACIAL_C_Jaw")]  # fmt: skip
    bones += _chain([f"FACIAL_C_Tongue{k}" for k in range(1, 5)], "FACIAL_C_Jaw")
    return Rig(tuple(bones), scale=0.01, along="X")


def _rocketbox() -> Rig:
    bones = _head("Bip01 Head", "Bip01 MJaw")
    bones += _mirror(
        [
            _lip("Bip01 MUpperLip", "top", "Bip01 Head", radius=0.014),
            _lip("Bip01 MBottomLip", "bot", "Bip01 MJaw", radius=0.014),
            _lip("Bip01 LMouthCorner", "corner", "Bip01 Head", "L"),
            _lid("Bip01 LEyeBlinkTop", "lidT", "Bip01 Head"),
            _lid("Bip01 LEyeBlinkBottom", "lidB", "Bip01 Head"),
            Bone("Bip01 LEye", "eye", EYE, _out(EYE, 0.03), "Bip01 Head", "L"),
        ], "Bip01 L", "Bip01 R",
    )  # fmt: skip
    bones += _chain(["Bip01 MTongue"], "Bip01 MJaw")
    return Rig(tuple(bones), scale=0.01, lying=True, along="X")


def _cloudrig() -> Rig:
    target = (0.0, -0.5, 0.68)
    bones = [Bone("Head", "head", HEAD, TOP), Bone("MSTR-Jaw", "", JAW, CHIN, "Head"),
             Bone("DEF-Jaw", "jaw", JAW, CHIN, "MSTR-Jaw"),
             Bone("TGT-Eyes", "", target, _out(target), "Head")]  # fmt: skip
    bones += _mirror(
        [
            _lip("MSTR-UpperLip", "top", "Head"),
            _lip("MSTR-LowerLip", "bot", "MSTR-Jaw"),
            _lip("CTR-Lip_Upper.L", "top1", "Head", "L"),
            _lip("CTR-Lip_Lower.L", "bot1", "MSTR-Jaw", "L"),
            _lip("ACT-Lips_Corner.L", "corner", "Head", "L"),
            _lid("ACT-Eyelid_Upper.L", "lidT", "Head"),
            _lid("ACT-Eyelid_Lower.L", "lidB", "Head"),
            Bone("DEF-Eye.L", "eye", EYE, _out(EYE, 0.03), "Head", "L", tracks="TGT-Eyes"),
            Bone("MSTR-Eyebrow.L", "brow", (0.03, -0.135, 0.7), (0.03, -0.15, 0.7),
                 "Head", "L", 0.02),
        ], ".L", ".R",
    )  # fmt: skip
    bones += _chain(["MSTR-Tongue1", "MSTR-Tongue2", "MSTR-Tongue3"], "MSTR-Jaw")
    return Rig(tuple(bones), mode="XYZ")


def _daz() -> Rig:
    bones = _head("head", "lowerJaw")
    bones += _mirror(
        [
            _lip("LipUpperMiddle", "top", "head"),
            _lip("LipLowerMiddle", "bot", "lowerJaw"),
            _lip("lLipUpperInner", "top1", "head", "L"),
            _lip("lLipLowerInner", "bot1", "lowerJaw", "L"),
            _lip("lLipUpperOuter", "top2", "head", "L", 0.008),
            _lip("lLipLowerOuter", "bot2", "lowerJaw", "L", 0.008),
            _lip("lLipCorner", "corner", "head", "L"),
            _lid("lEyelidUpper", "lidT", "head"),
            _lid("lEyelidLower", "lidB", "head"),
            Bone("lEye", "eye", EYE, _out(EYE, 0.03), "head", "L"),
        ], "l", "r",
    )  # fmt: skip
    bones += _chain(["tongue01", "tongue02", "tongue03", "tongue04"], "lowerJaw")
    return Rig(tuple(bones), scale=0.01, mode="YZX")


def _nameless() -> Rig:
    """Return bones that say nothing of what they are."""
    bones = _head("Bone.004", "Bone.005")
    bones += _mirror(
        [
            _lip("Bone.006", "top", "Bone.004"),
            _lip("Bone.007", "bot", "Bone.005"),
            _lip("Bone.L.008", "corner", "Bone.004", "L"),
        ], ".L.", ".R.",
    )  # fmt: skip
    return Rig(tuple(bones), along="Z")


def _moved_jaw() -> Rig:
    """Return Auto-Rig Pro's jaw as it is: the deforming bone looks at a control that is moved."""
    rig = _auto_rig_pro()
    jaw = [
        Bone("c_jawbone.x", "", CHIN, _out(CHIN), "c_head.x"),
        Bone("jawbone.x", "jaw", JAW, CHIN, "c_head.x", tracks="c_jawbone.x"),
    ]
    others = [bone for bone in rig.bones[1:] if "jawbone" not in bone.name]
    return Rig((rig.bones[0], *jaw, *others), mode="XYZ")


def _unity_face() -> Rig:
    """Return a game's face with lids of one bone each, in centimetres, lying."""
    bones = _head("Head", "Jaw")
    bones += _mirror(
        [
            _lip("Lip_Upper_M", "top", "Head", radius=0.014),
            _lip("Lip_Lower_M", "bot", "Jaw", radius=0.014),
            _lip("Mouth_Corner_L", "corner", "Head", "L"),
            _lid("Eyelid_Upper_L", "lidT", "Head"),
            Bone("Eye_L", "eye", EYE, _out(EYE, 0.03), "Head", "L"),
            Bone("Brow_L", "brow", (0.03, -0.135, 0.7), (0.03, -0.15, 0.7), "Head", "L", 0.02),
        ], "_L", "_R",
    )  # fmt: skip
    bones += _chain(["Tongue_01", "Tongue_02"], "Jaw")
    return Rig(tuple(bones), scale=0.01, lying=True, along="Z")


def _deforming_only() -> Rig:
    """Return what is left of a Rigify rig in a game: its deforming bones alone."""
    bones = _head("DEF-spine.006", "DEF-jaw")
    bones += _mirror(
        [
            _lip("DEF-lip.T.L", "top1", "DEF-spine.006", "L", 0.014),
            _lip("DEF-lip.B.L", "bot1", "DEF-jaw", "L", 0.014),
            _lip("DEF-lip.T.L.001", "top2", "DEF-spine.006", "L"),
            _lip("DEF-lip.B.L.001", "bot2", "DEF-jaw", "L"),
            _lid("DEF-lid.T.L", "lidT", "DEF-spine.006"),
            _lid("DEF-lid.B.L", "lidB", "DEF-spine.006"),
            Bone("DEF-eye.L", "eye", EYE, _out(EYE, 0.03), "DEF-spine.006", "L"),
        ], ".L", ".R",
    )  # fmt: skip
    bones += _chain(["DEF-tongue", "DEF-tongue.001", "DEF-tongue.002"], "DEF-jaw")
    return Rig(tuple(bones))


def _source() -> Rig:
    bones = _head("ValveBiped.Bip01_Head1", "jaw_C")
    bones += _mirror(
        [
            _lip("lip_upper_C", "top", "ValveBiped.Bip01_Head1", radius=0.014),
            _lip("lip_lower_C", "bot", "jaw_C", radius=0.014),
            _lip("lip_corner_L", "corner", "ValveBiped.Bip01_Head1", "L"),
            _lid("eyelid_upper_L", "lidT", "ValveBiped.Bip01_Head1"),
            _lid("eyelid_lower_L", "lidB", "ValveBiped.Bip01_Head1"),
            Bone("eyeball_L", "eye", EYE, _out(EYE, 0.03), "ValveBiped.Bip01_Head1", "L"),
        ], "_L", "_R",
    )  # fmt: skip
    bones += _chain(["tongue_a", "tongue_b"], "jaw_C")
    return Rig(tuple(bones), scale=0.0254, along="X", mode="YZX")


RIGS: dict[str, Callable[[], Rig]] = {
    "Auto-Rig Pro": _auto_rig_pro,
    "Unity humanoid": lambda: _game("Jaw", "Head", "LeftEye", "RightEye", along="Z"),
    "Mixamo with a jaw": lambda: _game(
        "mixamorig:Jaw", "mixamorig:Head", "mixamorig:LeftEye", "mixamorig:RightEye",
        scale=0.01, lying=True,
    ),
    "MHX": _mhx,
    "MetaHuman": _metahuman,
    "Rocketbox": _rocketbox,
    "CloudRig": _cloudrig,
    "Daz Genesis": _daz,
    "Auto-Rig Pro, jaw moved": _moved_jaw,
    "Unity face": _unity_face,
    "Rigify in a game": _deforming_only,
    "Source": _source,
    "Nameless bones": _nameless,
}  # fmt: skip


# -- the head ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Skin:
    """A head whose shapes are the truth."""

    parts: tuple[Part, ...]
    face: Face

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    @property
    def body(self) -> Part:
        return self.part("Head")

    def share(self, shape: str) -> Any:
        """Return how much of a shape each vertex of the skin takes part in (V,), 0 to 1."""
        size = np.linalg.norm(self.body.keys[shape], axis=1)
        return np.clip(size / np.percentile(size[size > 0.05 * size.max()], 90), 0.0, 1.0)


def weights(skin: Skin, rig: Rig) -> dict[str, dict[str, Any]]:
    """Return mesh → bone → weights (V,)."""
    roles: dict[str, list[Bone]] = {}
    for bone in rig.bones:
        roles.setdefault(bone.role, []).append(bone)
    body, jaw = skin.body.rest, skin.share("jawOpen")
    raw: dict[str, Any] = {}
    for bone in (b for role in ("top", "bot", "corner", "brow") for b in roles.get(role, ())):
        near = np.exp(-(((body - bone.head) ** 2).sum(1)) / bone.radius**2)
        near[near < 0.02] = 0.0
        own = {"top": 1 - jaw, "bot": jaw}.get(bone.role, np.ones(len(body)))
        raw[bone.name] = near * own
    for bone in (b for role in ("lidT", "lidB") for b in roles.get(role, ())):
        blink = "eyeBlink" + {"L": "Left", "R": "Right"}[bone.side]
        sinks = -skin.body.keys[blink][:, 2]
        moved = np.clip(sinks if bone.role == "lidT" else -sinks, 0, None)
        raw[bone.name] = np.clip(moved / max(np.percentile(moved[moved > 1e-5], 95), 1e-9), 0, 1)
    total = sum(raw.values(), np.zeros(len(body)))
    raw = {name: w / np.maximum(total, 1.0) for name, w in raw.items()}
    left = 1 - np.minimum(total, 1.0)
    head, jaws = roles["head"][0].name, roles["jaw"][0].name
    raw[jaws], raw[head] = jaw * left, (1 - jaw) * left
    found = {"Head": raw}
    lashes = skin.part("Lashes").rest
    near = ((lashes[:, None] - body[None]) ** 2).sum(2).argmin(1)
    found["Lashes"] = {name: w[near] for name, w in raw.items()}
    eyes = skin.part("Eyes").rest
    found["Eyes"] = {
        bone.name: ((eyes[:, 0] > 0) == (bone.side == "L")).astype(float)
        for bone in roles.get("eye", ())
    } or {head: np.ones(len(eyes))}
    for name, role, other in (("TeethUpper", "teethT", head), ("TeethLower", "teethB", jaws)):
        bone = next(iter(roles.get(role, ())), None)
        found[name] = {bone.name if bone else other: np.ones(len(skin.part(name).rest))}
    found["Tongue"] = _tongue(skin, [b for r, bs in roles.items() for b in bs if r[:6] == "tongue"],
                              jaws)  # fmt: skip
    return found


def _tongue(skin: Skin, bones: list[Bone], jaw: str) -> dict[str, Any]:
    points = skin.part("Tongue").rest
    if not bones:
        return {jaw: np.ones(len(points))}
    middles = np.array([(np.array(b.head) + b.tail)[1] / 2 for b in bones])
    raw = {}
    for k, bone in enumerate(bones):
        hat = np.zeros(len(bones))
        hat[k] = 1.0
        raw[bone.name] = np.interp(-points[:, 1], -middles, hat)
    return raw


def build(skin: Skin, rig: Rig) -> Any:
    """Add the head without shapes and an armature that moves it; return the armature."""
    obj = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.scene.collection.objects.link(obj)
    turn = Matrix.Rotation(np.pi / 2, 4, "X") if rig.lying else Matrix.Identity(4)
    obj.matrix_world = turn @ Matrix.Scale(rig.scale, 4)
    _add_bones(obj, rig)
    dress(skin, obj, weights(skin, rig))
    return obj


def dress(skin: Skin, obj: Any, table: dict[str, dict[str, Any]]) -> None:
    """Add the head's meshes without shapes, moved by an armature by mesh → bone → weights (V,)."""
    for part in skin.parts:
        mesh = bpy.data.meshes.new(part.name)
        mesh.from_pydata(part.rest.tolist(), [], np.asarray(part.triangles).tolist())
        one = bpy.data.objects.new(part.name, mesh)
        bpy.context.scene.collection.objects.link(one)
        for name, values in table[part.name].items():
            group = one.vertex_groups.new(name=name)
            for vertex in np.flatnonzero(values > 1e-4):
                group.add([int(vertex)], float(values[vertex]), "REPLACE")
        one.modifiers.new("Armature", "ARMATURE").object = obj
        one.parent = obj
        one.matrix_parent_inverse = obj.matrix_world.inverted()
    bpy.context.view_layer.objects.active = obj
    bpy.context.view_layer.update()


def _add_bones(obj: Any, rig: Rig) -> None:
    bpy.context.view_layer.objects.active = obj
    bpy.context.view_layer.update()
    bpy.ops.object.mode_set(mode="EDIT")
    inverse = obj.matrix_world.inverted()
    for bone in rig.bones:
        new = obj.data.edit_bones.new(bone.name)
        head, tail = Vector(bone.head), Vector(bone.tail)
        if rig.along:
            tail = head + (tail - head).length * Vector([rig.along == axis for axis in "XYZ"])
        new.head, new.tail = inverse @ head, inverse @ tail
        new.parent = obj.data.edit_bones.get(bone.parent)
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone in rig.bones:
        posed = obj.pose.bones[bone.name]
        posed.rotation_mode = rig.mode
        posed.bone.use_deform = bool(bone.role)
        if bone.copies:
            held = posed.constraints.new("COPY_TRANSFORMS")
            held.target, held.subtarget = obj, bone.copies
        if bone.tracks:
            held = posed.constraints.new("DAMPED_TRACK")
            held.target, held.subtarget, held.track_axis = obj, bone.tracks, "TRACK_Y"


# -- speaking ---------------------------------------------------------------------------------


def speak(
    speaker: Any, controls: Any, names: tuple[str, ...], tolerance: float = 0.0
) -> dict[str, Any]:
    """Put a line on a character and return how each of its meshes moves (F, V, 3), as shown.

    tolerance: millimetres that few keys may be off by; 0 puts one on every frame.
    """
    meshes = [o for o in bpy.data.objects if o.type == "MESH" and not o.name.startswith("WGT")]
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 30, 1.0
    scene.frame_set(-100)
    rest = {obj.name: mapped.evaluated(obj) for obj in meshes}
    values = np.asarray(controls, np.float32)
    empty = np.zeros((len(names), 0, 3), np.float32)
    motion = Motion(values, empty, names, 30.0, controls=values, control_names=names)
    clips.apply_motion(speaker, motion, clip="line", start_frame=1.0, tolerance=tolerance)
    moved: dict[str, list[Any]] = {name: [] for name in rest}
    for frame in range(len(values)):
        scene.frame_set(frame + 1)
        for obj in meshes:
            moved[obj.name].append(mapped.evaluated(obj) - rest[obj.name])
    return {name: np.array(rows) for name, rows in moved.items()}


def scored(
    speaker: Any, reference: tuple[Skin, Any, tuple[str, ...], Any], tolerance: float = 0.0
) -> tuple[dict[str, Any], Any]:
    """Let a character say the reference's line; return how its meshes move, and the score."""
    skin, controls, names, truth = reference
    moved = speak(speaker, controls, names, tolerance)
    sealed = controls[:, names.index("mouthClose")] > 0.98
    return moved, scoring.score(skin.face, truth, moved["Head"], sealed)


def load(frames: int = 120) -> tuple[Skin, Any, tuple[str, ...], Any]:
    """Return the reference head, controls, their names, and the truth's motion (F, V, 3).

    Leaves an empty scene.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(shared("characters/mpfb-head/mpfb-arkit-oculus.glb")))
    bpy.context.view_layer.update()
    parts = detect.read_parts([obj for obj in bpy.data.objects if obj.type == "MESH"])
    arkit = {"controls": {n: [n] for p in parts for n in p.keys if not n.startswith("viseme")}}
    whole = scoring.renamed(parts, arkit)
    found = propose(whole)
    assert found is not None and found.face is not None
    controls, names = scoring.speech(frames)
    truth = scoring.play(whole, found.face.part.name, found.mapping, controls, names)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return Skin(tuple(parts), found.face), controls, names, truth


def pose(speaker: Any, **controls: float) -> None:
    """Let a fitted character stand as controls say, the others at nought."""
    mapping = detect.read_mapping(speaker)
    assert mapping is not None
    names = tuple({*mapping.controls(), *controls})
    values = np.array([[controls.get(name, 0.0) for name in names]])
    for channel, shown in channels.curves_of(mapping.evaluate(values, names), mapping.bases):
        channels.set_value(channel, float(shown[0]))
    for obj in bpy.data.objects:
        obj.update_tag()
    bpy.context.view_layer.update()


def turned(before: Any, after: Any) -> Any:
    """Return the rotation vector (3,) in degrees that turns points (V, 3) as one."""
    first, last = before - before.mean(0), after - after.mean(0)
    left, _, right = np.linalg.svd(first.T @ last)
    turn = right.T @ np.diag([1, 1, np.sign(np.linalg.det(right.T @ left.T))]) @ left.T
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return axis / max(np.linalg.norm(axis), 1e-12) * angle


# -- shapes and a jaw's bone together -----------------------------------------------------------

CONTROLS = {
    "jawOpen": "Jaw_Open", "mouthClose": "Mouth_Close", "mouthPucker": "Mouth_Pucker",
    "mouthFunnel": "Mouth_Funnel", "mouthSmileLeft": "Mouth_Smile_L",
    "mouthSmileRight": "Mouth_Smile_R", "mouthStretchLeft": "Mouth_Stretch_L",
    "mouthStretchRight": "Mouth_Stretch_R", "mouthLowerDownLeft": "Mouth_Down_Lower_L",
    "mouthLowerDownRight": "Mouth_Down_Lower_R", "mouthUpperUpLeft": "Mouth_Up_Upper_L",
    "mouthUpperUpRight": "Mouth_Up_Upper_R", "mouthRollLower": "Mouth_Roll_In_Lower",
}  # fmt: skip
VISEMES = {
    "viseme_aa": "V_Open", "viseme_PP": "V_Explosive", "viseme_FF": "V_Dental_Lip",
    "viseme_O": "V_Tight_O", "viseme_E": "V_Wide", "viseme_U": "V_Tight",
    "viseme_CH": "V_Affricate",
}  # fmt: skip


def character_creator(
    skin: Skin, shapes: dict[str, str], *, share: float = 1.0, skinned: bool = False
) -> Any:
    """Add the head as Character Creator has it: shapes move the skin, a bone teeth and tongue.

    share: how much of their opening the shapes have; skinned: the bone moves the skin as well.
    """
    bones = _head("CC_Base_Head", "CC_Base_JawRoot")
    obj = build(skin, Rig(tuple(bones), scale=0.01, lying=True))
    body = bpy.data.objects["Head"]
    if not skinned:
        body.vertex_groups.clear()
        group = body.vertex_groups.new(name="CC_Base_Head")
        group.add(list(range(len(body.data.vertices))), 1.0, "REPLACE")
    body.shape_key_add(name="Basis", from_mix=False)
    for ours, theirs in shapes.items():
        opens = ours in ("jawOpen", "mouthClose") or ours.startswith("viseme")
        offsets = skin.body.keys[ours] * (share if opens else 1.0)
        block = body.shape_key_add(name=theirs, from_mix=False)
        block.value = 0.0
        block.points.foreach_set("co", (skin.body.rest + offsets).astype(np.float32).ravel())
    return obj

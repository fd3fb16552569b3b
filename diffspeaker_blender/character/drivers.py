# SPDX-License-Identifier: GPL-3.0-or-later
"""Correctives that follow the keyed shape keys by drivers, so that they never disagree with them.

The expressions are of the kind that Blender works out itself: they run where Python drivers are not
allowed, in linked files and at render time. A driver of the user's is never replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..motion import formulas
from ..motion.motion import Motion

REACH = 10.0
"""Slider range of a driven key, which nobody drags: Blender clamps what a driver says to it."""


def put(key: Any, names: list[str], motion: Motion) -> int:
    """Drive every corrective of a motion by its formula; return how many drivers are ours.

    names: the shape keys that the motion's shapes have on this head, in order.
    """
    keys = dict(zip(motion.names, names, strict=True))
    count = 0
    for name, formula in zip(motion.names, motion.formulas, strict=False):
        if formula:
            count += drive(key, keys[name], formula, keys)
    return count


def drive(key: Any, name: str, formula: str, keys: dict[str, str]) -> bool:
    """Let a shape key follow a formula; return whether it does.

    keys: shape key of each name in the formula. A key that the user drives stays theirs.
    """
    block = key.key_blocks[name]
    block.slider_min, block.slider_max = -REACH, REACH
    found = _driver_of(key, name)
    words = formulas.words(formula)
    if found is not None:
        return _says(found.driver, key, formula, [keys[word] for word in words])
    curve = block.driver_add("value")
    for modifier in list(curve.modifiers):  # Blender 4 adds one that changes nothing
        curve.modifiers.remove(modifier)
    driver = curve.driver
    driver.type = "SCRIPTED"
    for word in words:
        variable = driver.variables.new()
        variable.name, variable.type = word, "SINGLE_PROP"
        target = variable.targets[0]
        target.id_type, target.id = "KEY", key
        target.data_path = path_of(keys[word])
    driver.expression = formula
    return True


def drives(key: Any, name: str) -> bool:
    """Return whether a driver sets a shape key's value."""
    return _driver_of(key, name) is not None


def is_ours(key: Any, driver: Any) -> bool:
    """Return whether a driver is a formula over shape keys of its own datablock."""
    if driver.type != "SCRIPTED" or not driver.variables:
        return False
    if any(variable.targets[0].id != key for variable in driver.variables):
        return False
    try:
        known = {variable.name for variable in driver.variables}
        return known.issuperset(formulas.words(driver.expression))
    except ValueError:
        return False


def shown(
    key: Any, driver: Any, values: Mapping[str, Any], frames: int
) -> NDArray[np.float32] | None:
    """Return what a driver of ours says (F,) while other shape keys have values (F,).

    None where it is none of ours, or reads a shape key without values, such as a driven one.
    """
    if not is_ours(key, driver):
        return None
    columns = {}
    for variable in driver.variables:
        name = key_in(variable.targets[0].data_path)
        if name not in values or drives(key, name):
            return None
        columns[variable.name] = values[name]
    said = formulas.evaluate(driver.expression, columns)
    return np.asarray(np.broadcast_to(said, frames), np.float32)


def release(key: Any, name: str) -> None:
    """Take a driver away from a shape key."""
    if drives(key, name):
        key.driver_remove(path_of(name))


def _driver_of(key: Any, name: str) -> Any | None:
    data = key.animation_data
    return data.drivers.find(path_of(name)) if data is not None else None


def _says(driver: Any, key: Any, formula: str, keys: list[str]) -> bool:
    """Return whether a driver is the formula over these shape keys; mend one of ours that was."""
    if not is_ours(key, driver):
        return False
    if driver.expression != formula:
        return False
    for variable, name in zip(driver.variables, keys, strict=False):
        variable.targets[0].data_path = path_of(name)
    return True


def path_of(name: str) -> str:
    """Return the data path of a shape key's value."""
    return f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'


def key_in(path: str) -> str:
    """Return the shape key that a data path names, "" for none."""
    _, _, rest = path.rpartition('key_blocks["')
    name, end, _ = rest.rpartition('"]') if rest != path else ("", "", "")
    return bpy.utils.unescape_identifier(name) if end else ""

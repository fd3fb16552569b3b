# SPDX-License-Identifier: GPL-3.0-or-later
"""The rigs that come with the extension are what deriving gives today."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from model.recipes.head.rigs import poses
from model.rig import derivation, head_files


@pytest.mark.parametrize("pose", [0, 1], ids=["as stored", "as Blender stands it up"])
def test_a_shipped_rig_is_the_derived_one(pose):
    """Fails when a derivation changed: run ``python build.py model rigs`` again."""
    face = head_files.read("demo")
    vertices = poses(face.vertices)[pose]
    path = derivation.cache_file(derivation.SHIPPED, vertices, face.triangles)
    assert path.is_file()
    shipped, derived = derivation._load(path), derivation.derive(vertices, face.triangles)
    for name, value in _flat(asdict(derived)).items():
        found = _flat(asdict(shipped))[name]
        if np.asarray(value).dtype.kind in "fc":
            np.testing.assert_allclose(found, value, atol=2e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found, value, err_msg=name)


def _flat(values, prefix=""):
    """Return nested fields by their path."""
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, tuple) and values and isinstance(values[0], dict):
        items = enumerate(values)
    else:
        return {prefix: values}
    return {
        key: entry
        for name, value in items
        for key, entry in _flat(value, f"{prefix}/{name}").items()
    }

# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that the user set on curves of ours where no line speaks: no writing takes them away.

`note` finds them before anything is written; what is free afterwards is put back. A key that lies
on the frames of a line by then stays in the index, and comes back when the line goes.

Legend: `n` keys, each a row of 10 numbers: `actions.COLUMNS` side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import actions
from .storage import Clip, Index

Rows = NDArray[np.float64]
Place = tuple[float, float, float]
"""First and last frame of a line, and the frames over which it eases from rest and to it."""

WIDTH = sum(width for _, width in actions.COLUMNS)
_NEAR = 1e-2
_REST = 1e-3


def places(clips: Iterable[Clip]) -> list[Place]:
    """Return where lines are written now."""
    return [(c.span[0], c.span[1], c.ease) for c in clips if c.keys and not c.covered]


def note(
    index: Index,
    curves: Mapping[str, Any],
    lines: list[Place],
    rests: Mapping[str, float] | None = None,
) -> None:
    """Add to the index every key of curves, by name, that lies on no line and is not ours.

    rests: what a curve is at rest, where that is not 0: our own keys around a line are there.
    """
    for name, curve in curves.items():
        rows = read(curve)
        ours = _ours(rows, lines, (rests or {}).get(name, 0.0))
        if ours.all():
            continue
        kept = joined(np.array(index.kept.get(name, ())).reshape(-1, WIDTH), rows[~ours])
        index.kept[name] = np.round(kept, 6).tolist()


def free(index: Index, lines: list[Place]) -> dict[str, Rows]:
    """Take from the index the keys (n, 10), by name, that lie on no line any more."""
    found = {}
    for name, stored in list(index.kept.items()):
        rows = np.array(stored).reshape(-1, WIDTH)
        under = _under(rows[:, 0], lines)
        if not under.all():
            found[name] = rows[~under]
        index.kept[name] = rows[under].tolist()
        if not under.any():
            del index.kept[name]
    return found


def read(curve: Any) -> Rows:
    """Return all keys of a curve (n, 10)."""
    return np.concatenate(
        [actions.read_column(curve, column, width) for column, width in actions.COLUMNS], 1
    ).astype(np.float64)


def columns(rows: Rows) -> dict[str, NDArray[Any]]:
    """Return keys (n, 10) as Blender's columns."""
    found, place = {}, 0
    for column, width in actions.COLUMNS:
        part = rows[:, place : place + width]
        found[column] = part.astype(np.float32 if width == 2 else np.int32)
        place += width
    return found


def joined(first: Rows, second: Rows) -> Rows:
    """Return keys (n, 10) of both in order; where two share a frame, the second's stays."""
    near = np.abs(first[:, :1] - second[None, :, 0]) < _NEAR
    rows = np.concatenate([first[~near.any(1)], second])
    return np.asarray(rows[np.argsort(rows[:, 0], kind="stable")])


def put(curve: Any, rows: Rows) -> None:
    """Put keys (n, 10) into a curve, beside those that it has."""
    actions.fill(curve, columns(joined(read(curve), rows)))


def frames_in_words(index: Index, before: Mapping[str, Any]) -> str:
    """Return "jawOpen and 2 more, frames 100 to 130" of what lies under lines since, or ""."""
    fresh = [name for name in index.kept if name not in before]
    if not fresh:
        return ""
    frames = [row[0] for name in fresh for row in index.kept[name]]
    names = list(dict.fromkeys(map(actions.plain_name, fresh)))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}, frames {min(frames):.0f} to {max(frames):.0f}"


def _under(frames: Rows, lines: list[Place]) -> NDArray[np.bool_]:
    """Return which frames (n,) lie on a line."""
    found = np.zeros(len(frames), bool)
    for first, last, _ in lines:
        found |= (frames >= first - _NEAR) & (frames <= last + _NEAR)
    return found


def _ours(rows: Rows, lines: list[Place], rest: float) -> NDArray[np.bool_]:
    """Return which keys (n,) we wrote: on a line, or at rest in its ease."""
    around = _under(rows[:, 0], [(first - e, last + e, e) for first, last, e in lines])
    return _under(rows[:, 0], lines) | (around & (np.abs(rows[:, 1] - rest) < _REST))

# SPDX-License-Identifier: GPL-3.0-or-later
"""What shape keys, properties and bones are called: conventions, and names made comparable.

A name only proposes; whether a key does what its name says is measured in `probe`. Conventions are
data in `conventions/`: for each of our controls or visemes the names it may have, likeliest first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

FOLDER = Path(__file__).with_name("conventions")

VISEMES = (
    "sil",
    "PP",
    "FF",
    "TH",
    "DD",
    "kk",
    "CH",
    "SS",
    "nn",
    "RR",
    "aa",
    "E",
    "ih",
    "oh",
    "ou",
)

_PREFIX = re.compile(
    r"^(?:[A-Za-z0-9 ]+__|[^.]*(?:blend|face|facial|head|mesh|shape)[^.]*\.(?=\w{3})|!ex-|\$?ex-"
    r"|A\d\d_|T\d\d_|AK_\d\d_"
    r"|AA_VI_\d\d_|AU_\d\d_|HB_\d\d_|facs_(?:bs|jnt|ctrl)_|eCTRL|PHM|CTRL_expressions_"
    r"|.*Fcl_(?:MTH_|EYE_|BRW_)|MTH_|vrc\.v_|vrc\.|viseme[_.]|v2/)",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"(?:_div2|_geo(?:_C)?|\.\d\d\d)$", re.IGNORECASE)
_LEFT = re.compile(r"(?:[_. -]?Left|[_. -]L|(?<=[a-z])L|[_.-]l)$")
_RIGHT = re.compile(r"(?:[_. -]?Right|[_. -]R|(?<=[a-z])R|[_.-]r)$")
_DIRECTIONS = {"jaw", "mouth", "lookat", "head", "tongue", "jawsideways"}
"""Stems whose "left" is where they go, no side."""
_SHORTEST = 3
"""Letters a name must keep to be compared loosely; shorter ones must match exactly, in a set."""
_TURNS = re.compile(
    r"^(?:head|eye|left ?eye|right ?eye|neck)[_ ]?(?:yaw|pitch|roll)", re.IGNORECASE
)
"""Head and eye rotations of capture files, which are no shapes: HeadRoll is no rolled lip."""


@dataclass(frozen=True)
class Convention:
    """One way to name a face."""

    id: str
    title: str
    controls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Our control ("eyeBlink*": both sides in one) → names it may have."""
    visemes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bones: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role ("jaw", "lipUpper", "corners", …) → bones."""
    seal: dict[str, str] = field(default_factory=dict)
    """"bone" and "property" of a rig's own lip lock."""


@dataclass(frozen=True)
class Guess:
    """What names propose by one convention."""

    convention: Convention
    controls: dict[str, tuple[str, ...]]
    """Our control → names that are there, the convention's order."""
    visemes: dict[str, tuple[str, ...]]
    exact: int = 0
    """How many names are spelt just as the convention spells them."""

    @property
    def score(self) -> float:
        """Return how well it fits: entries found, and a little for being all of a convention."""
        named = len(self.controls) + len(self.visemes)
        known = len(self.convention.controls) + len(self.convention.visemes)
        return named + 2.0 * named / max(known, 1) + self.exact / 1000.0


@cache
def conventions() -> tuple[Convention, ...]:
    """Return every convention that ships, in the order of their file names."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.json")))


def _read(path: Path) -> Convention:
    data = json.loads(path.read_text(encoding="utf-8"))

    def table(name: str) -> dict[str, tuple[str, ...]]:
        return {key: tuple(names) for key, names in data.get(name, {}).items()}

    seal = {key: str(value) for key, value in data.get("seal", {}).items() if key != "range"}
    return Convention(
        path.stem, data["title"], table("controls"), table("visemes"), table("bones"), seal
    )


@lru_cache(4096)
def normalise(name: str) -> str:
    """Return a name without prefixes, spelling and separators: "A25_Jaw_Open" → "jawopen".

    A side becomes a final "<" (left) or ">" (right); "jawLeft" is a direction and keeps its word.
    Letters of every language stay.
    """
    bare = _SUFFIX.sub("", name.strip())
    for _ in range(3):
        shorter = _PREFIX.sub("", bare, count=1)
        if shorter == bare or not shorter:
            break
        bare = shorter
    side = ""
    for mark, pattern in (("<", _LEFT), (">", _RIGHT)):
        found = pattern.search(bare)
        if found and found.start() and _letters(bare[: found.start()]) not in _DIRECTIONS:
            bare, side = bare[: found.start()], mark
            break
    return _letters(bare) + side


def _letters(text: str) -> str:
    return "".join(sign for sign in text.lower() if sign.isalnum())


def guesses(present: Iterable[str]) -> list[Guess]:
    """Return what each convention makes of the names that are there, best first.

    Single letters and other very short names count only where most of their convention is there.
    """
    exact = {name for name in present if not _TURNS.match(name)}
    loose: dict[str, list[str]] = {}
    for name in sorted(exact):
        loose.setdefault(normalise(name), []).append(name)
    found = [_guess(convention, exact, loose) for convention in conventions()]
    return sorted((one for one in found if one.score > 0), key=lambda one: -one.score)


def _guess(convention: Convention, exact: set[str], loose: dict[str, list[str]]) -> Guess:
    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        hits = [name for name in names if name in exact]
        for name in names:
            plain = normalise(name)
            if len(plain.strip("<>")) >= _SHORTEST:
                hits += (hit for hit in loose.get(plain, ()) if hit not in hits)
        if not hits:
            hits = list(_spelt_otherwise(names, exact))
        return tuple(hits)

    controls = {key: hits for key, names in convention.controls.items() if (hits := there(names))}
    visemes = {key: hits for key, names in convention.visemes.items() if (hits := there(names))}
    short = [key for key, hits in visemes.items() if len(_letters(hits[0])) < _SHORTEST]
    if short and len(visemes) < min(0.7 * len(convention.visemes), 5):
        visemes = {key: hits for key, hits in visemes.items() if key not in short}
    if "E" in visemes and set(visemes) == {"E"}:
        visemes = {}
    spelt = sum(
        hits[0] in table[key]
        for found, table in ((controls, convention.controls), (visemes, convention.visemes))
        for key, hits in found.items()
    )
    return Guess(convention, controls, visemes, spelt)


def _spelt_otherwise(names: tuple[str, ...], exact: set[str]) -> list[str]:
    """Return short names that differ in case or a prefix only ("AA" for "aa", "Mouth.A")."""
    wanted = {_bare(name) for name in names} - {""}
    return sorted(name for name in exact if _bare(name) in wanted and len(_letters(name)) > 1)


@lru_cache(4096)
def _bare(name: str) -> str:
    return _letters(_PREFIX.sub("", name))


def bones_of(role: str, present: Iterable[str]) -> list[str]:
    """Return the bones that some convention gives a role, among those present."""
    names = set(present)
    return [
        bone
        for convention in conventions()
        for bone in convention.bones.get(role, ())
        if bone in names
    ]

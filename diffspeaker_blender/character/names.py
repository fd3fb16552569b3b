# SPDX-License-Identifier: GPL-3.0-or-later
"""What shape keys, properties and bones are called: conventions, and names made comparable.

A name only proposes; whether a key does what its name says is measured in `probe`. Conventions are
data in `conventions/`: for each of our controls or visemes the names it may have, likeliest first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
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
    r"^(?:\d{1,3}[_. -]+|[A-Za-z0-9 ]+__"
    r"|[^.]*(?:blend|face|facial|head|mesh|shape)[^.]*\.(?=\w{3})|!ex-|\$?ex-"
    r"|A\d\d_|T\d\d_|AK_\d\d_"
    r"|AA_VI_\d\d_|HB_\d\d_|facs_(?:bs|jnt|ctrl)_|eCTRL|PHM|CTRL_expressions_"
    r"|.*Fcl_(?:MTH_|EYE_|BRW_)|MTH_|vrc\.v_|vrc\.|viseme[_.]|v2/)",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"(?:_div2|_geo(?:_C)?|\.\d\d\d)$", re.IGNORECASE)
_LEFT = re.compile(r"(?:[_. -]?Left|[_. -](?i:left)|[_. -]L|(?<=[a-z])L|[_.-]l)$")
_RIGHT = re.compile(r"(?:[_. -]?Right|[_. -](?i:right)|[_. -]R|(?<=[a-z])R|[_.-]r)$")
_SIDE_FIRST = re.compile(
    r"^(?:(?i:(left|lft|lf|l)|right|rgt|rt|r)[_. -]+(?=\w{3})"
    r"|([Ll]eft|L)(?=[A-Z][a-z])|(?:[Rr]ight|R)(?=[A-Z][a-z]))"
)
_SIDE_WITHIN = re.compile(
    r"(?<=[A-Za-z0-9])(?:[_. -](?:(?i:(left|l)|right|r))(?=[_. -][A-Za-z])|(Left)(?=[A-Z])"
    r"|Right(?=[A-Z]))"
)
_ACTION_UNIT = re.compile(
    r"^(?:FACS[_ .-]?)?AU[_ .-]?0*(\d{1,2})(?!\d)(?:[_ .-]?([LR])(?![a-z])|(.*))", re.IGNORECASE
)
"""FACS: "AU12_L", "au26", "AU_01_InnerBrowRaiser_Right"."""
_DIRECTIONS = {"jaw", "mouth", "lookat", "head", "tongue", "jawsideways"}
"""Stems whose "left" is where they go, no side."""
_CUTS = re.compile(r"[_. :|-]+|(?<=[a-z0-9])(?=[A-Z])")
"""Where a name may be cut: at separators, before a capital."""
_SHARED = 4
"""Names that must have a beginning or an end in common, and become known without it."""
_AFFIXES, _MOST_AFFIXES = 4, 12
"""Beginnings and ends cut off one after the other; those tried each time, the most frequent."""
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
    unit = _ACTION_UNIT.match(bare)
    if unit:
        return f"au{unit[1]}" + (
            _side(unit[3] or "")[1] or {"L": "<", "R": ">"}.get((unit[2] or "").upper(), "")
        )
    stem, side = _side(bare)
    return _letters(stem) + side


def _side(name: str) -> tuple[str, str]:
    """Return a name without its side, and the side: "<" left, ">" right, "" none."""
    for mark, pattern in (("<", _LEFT), (">", _RIGHT)):
        found = pattern.search(name)
        if found and found.start() and _letters(name[: found.start()]) not in _DIRECTIONS:
            return name[: found.start()], mark
    for pattern in (_SIDE_FIRST, _SIDE_WITHIN):
        found = pattern.search(name)
        before, after = (name[: found.start()], name[found.end() :]) if found else ("", "")
        if found and not before.lower().endswith("look") and _letters(after) not in _DIRECTIONS:
            return f"{before}_{after}", "<" if found[1] or found[2] else ">"
    return name, ""


def _letters(text: str) -> str:
    return "".join(sign for sign in text.lower() if sign.isalnum())


def guesses(present: Iterable[str]) -> list[Guess]:
    """Return what each convention makes of the names that are there, best first.

    Single letters and other very short names count only where most of their convention is there.
    """
    exact = _without_affixes([name for name in present if not _TURNS.match(name)])
    loose: dict[str, list[str]] = {}
    for name in sorted(exact):
        loose.setdefault(normalise(name), []).append(name)
    found = [_guess(convention, exact, loose) for convention in conventions()]
    return sorted((one for one in found if one.score > 0), key=lambda one: -one.score)


Spelt = dict[str, tuple[str, ...]]
"""A name without what it shares with others → the names as they are."""


def _without_affixes(present: Iterable[str]) -> Spelt:
    """Return names without what many of them begin and end with: "Anna_jawOpen_bs" → "jawOpen".

    What is cut off must make more of them known.
    """
    names: Spelt = {name: (name,) for name in present}
    for _ in range(_AFFIXES):
        best, chosen = _SHARED - 1, ("", "")
        for start, end in _affixes(names):
            cut = [n for n in names if _within(n, start, end)]
            bare = {name[len(start) : len(name) - len(end)] for name in cut}
            gain = sum(map(_known, bare)) - sum(map(_known, cut))
            if gain > best:
                best, chosen = gain, (start, end)
        if chosen == ("", ""):
            break
        former, names = names, {}
        for name, old in former.items():
            inner = slice(len(chosen[0]), len(name) - len(chosen[1]))
            plain = name[inner] if _within(name, *chosen) else name
            names[plain] = names.get(plain, ()) + old
    return names


def _within(name: str, start: str, end: str) -> bool:
    """Return whether a name begins and ends so, with something between."""
    return len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end)


def _affixes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return what at least a few names begin and end with, "" too, in all pairs."""
    starts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for name in names:
        for cut in _CUTS.finditer(name):
            starts[name[: cut.end()]] += 1
            ends[name[cut.start() :]] += 1
    often = [
        ["", *(text for text, count in counts.most_common(_MOST_AFFIXES) if count >= _SHARED)]
        for counts in (starts, ends)
    ]
    return [(start, end) for start in often[0] for end in often[1] if start or end]


@lru_cache(8192)
def _known(name: str) -> bool:
    plain = normalise(name)
    return name in _vocabulary() or (len(plain) >= _SHORTEST and plain in _vocabulary())


@cache
def _vocabulary() -> frozenset[str]:
    """Return every name of every convention, as it is written and made comparable."""
    known = {
        name
        for convention in conventions()
        for table in (convention.controls, convention.visemes)
        for names in table.values()
        for name in names
    }
    return frozenset(known | {normalise(name) for name in known})


def _guess(convention: Convention, exact: Spelt, loose: dict[str, list[str]]) -> Guess:
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
    controls, visemes = (
        {key: tuple(name for hit in hits for name in exact[hit]) for key, hits in table.items()}
        for table in (controls, visemes)
    )
    return Guess(convention, controls, visemes, spelt)


def _spelt_otherwise(names: tuple[str, ...], exact: Iterable[str]) -> list[str]:
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

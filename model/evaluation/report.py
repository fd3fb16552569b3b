# SPDX-License-Identifier: GPL-3.0-or-later
"""Write scores as a Markdown table, with the field's published rows beside ours."""

from __future__ import annotations

from typing import Any

# Table 1 of StreamingTalker (AAAI 2026), which reprints other papers. VOCASET LVE in 1e-5 m²,
# BIWI LVE in 1e-4 and FDD in 1e-5 squared units; the table itself says "mm". Its mouth opening
# column is left out: which two vertices and which unit it means could not be established.
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "vocaset": {
        "VOCA": (4.9245,),
        "MeshTalk": (4.5441,),
        "FaceFormer": (4.1090,),
        "CodeTalker": (3.9445,),
        "FaceDiffuser": (4.1089,),
        "DiffSpeaker": (3.1478,),
        "Imitator": (3.1352,),
        "DiffPoseTalk (adapted)": (3.9110,),
        "StreamingTalker": (2.7206,),
    },
    "biwi": {
        "VOCA": (6.5563, 8.1816),
        "MeshTalk": (5.9181, 5.1025),
        "FaceFormer": (5.3077, 4.6408),
        "CodeTalker": (4.7914, 4.1170),
        "FaceDiffuser": (4.2986, 3.9098),
        "DiffSpeaker": (4.2829, 3.8535),
        "Imitator": (4.3515, 3.8066),
        "DiffPoseTalk (adapted)": (5.3128, 3.8256),
        "StreamingTalker": (4.2504, 3.6690),
    },
}
LVE_POWER = {"vocaset": 1e-5, "biwi": 1e-4}
FDD_POWER = 1e-5

UNITS = {
    "vocaset": "LVE in 1e-5 m² (published as “mm”, but squared metres), FDD in 1e-5 m².",
    "biwi": "LVE in 1e-4 and FDD in 1e-5 squared data-set units (published as “mm”).",
    "folder": "LVE in 1e-5 and FDD in 1e-5 squared units of the data set.",
}


def number(value: float, digits: int = 4) -> str:
    """Return a number for a table cell."""
    return "–" if value != value else f"{value:.{digits}f}"  # noqa: PLR0124 - nan only


def with_interval(entry: dict[str, float], power: float) -> str:
    """Return mean ± half width in a power of ten."""
    text = number(entry["mean"] / power)
    if entry["replications"] > 1:
        text += f" ± {number(entry['interval'] / power)}"
    return text


def row(cells: list[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table's lines; all columns but the first are numbers."""
    line = row(["---"] + ["---:"] * (len(head) - 1))
    return [row(head), line, *map(row, rows), ""]


def vertex_report(result: dict[str, Any]) -> str:
    """Return a vertex model's results as Markdown."""
    scores, layout = result["scores"], result["layout"]
    power = LVE_POWER.get(layout, 1e-5)
    scale = result["millimetres"]
    mean = scores["mean"]
    lines = heading(result)
    ours = [
        result["name"],
        with_interval(mean["lve"], power),
        millimetres(mean["lip_distance"]["mean"], scale),
        with_interval(mean["fdd"], FDD_POWER),
        number(scores["fdd_absolute"] / FDD_POWER),
        number(mean["dynamics"]["mean"], 3),
        millimetres(mean["opening"]["mean"], scale),
    ]
    rows = [ours]
    for name, values in scores["baselines"].items():
        rows.append(baseline_row(name, values, power, scale))
    head = ["", "LVE", "lips (mm)", "FDD", "mean abs. FDD", "upper D ratio", "opening (mm)"]
    lines += table(head, rows)
    lines += notes(result, scores)
    lines += table(
        ["subject", "LVE", "lips (mm)", "FDD", "upper D ratio"],
        [
            [
                subject,
                number(values["lve"] / power),
                millimetres(values["lip_distance"], scale),
                number(values["fdd"] / FDD_POWER),
                number(values["dynamics"], 3),
            ]
            for subject, values in scores["subjects"].items()
        ]
        + [
            [
                "all frames pooled",
                number(scores["pooled"]["lve"] / power),
                millimetres(scores["pooled"]["lip_distance"], scale),
                number(scores["pooled"]["fdd"] / FDD_POWER),
                number(scores["pooled"]["dynamics"], 3),
            ]
        ],
    )
    return "\n".join([*lines, *published_lines(layout)])


def baseline_row(
    name: str, values: dict[str, float], power: float, scale: float | None
) -> list[str]:
    """Return a baseline's cells."""
    return [
        name,
        number(values["lve"] / power),
        millimetres(values["lip_distance"], scale),
        number(values["fdd"] / FDD_POWER),
        number(abs(values["fdd"]) / FDD_POWER),
        number(values["dynamics"], 3),
        millimetres(values["opening"], scale),
    ]


def millimetres(value: float, scale: float | None) -> str:
    """Return a length in mm, or in the data's own units where their size is unknown."""
    return f"{value:.5g} units" if scale is None else number(value * scale, 2)


def heading(result: dict[str, Any]) -> list[str]:
    """Return the report's first lines: what was measured, and how."""
    return [
        f"# {result['name']} on {result['data']} ({result['split']})",
        "",
        f"{result['clips']} clips, {result['seconds']:.0f} s; {result['sampler']} sampler, "
        f"{result['steps']} steps, guidance {result['guidance']:g}; "
        f"{result['replications']} replications (seeds {', '.join(map(str, result['seeds']))}).",
        "",
    ]


def notes(result: dict[str, Any], scores: dict[str, Any]) -> list[str]:
    """Return what a reader must know about the numbers."""
    speed = scores["seconds_per_second"]
    scale = result["millimetres"]
    guess = " (the scale of the data is an estimate)" if result["estimated"] else ""
    pair = result["opening_pair"]
    return [
        UNITS[result["layout"]]
        + " “lips (mm)” is the same worst lip vertex of each frame as a distance, not squared"
        + guess
        + ". FDD is truth minus prediction; over- and under-motion cancel in it. ± is the 95 % "
        "interval over replications. “upper D ratio” is the upper face's motion against the truth's"
        f" (1 is right). “opening” is the distance of vertices {pair[0]} and {pair[1]}.",
        "",
        f"Seeds differ by {millimetres(scores['diversity_lips'], scale)} (lips) and "
        f"{millimetres(scores['diversity_upper'], scale)} (upper face) on average"
        f"{' mm' if scale else ''}. Time per second of audio on {result['device']}: "
        f"{speed['encode']:.3f} s encoder, {speed['sample']:.3f} s sampler.",
        "",
    ]


def published_lines(layout: str) -> list[str]:
    """Return the published rows of a data set."""
    if layout not in PUBLISHED:
        return []
    head = ["published", "LVE"] + (["FDD"] if layout == "biwi" else [])
    rows = [[name, *map(number, values)] for name, values in PUBLISHED[layout].items()]
    return [
        "Published rows, as reprinted by StreamingTalker (AAAI 2026, table 1), same powers of ten. "
        "They are only comparable on the original recordings and their test split.",
        "",
        *table(head, rows),
    ]


def control_report(result: dict[str, Any]) -> str:
    """Return a control model's results as Markdown."""
    scores = result["scores"]
    lines = heading(result)
    closures = scores["closures"]
    if closures:
        lines += [
            f"Lip closures: {100 * closures['recall']:.1f} % of {closures['true']} are made; "
            f"{100 * closures['precision']:.1f} % of those made are right.",
            "",
        ]
    lag = ", ".join(f"{name} {value:+.2f}" for name, value in scores["lag_frames"].items())
    lines += [
        f"Lag in frames (negative: the model leads): {lag or '–'}. Two seeds differ by "
        f"{scores['diversity']['speech']:.4f} in speech controls and "
        f"{scores['diversity']['life']:.4f} in the others (root mean square). "
        f"{scores['seconds_per_second']['all']:.3f} s per second of audio on {result['device']}.",
        "",
    ]
    rows = [
        [
            name,
            number(values["correlation"], 3),
            number(values["error"], 4),
            number(values["deviation_true"], 4),
            number(values["deviation"], 4),
        ]
        for name, values in scores["controls"].items()
    ]
    return "\n".join(lines + table(["control", "r", "error (rms)", "true deviation", "ours"], rows))

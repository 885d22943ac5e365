"""Rate-distortion curves as a picture a family: bits a value against the bound, a small panel a variable, ours in front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from points import OURS, Point

__all__ = ["draw_families"]

_COLUMNS = 4
_LOSSLESS = 3e-5  # where "lossless" stands on the axis of bounds
_COLOURS = {
    "sz3": "#E69F00",
    "sperr": "#009E73",
    "quant+jpegxl": "#CC79A7",
    "quant+pcodec": "#8C6BB1",
    "zfp": "#999999",
    "lerc+zstd": "#A6761D",
    "ebcc": "#56B4E9",
}
_NAMES = {
    "sz3": "SZ3",
    "sperr": "SPERR",
    "quant+jpegxl": "quantised + JPEG-XL",
    "quant+pcodec": "quantised + pcodec",
    "zfp": "ZFP",
    "lerc+zstd": "LERC + zstd",
    "ebcc": "EBCC",
}
_OURS = {"fast": ("#6BAED6", "--"), "normal": ("#08306B", "-"), "max": ("#CB181D", "-")}


def draw_families(points: Sequence[Point], mode: str, out: Path, stem: str) -> list[Path]:
    """``stem-FAMILY.png`` for every family that has points of a mode."""
    paths = []
    for family in dict.fromkeys(p.family for p in points):
        chosen = [p for p in points if p.family == family and p.mode == mode and p.valid]
        if len({p.fraction for p in chosen}) > 1:
            paths.append(out / f"{stem}-{family}.png")
            _draw(chosen, family, mode, paths[-1])
    return paths


def _draw(points: Sequence[Point], family: str, mode: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    variables = list(dict.fromkeys(p.variable for p in points))
    columns = min(_COLUMNS, len(variables))
    rows = -(-len(variables) // columns)
    figure = Figure(figsize=(max(3.1 * columns, 7.6), 2.65 * rows + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    lossless = any(float(p.fraction) == 0 for p in points)
    for axis, variable in zip(axes.flat, variables, strict=False):
        _panel(axis, [p for p in points if p.variable == variable], variable, lossless=lossless)
    for axis in axes.flat[len(variables) :]:
        axis.set_visible(False)
    for i, axis in enumerate(axes.flat[: len(variables)]):
        last = i + columns >= len(variables)
        axis.tick_params(labelbottom=last)
        axis.set_xlabel("bound / range of the variable" if last else "", fontsize=8.5)
        axis.set_ylabel("bits a value" if i % columns == 0 else "", fontsize=8.5)
    chunks = {"whole": "chunks of a whole map", "deep": "deep chunks"}.get(mode, f"chunks of {mode} x {mode}")
    figure.suptitle(
        f"{family.capitalize()}: bits a value under a pointwise bound, {chunks} (lower is better)", fontsize=11, fontweight="bold"
    )
    handles = {h.get_label(): h for axis in axes.flat for h in axis.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 4 if columns < 3 else 8),
                  frameon=False, fontsize=8, handlelength=1.8, columnspacing=1.3)  # fmt: skip
    figure.savefig(path, dpi=140)


def _panel(axis: Any, points: Sequence[Point], variable: str, *, lossless: bool) -> None:
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    curves = list(dict.fromkeys((p.codec, p.effort) for p in points))
    for codec, effort in sorted(curves, key=lambda c: c[0] == OURS):
        chosen = sorted((p for p in points if (p.codec, p.effort) == (codec, effort)), key=lambda p: float(p.fraction))
        x, y = [float(p.fraction) or _LOSSLESS for p in chosen], [p.bits for p in chosen]
        if codec == OURS:
            colour, line = _OURS.get(effort, ("#08306B", ":"))
            axis.plot(x, y, line, color=colour, linewidth=2.3, marker="o", markersize=4, label=f"latentzarr, {effort}", zorder=5)
        else:
            axis.plot(
                x, y, color=_COLOURS.get(codec, "0.5"), linewidth=1.2, marker=".", markersize=4, label=_NAMES.get(codec, codec)
            )
    axis.set_xscale("log")
    axis.set_yscale("log", base=2)
    axis.set_title(variable.partition("[")[0].replace("terramesh_scenes:", "terramesh:"), fontsize=8.5, loc="left")
    axis.xaxis.set_major_locator(FixedLocator([_LOSSLESS, 1e-4, 1e-3, 1e-2] if lossless else [1e-4, 1e-3, 1e-2]))
    axis.xaxis.set_major_formatter(lambda value, _: "0" if value == _LOSSLESS else f"$10^{{{math.log10(value):.0f}}}$")
    axis.xaxis.set_minor_locator(FixedLocator([3e-3, 3e-2]))
    axis.xaxis.set_minor_formatter("")
    axis.yaxis.set_major_locator(LogLocator(base=2, numticks=7))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}" if value >= 0.1 else f"{value:.2g}")
    axis.tick_params(labelsize=7.5, length=2.5)
    axis.grid(visible=True, color="0.92", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)

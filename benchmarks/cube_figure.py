"""Ours and the classical codecs on the same cubes in one table and one picture, from what the benchmarks left in results/.

    python benchmarks/cube_figure.py

Reads ``cube-ours.json`` (gcm.py) and ``cube-peers.csv`` (cube_peers.py); writes ``<date>-cubes.md`` and ``<date>-cubes.png``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np

from cube_rows import Record, best
from cube_tables import ratio

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results"
PEERS = {"test": "test", "hourly": "hourly", "erai": "erai_pl_20050801"}
TITLES = {"test": "circulation model, 12 h", "hourly": "circulation model, 1 h", "erai": "ERA-Interim, 37 levels"}


def main() -> None:
    """Write table and picture."""
    kept = json.loads((RESULTS / "cube-ours.json").read_text())
    record = Record(RESULTS / "cube-peers.csv")
    lines, names, ours, theirs = [], [], [], []
    for row in sorted(kept["rows"], key=lambda r: (r["cube"], -r["bound"], r["block"], r["access"], r["model"])):
        rows = record.of(PEERS[row["cube"]], f"range {row['bound']:g}")
        cells = [ratio(list(best(rows, row["block"], (f,)).values())) for f in ("sz3", "sperr", "quant+jpegxl")]
        first = ratio(list(best(rows, row["block"]).values()))
        whole, bare = row["raw"] / (row["fields"] + row["shared"]), row["raw"] / row["fields"]
        lines.append(
            f"| {TITLES[row['cube']]} | {row['bound']:g} | {row['block']} | {row['access']:g} | {row['model']} | "
            f"{' | '.join(f'{c:.1f}' for c in cells)} | {first:.1f} | **{whole:.1f}** ({bare:.1f}) | {whole / first:.2f} | "
            f"{row['worst_bytes']:.2f}, {row['worst_time']:.2f} | {row['encode']:.1f}, {row['decode']:.1f} |"
        )
        if row["access"] < 1:
            networks = "shipped" if row["model"] == "shipped" else "fitted"
            title = TITLES[row["cube"]].replace("circulation model", "GCM")
            names.append(f"{title}\n{100 * row['bound']:g} %, blocks of {row['block']}\n{networks} networks")
            ours.append(whole)
            theirs.append(first)
    head = (
        "| cube | bound | block | access | networks | SZ3 | SPERR | JPEG-XL | best of all | ours (frames alone) | gain | "
        "one variable at one time: bytes, time | encode, decode MB/s |"
    )
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    text = [
        "# Cubes: ours beside the classical codecs",
        "",
        f"{kept['machine']}. Ratio of float32 bytes to real bytes;",
        "the bound is a part of each level's own range. Peers: each variable with its best codec, setting and layout of",
        "at most as many times as a block has. Ours counts reference tables and static fields; networks `shipped` are not",
        "counted, others are models fitted to another season (80 kB). Speeds: two threads, a busy machine, check and",
        "reading back included in encoding.",
        "",
        head,
        "|" + "---|" * head.count(" | ") + "---|",
        *lines,
    ]
    (RESULTS / f"{date}-cubes.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    figure, axes = plt.subplots(figsize=(10, 4.2), layout="constrained")
    x = np.arange(len(names))
    axes.bar(x - 0.2, theirs, 0.4, label="best classical codec of each variable", color="#9aa5b1")
    axes.bar(x + 0.2, ours, 0.4, label="latent cube, everything counted", color="#1f6f8b")
    for at, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        axes.text(at + 0.2, b, f"{b / a:.2f}x", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(x, names, fontsize=7)
    axes.set_ylabel("float32 bytes / bytes")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / f"{date}-cubes.png", dpi=130)
    print("\n".join(text))


if __name__ == "__main__":
    main()

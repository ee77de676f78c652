"""Pictures of the results: ``python plots.py`` reads results/*.json and writes results/*.png."""

import json
from typing import Any

import common

COLOURS = {
    "dense": "#555555",
    "tutelage": "#1f6feb",
    "trl": "#d9822b",
    "liger": "#8a4fbf",
    "stored": "#1f6feb",
    "live": "#79b8ff",
    "plain": "#555555",
    "trl_sft": "#e8b27a",
    "trl_sft_defaults": "#d9822b",
    "trl_gkd": "#c4453c",
    "trl_gkd_defaults": "#7d1f1a",
}


def _new(columns: int, title: str) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(5.2 * columns, 4), squeeze=False)
    figure.suptitle(title)
    return figure, axes[0]


def _number(value: float, _: Any) -> str:
    """A number beside an axis, written out."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def _lines(axis: Any, records: list[dict], along: str, key: str, scale: float) -> None:
    """One line for each contender over the shapes, with the range as a bar."""
    for name in COLOURS:
        points = [(r[along], r["measured"][name][key]) for r in records if name in r["measured"]]
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        middle = [value["median"] / scale for _, value in points]
        below = [(value["median"] - value["min"]) / scale for _, value in points]
        above = [(value["max"] - value["median"]) / scale for _, value in points]
        places = [place for place, _ in points]
        axis.errorbar(
            places, middle, (below, above), marker="o", capsize=3, color=COLOURS[name], label=name
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sorted({record[along] for record in records}))
    axis.xaxis.set_major_formatter(_number)
    axis.yaxis.set_major_formatter(_number)
    axis.yaxis.set_minor_formatter(_number)
    axis.tick_params(which="minor", labelsize=7)
    axis.grid(alpha=0.3)


def loss(results: dict[str, Any], name: str) -> None:
    """Memory and time of the loss, over tokens at each vocabulary and over vocabularies."""
    records = results["records"]
    panels = [
        ("vocabulary", vocabulary, "tokens", "response tokens")
        for vocabulary in sorted({r["vocabulary"] for r in records})
    ]
    # Over vocabularies: at the largest number of tokens that was measured with all of them.
    seen = [{r["tokens"] for r in records if r["vocabulary"] == value} for _, value, *_ in panels]
    panels.append(("tokens", max(set.intersection(*seen)), "vocabulary", "vocabulary"))
    for key, scale, label in (("peak", 2**20, "peak MiB"), ("seconds", 1, "seconds")):
        figure, axes = _new(len(panels), f"{label} of one loss, {records[0]['precision']}")
        for axis, (fixed, value, along, words) in zip(axes, panels, strict=True):
            _lines(axis, [r for r in records if r[fixed] == value], along, key, scale)
            axis.set(xlabel=words, ylabel=label, title=f"{fixed} {value:,}")
        axes[0].legend()
        figure.tight_layout()
        figure.savefig(common.RESULTS / f"{name}_{key}.png", dpi=110)


def bars(results: dict[str, Any], name: str) -> None:
    """Seconds by contender for each data, student and teacher."""
    records = results["records"]
    what = "of a whole run" if "passes" in records[0] else "of a step"
    figure, axes = _new(len(records), f"seconds {what}, {records[0]['precision']}")
    for axis, record in zip(axes, records, strict=True):
        seconds = record["seconds"]
        middle = [value["median"] for value in seconds.values()]
        errors = (
            [value["median"] - value["min"] for value in seconds.values()],
            [value["max"] - value["median"] for value in seconds.values()],
        )
        colours = [COLOURS[contender] for contender in seconds]
        axis.barh(list(seconds), middle, xerr=errors, color=colours)
        axis.invert_yaxis()
        axis.set(title=f"{record['data']}: {record['teacher']} to {record['student']}")
    figure.tight_layout()
    figure.savefig(common.RESULTS / f"{name}.png", dpi=110)


def teacher_sizes(results: dict[str, Any], name: str) -> None:
    """Seconds of a step over the teacher's size, with one student."""
    records = results["records"]
    figure, (axis,) = _new(1, f"a step of student {records[0]['student']}")
    for contender in records[0]["seconds"]:
        points = [(r["teacher_parameters"] / 1e6, r["seconds"][contender]) for r in records]
        points.sort(key=lambda point: point[0])
        middle = [value["median"] for _, value in points]
        below = [value["median"] - value["min"] for _, value in points]
        above = [value["max"] - value["median"] for _, value in points]
        sizes = [size for size, _ in points]
        axis.errorbar(
            sizes,
            middle,
            (below, above),
            marker="o",
            capsize=3,
            color=COLOURS[contender],
            label=contender,
        )
    axis.set(xlabel="teacher, millions of parameters", ylabel="seconds a step", ylim=(0, None))
    axis.legend()
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(common.RESULTS / f"{name}.png", dpi=110)


def main() -> None:
    """Draw everything that there are results for."""
    for path in sorted(common.RESULTS.glob("*.json")):
        results = json.loads(path.read_text())
        if not results.get("records"):
            continue
        if "measured" in results["records"][0]:
            loss(results, path.stem)
        elif len({record.get("teacher") for record in results["records"]}) > 1:
            teacher_sizes(results, path.stem)
        elif "seconds" in results["records"][0]:
            bars(results, path.stem)


if __name__ == "__main__":
    main()

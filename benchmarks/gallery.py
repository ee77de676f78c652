"""The gallery of curricula: the plan of each on the embedded task, as docs/gallery.md.

    python benchmarks/gallery.py              # from docs/gallery/difficulty.csv
    python benchmarks/gallery.py --measure    # measure that first; takes some seconds

Only the curriculum differs: student, data, loss and number of updates are those of `quickstart`.
"""

import argparse
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum import CURRICULA, describe_plan
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.difficulty import load_profile
from tutelage.files import atomic_write_bytes
from tutelage.pipeline.stages.plan import compile_recipe
from tutelage.recipe import load_recipe
from tutelage.report import Panel, Picture
from tutelage.report.drawing import legend, new_axes
from tutelage.report.svg import INK, SERIES
from tutelage.types import DifficultyProfile, Example, Plan

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "gallery"
SCORES = FOLDER / "difficulty.csv"
BASE = "quickstart"
TENTHS = 10

SETTINGS = {
    "random": "{kind: random, stages: 5, total_steps: 220}",
    "calibrated": "{kind: calibrated, stages: 5, total_steps: 220}",
    "calibrated_anchored": "{kind: calibrated_anchored, stages: 5, total_steps: 220}",
    "soft": "{kind: soft, stages: 5, total_steps: 220}",
    "baby_steps": "{kind: baby_steps, stages: 4, total_steps: 220}",
    "linear_growth": "{kind: linear_growth, stages: 5, total_steps: 220}",
    "cosine_growth": "{kind: cosine_growth, stages: 5, total_steps: 220, start: 0.4}",
    "bands": "{kind: bands, stages: 3, total_steps: 220}",
    "hard_to_easy": "{kind: hard_to_easy, stages: 5, total_steps: 220}",
    "shrinking": "{kind: shrinking, stages: 10, total_steps: 220, decay: cosine, easy_share: 0.1}",
}
"""The `curriculum` of each recipe, in the order of the page."""

TEXTS = {
    "random": "Every example in every stage, shuffled: no curriculum at all. This is the control"
    " that all others are held against; on our tasks none of them is ahead of it by more than"
    " chance gives.",
    "calibrated": "CPD's: each stage has the easiest examples, as many as make the mean difficulty"
    " rise by the same amount from stage to stage. Where many examples are easy, as here, the first"
    " stage is large; the hardest come last, when the learning rate is low.",
    "calibrated_anchored": "The same, but the scale begins at the easiest example instead of at"
    " zero, so that scores of any unit will do, ranks or negative numbers too. Where even the"
    " easiest are far from zero, the first stages of `calibrated` are as small as they can be, and"
    " these are not; here they are near zero, and both do the same.",
    "soft": "Ours: nothing is withheld, but at first easy examples are drawn more often, and the"
    " mean difficulty of what is drawn rises by equal amounts until all are drawn alike. Every"
    " example can come at any update, and a hard one comes seldom at first.",
    "baby_steps": "POCL's: a quarter of the data, then a half, three quarters and all of it, each"
    " stage with what came before. By itself it makes eight passes over each; here it shares the"
    " updates of the others, in proportion to the size of its stages.",
    "linear_growth": "The subset grows by the same number of examples at each stage, whatever their"
    " difficulty. CPD's ablation: it says whether calibration by difficulty matters, or just that"
    " there is less data at first.",
    "cosine_growth": "The subset starts at a share of the data and grows to all of it along half a"
    " wave: slowly at first, faster, and slowly again. CPD names it and prints no formula; its"
    " `start` is 0.7 in `cpd_cosine_growth`, and 0.4 here so that it can be seen.",
    "bands": "CLPD's: bands that share no example, the easiest first; what is done does not come"
    " back. It belongs with a ladder of teachers, one for each band, and forgets what it leaves"
    " behind.",
    "hard_to_easy": "The mirror image of `linear_growth`: the hardest examples first, and the easy"
    " ones join them. It is a control: if it does as well as its mirror image, the order did not"
    " matter.",
    "shrinking": "DA-KD's: begin with all data and keep less and less of it, mostly the hardest,"
    " with a few easy ones among them. The recipe `dakd` also measures difficulty again at each"
    " stage, which a plan made beforehand cannot show.",
}

_HEAD = """# A gallery of curricula

What each curriculum of `tutelage ls curricula` does with the same 1,000 chained sums (the embedded
task, with an error in two answers of five) in the same 220 updates of 64 examples. Difficulty is
the untrained student's loss in nats per token. Everything else is as in `quickstart`: forward KL to
the teacher, temperature 1, a learning rate that falls in a line to a tenth. The plan of any of
them:

```console
$ tutelage plan quickstart --set "curriculum={kind: calibrated, stages: 5, total_steps: 220}"
```

Left in each picture: at which update examples of which tenth of difficulty are visited, darker for
more of the update's examples. Right: what an example of each tenth gets in all, visits weighted by
the learning rate; diamonds are a shuffled run. [How to read a plan](plans.md) has the rest,
[Evidence](evidence.md) what each of them was worth.

Written by `python benchmarks/gallery.py` from [these scores](gallery/difficulty.csv), which
`tutelage profile quickstart` measured.
"""


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure difficulty first")
    FOLDER.mkdir(exist_ok=True)
    if parser.parse_args().measure:
        measure()
    profile = load_profile(SCORES)
    for kind in SETTINGS:
        plan, description = planned(kind, profile)
        picture = picture_of(kind, plan, description, profile)
        atomic_write_bytes(FOLDER / f"{kind}.svg", picture.svg().encode())
    atomic_write_bytes(DOCS / "gallery.md", page().encode())


def measure() -> None:
    """Measure the difficulty of the embedded task anew; ten thousandths are enough for a page."""
    import tutelage

    measured = load_profile(tutelage.profile(BASE).description["scores"])
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("id", "score"))
    writer.writerows(
        (name, f"{score:.4f}")
        for name, score in sorted(zip(measured.ids, measured.scores, strict=True))
    )
    atomic_write_bytes(SCORES, rows.getvalue().encode())


def planned(kind: str, profile: DifficultyProfile) -> tuple[Plan, dict[str, Any]]:
    """The plan of a curriculum and its description."""
    recipe = load_recipe(BASE, [f"curriculum={SETTINGS[kind]}"]).arms["kld_states"]
    plan = compile_recipe(recipe, profile)
    return plan, describe_plan(plan, profile, kind)


def page() -> str:
    """The page, from the scores alone."""
    profile = load_profile(SCORES)
    assert set(SETTINGS) == set(TEXTS) == set(CURRICULA), "every curriculum has its place"
    return _HEAD + "".join(_section(kind, profile) for kind in SETTINGS)


def _section(kind: str, profile: DifficultyProfile) -> str:
    plan, description = planned(kind, profile)
    alt = " ".join(panel.alt for panel in picture_of(kind, plan, description, profile).panels)
    paper = f" ({CURRICULA[kind].paper})" if CURRICULA[kind].paper else ""
    stages = [
        f"| {s['stage']} | {s['steps']} | {s['num_examples']:,} | {s['mean_difficulty']:.3f} |\n"
        for s in description["stages"]
    ]
    examples = {e.id: e for e in _examples()}
    seen = [
        _row(step, word, examples[profile.ids[at]], profile.scores[at])
        for step in (0, plan.total_steps - 1)
        for word, at in _of_step(plan, profile, step)
    ]
    return f"""
## {kind}

{TEXTS[kind]}{paper}

```yaml
curriculum: {SETTINGS[kind]}
```

![{alt}](gallery/{kind}.svg)

| stage | updates | examples | their mean difficulty |
|---|---|---|---|
{"".join(stages)}
{_hardest(description)}

From the first batch that the student sees, and from the last:

| update | | prompt | answer to learn | operations | difficulty |
|---|---|---|---|---|---|
{"".join(seen)}"""


def _examples() -> list[Example]:
    """The training data of the recipe."""
    data = load_recipe(BASE).recipe.data
    return arithmetic_examples(
        "train", data.train, seed=data.data_seed, label_noise=data.label_noise
    )


def _of_step(plan: Plan, profile: DifficultyProfile, step: int) -> list[tuple[str, int]]:
    """Positions of the easiest, the middle and the hardest example of a step (from 0)."""
    inside = plan.visits[plan.offsets[step] : plan.offsets[step + 1]]
    ordered = sorted(inside.tolist(), key=lambda at: (profile.scores[at], profile.ids[at]))
    ends = (0, len(ordered) // 2, -1)
    return list(zip(("easiest", "middle", "hardest"), (ordered[i] for i in ends), strict=True))


def _row(step: int, word: str, example: Example, score: float) -> str:
    prompt, answer = example.fields["prompt"], example.completion
    cells = (step + 1, word, f"`{prompt}`", f"`{answer}`", example.group, f"{score:.3f}")
    return f"| {' | '.join(map(str, cells))} |\n"


def _hardest(description: dict[str, Any]) -> str:
    """One sentence: when the hardest tenth first comes, and how much of it there is."""
    last = description["exposure"][-1]
    if not last["visits"]:
        return "The hardest tenth of the examples never comes."
    each = last["visits"] / last["num_examples"]
    weighted = last["lr_visits"] / last["plain_lr_visits"]
    return (
        f"The hardest tenth of the examples first comes at update {last['first_step']}; each of"
        f" them is visited {each:.1f} times, which, weighted by the learning rate, is"
        f" {weighted:.2f} of what a shuffled run gives it."
    )


def picture_of(
    kind: str, plan: Plan, description: dict[str, Any], profile: DifficultyProfile
) -> Picture:
    """Which difficulty comes when, and what each tenth gets in all."""
    shares = visit_shares(plan, profile)
    rows = description["exposure"]
    exposed = [row["lr_visits"] / row["num_examples"] for row in rows]
    plain = [row["plain_lr_visits"] / row["num_examples"] for row in rows]

    def draw(figure: Any) -> None:
        axes = new_axes(figure, f"{kind}: what comes when", "update", "tenth of difficulty")
        axes.imshow(
            shares, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=0.4,
            extent=(0, plan.total_steps, 0.5, TENTHS + 0.5), interpolation="none",
        )  # fmt: skip
        axes.set_yticks(range(1, TENTHS + 1))
        axes.grid(visible=False)

    def draw_sums(figure: Any) -> None:
        axes = new_axes(figure, "What each tenth gets", "tenth of difficulty, 1 = easiest", "")
        places = np.arange(1, len(exposed) + 1)
        axes.bar(places, exposed, 0.7, color=SERIES[0], label="visits x learning rate")
        axes.plot(places, plain, "D", color=INK, markersize=4.5, label="shuffled run")
        axes.set_xticks(places)
        axes.grid(axis="x", visible=False)
        axes.set_ylim(0, 1.08 * max(*exposed, *plain))
        legend(axes)

    first, last = shares[:, 0] > 0, shares[:, -1] > 0
    when = (
        f"{kind}: the first updates visit the tenths {_span(first)} of difficulty, the last ones"
        f" {_span(last)}."
    )
    sums = (
        f"Weighted by the learning rate, an example of the easiest tenth is visited"
        f" {exposed[0]:.1f} times and one of the hardest {exposed[-1]:.1f}; {plain[0]:.1f} in a"
        " shuffled run."
    )
    return Picture(kind, "", (Panel("when", when, draw), Panel("sums", sums, draw_sums)))


def visit_shares(plan: Plan, profile: DifficultyProfile) -> NDArray[np.float64]:
    """Which share of the visits each tenth of difficulty has, over pieces of five updates.

    Returns:
        Shares of shape ``[10, ceil(steps / 5)]``; each column sums to 1.
    """
    rank = np.empty(len(profile), dtype=np.int64)
    rank[profile.order] = np.arange(len(profile)) * TENTHS // len(profile)
    piece = np.repeat(np.arange(plan.total_steps) // 5, np.diff(plan.offsets))
    counts = np.zeros((TENTHS, piece.max() + 1))
    np.add.at(counts, (rank[plan.visits], piece), 1)
    return counts / counts.sum(axis=0)


def _span(present: NDArray[np.bool_]) -> str:
    """The tenths that are there, from the first to the last."""
    places = np.flatnonzero(present) + 1
    return f"{places[0]} to {places[-1]}" if len(places) > 1 else f"{places[0]}"


if __name__ == "__main__":
    main()

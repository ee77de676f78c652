"""What a report says first, against cases worked out by hand."""

import html
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from conftest_pictures import leave_out_pictures
from tutelage.report import load_run, render_report
from tutelage.report.advice import advice, last_slope
from tutelage.report.comparison import Comparison, Metric, Model, compare
from tutelage.report.gap_plot import gap_figure
from tutelage.report.run import Arm, Evaluated
from tutelage.report.verdict import gap_share, worked, worth
from tutelage.statistics import bootstrap, examples_needed, paired_difference, smallest_difference

METRIC = Metric("exact_match", 100.0)


def model(kind: str, values, name: str = "", clusters=None) -> Model:
    """A model with such scores of the test examples t000, t001, ..."""
    rows = {
        f"t{i:03d}": {"id": f"t{i:03d}", "scores": {"exact_match": float(value)}}
        for i, value in enumerate(values)
    }
    for row, cluster in zip(rows.values(), clusters or (), strict=False):
        row["cluster"] = cluster
    score = {"mean": float(np.mean(values)), "seeds": [], "groups": {}}
    evaluated = Evaluated({"exact_match": score}, rows, {}, len(rows), 0.0)
    return Model(name or kind, kind, evaluated, {"exact_match": bootstrap(values)})


def compared(main: Model, *others: Model) -> Comparison:
    ours = main.evaluated.values("exact_match")
    found = [
        replace(
            one,
            differences={
                "exact_match": paired_difference(ours, one.evaluated.values("exact_match"))
            },
        )
        for one in others
    ]
    return Comparison((METRIC,), (main, *found), ())


def right(count: int, of: int = 100) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


def test_the_share_of_the_gap_is_a_ratio_of_sums_with_an_interval():
    before, main, teacher = (
        model("before", right(20)),
        model("main", right(65)),
        model("teacher", right(80)),
    )
    share = gap_share(METRIC, before, main, teacher)
    # 45 of 60 examples that the teacher has and the student had not: drawn anew, the share of
    # about 60 draws with chance 3/4 each, so its 95 % interval is about 0.75 -+ 1.96 * 0.056.
    assert share.mean == 0.75
    assert share.low == pytest.approx(0.64, abs=0.02) and share.high == pytest.approx(
        0.86, abs=0.02
    )
    said = worked(compared(main, before, teacher))
    assert said[0].startswith("main reaches 65.0 % exact match (95 % interval ")
    ends = f"{100 * share.low:.0f} to {100 * share.high:.0f} %"
    assert said[1] == (
        "This closes 75 % of the gap between the student before distillation (20.0 %) and the"
        f" teacher (80.0 %); 95 % interval {ends}."
    )


def test_a_gap_of_nothing_has_no_share():
    same = [model(kind, right(50)) for kind in ("before", "main", "teacher")]
    assert gap_share(METRIC, *same) is None


@pytest.mark.parametrize(
    ("difference", "error", "count", "needed"),
    [
        (0.02, 0.02, 500, 3925),  # (1.959964 + 0.841621)^2 = 7.848879, times 500 = 3924.4
        (-0.04, 0.02, 500, 982),  # a quarter of it
        (0.0, 0.02, 500, None),
        (0.02, float("nan"), 500, None),
    ],
)
def test_how_many_examples_tell(difference, error, count, needed):
    assert examples_needed(difference, error, count) == needed
    assert smallest_difference(0.01) == pytest.approx(0.0280159, abs=1e-6)


def test_of_clusters_the_power_is_that_of_clusters():
    # Ten passages of ten questions; in six the main arm has one answer more, in four one less.
    ours = [float(j == 0 and i < 6) for i in range(10) for j in range(10)]
    theirs = [float(j == 0 and i >= 6) for i in range(10) for j in range(10)]
    clusters = [f"passage {i}" for i in range(10) for _ in range(10)]
    main, other = model("main", ours, clusters=clusters), model("arm", theirs, "sft")
    # Sums of clusters 1 and -1, mean 0.2: SE = sqrt(10/9) sqrt(10 - 10 * 0.04) / 100 = 0.03266.
    assert worth(compared(main, other))[1] == (
        "Four times in five, 100 test examples show a difference of 9.1 points or more; for one as"
        " small as this it takes about 2,100."
    )


def test_a_clear_difference_needs_no_power_and_equal_arms_have_none():
    (clear,) = worth(compared(model("main", right(90)), model("arm", right(50), "sft")))
    assert clear.startswith("main beats sft, the control, by 40.0 points")
    (same,) = worth(compared(model("main", right(50)), model("arm", right(50), "sft")))
    assert same == "sft, the control, scores exactly the same."
    assert worth(compared(model("main", right(50)))) == ()


@pytest.mark.parametrize(
    ("values", "examples", "trend", "chance"),
    [
        # sqrt(0.5 * 0.5 / 200 + 0.6 * 0.4 / 200) = 0.0495, times 1.96 = 0.0970
        ((0.5, 0.6), 200, "better", 0.0970),
        ((0.5, 0.59), 200, "unclear", 0.0972),
        ((0.6, 0.5), 200, "worse", 0.0970),
        ((0.5, 0.5), None, "unclear", None),
        ((0.5, 0.51), None, "better", None),
    ],
)
def test_the_slope_of_the_last_step(values, examples, trend, chance):
    rows = [{"step": 10 * (i + 1), "exact_match": v} for i, v in enumerate((0.2, *values))]
    slope = last_slope(rows, "exact_match", examples)
    assert slope.steps == (20, 30) and slope.share == pytest.approx(1 / 3)
    assert slope.trend == trend
    assert (
        np.isnan(slope.chance)
        if chance is None
        else slope.chance == pytest.approx(chance, abs=1e-4)
    )


def test_a_loss_that_falls_gets_better_and_one_look_says_nothing():
    rows = [{"step": s, "loss": v} for s, v in ((5, 2.0), (10, 1.5), (15, 1.75))]
    assert last_slope(rows[:2], "loss").gain == 0.5
    assert last_slope(rows[:2], "loss").trend == "better"
    worse = last_slope(rows, "loss", 200)
    assert (worse.trend, worse.best) == ("worse", 10)
    assert last_slope(rows[:1], "loss") is None


def commands_of(run, **changes) -> list[str]:
    run = replace(run, **changes)
    return [one.command for one in advice(run, compare(run)) if one.command]


def test_every_command_that_is_proposed_is_one(run_folder):
    from tutelage.recipe import load_recipe

    run = load_run(run_folder)
    looked = [{"step": s, "exact_match": v} for s, v in ((4, 0.0), (8, 0.1), (12, 0.9))]
    arms = {
        "better": replace(run.main, validation=looked),
        "worse": replace(
            run.main, validation=[looked[0], {**looked[2], "step": 8}, {**looked[0], "step": 12}]
        ),
        "once": replace(run.main, validation=looked[:1]),
        "never": replace(run.main, validation=[]),
    }
    found = {name: commands_of(run, arms=(arm,)) for name, arm in arms.items()}
    assert "curriculum.total_steps=24" in found["better"][0]
    assert "controls.sft.extends=sft" in found["better"][1]
    # The best look was at step 8 of 12.
    assert "curriculum.total_steps=8" in found["worse"][0]
    for command in (one for commands in found.values() for one in commands):
        program, verb, recipe, *rest = shlex.split(command)
        assert (program, verb, rest[::2]) == ("tutelage", "run", ["--set"] * (len(rest) // 2))
        assert load_recipe(recipe, rest[1::2]).recipe.name == "sums"


def test_settings_of_another_length_make_room_for_steps(run_folder):
    from tutelage.recipe import load_recipe

    run = load_run(run_folder)
    recipe = run.recipe.replace("total_steps: 12", "total_steps: null").replace(
        "passes: null", "passes: 2.0"
    )
    looked = [{"step": s, "exact_match": v} for s, v in ((8, 0.1), (12, 0.9))]
    command = commands_of(run, arms=(replace(run.main, validation=looked),), recipe=recipe)[0]
    changes = shlex.split(command)[4::2]
    assert changes == ["curriculum.passes=null", "curriculum.total_steps=24"]
    assert load_recipe(
        run_folder / "recipe.yaml", ["curriculum.total_steps=null", "curriculum.passes=2.0"]
    )


def test_an_unfinished_run_is_told_how_it_goes_on(run_folder):
    run = load_run(run_folder)
    run = replace(run, arms=(Arm("cpd"),), teacher=None, student_before=None)
    (only,) = advice(run, compare(run))
    assert only.command == f"tutelage run {run.place}/recipe.yaml --run-dir {run.place}"


def test_the_picture_names_every_model_and_its_gap():
    models = [model("main", right(65)), model("arm", right(50), "sft")]
    picture = gap_figure(compared(*models, model("before", right(20)), model("teacher", right(80))))
    alt = picture.panels[0].alt
    order = [alt.index(name) for name in ("teacher 80.0", "main 65.0", "sft 50.0", "before 20.0")]
    assert order == sorted(order) and "Shaded: the gap" in picture.caption
    (svg,) = picture.svgs()
    assert "80.0" in svg and "sft" in svg
    assert gap_figure(Comparison((), (), ())) is None


def test_the_three_answers_come_before_everything_else(run_folder, monkeypatch):
    leave_out_pictures(monkeypatch)
    page = html.unescape(render_report(load_run(run_folder)))
    top = page.split("<nav")[0]
    titles = re.findall(r"<h[12][^>]*>(.*?)</h", top)
    assert titles[1:] == ["Did it work?", "Was the method worth it?", "What next?"]
    assert "cpd trained for" in top and top.index("<svg") < top.index("What next?")

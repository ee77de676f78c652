import json
from itertools import pairwise

import numpy as np
import pytest

from tutelage.report import load_run
from tutelage.report.comparison import Comparison, Metric, Model, compare, natural
from tutelage.report.quantities import count, duration, large, number, percent, small
from tutelage.report.run import Evaluated
from tutelage.report.samples import choose_samples, shorten
from tutelage.report.verdict import teacher_warning, verdict
from tutelage.statistics import bootstrap, paired_difference


def evaluated(values: dict[str, float], groups: dict[str, str] | None = None) -> Evaluated:
    groups = groups or {}
    mean = float(np.mean(list(values.values())))
    answers = {
        i: {"id": i, "answer": "x", "group": groups.get(i, ""), "scores": {"exact_match": v}}
        for i, v in values.items()
    }
    score = {"mean": mean, "seeds": [mean], "interval": [mean, mean], "groups": {}}
    return Evaluated({"exact_match": score}, answers, {}, len(values), 0.0)


def versus(main: list[float], other: list[float], *extra: tuple[str, float]) -> tuple[str, ...]:
    """The verdict on a main arm against one control."""
    a, b = ({f"t{i:04d}": v for i, v in enumerate(values)} for values in (main, other))
    first, second = bootstrap(main), bootstrap(other)
    difference = paired_difference(a, b)
    assert difference is not None
    models = [
        Model("cpd", "main", evaluated(a), {"exact_match": first}),
        Model("sft", "arm", evaluated(b), {"exact_match": second}, {"exact_match": difference}),
    ]
    for kind, value in extra:
        models.append(
            Model(kind, kind, evaluated({"t": value}), {"exact_match": bootstrap([value])})
        )
    return verdict(Comparison((Metric("exact_match", 100.0),), tuple(models), ()))


def test_main_arm_is_first_and_groups_sort_naturally(run_folder):
    comparison = compare(load_run(run_folder))
    kinds = [model.kind for model in comparison.models]
    lasts = [kind for kind in kinds if kind == "last"]
    assert kinds == ["main", "arm", "arm", *lasts, "before", "teacher"]
    assert comparison.groups == ("1", "2", "3", "4", "5")
    assert sorted(["level 10", "level 2", "add"], key=natural) == ["add", "level 2", "level 10"]
    assert [metric.label for metric in comparison.metrics] == ["exact match (%)", "ROUGE-L (%)"]


def test_questions_about_one_passage_are_drawn_together(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    plain = compare(load_run(folder))
    for path in folder.glob("*/*/evaluation/answers.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{**row, "cluster": f"passage {row['group']}"} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    clustered = compare(load_run(folder))
    name = plain.metrics[0].name
    before, after = (found.of_kind("teacher").differences[name] for found in (plain, clustered))
    assert before.interval.mean == pytest.approx(after.interval.mean)
    assert before != after


def test_every_teacher_of_a_ladder_is_shown(new_ladder):
    run = load_run(new_ladder)
    assert list(run.weaker_teachers) == ["weak"]
    comparison = compare(run)
    assert [model.name for model in comparison.models] == [
        "cpd_ladder",
        "student before",
        "teacher weak",
        "teacher strong",
    ]
    assert comparison.of_kind("teacher") is comparison.models[-1], "the strongest is the goal"
    shown = [answer.model for answer in choose_samples(comparison)[0].answers]
    assert shown == ["cpd_ladder", "teacher strong", "teacher weak", "student before"]


def test_a_sample_has_the_score_of_its_own_text():
    # Two sampling seeds, of which the first was right: the mean is a half, the text is right.
    answers = {"t": 0.5}
    found = evaluated(answers)
    found.answers["t"]["answer_scores"] = {"exact_match": 1.0}
    model = Model("cpd", "main", found, {"exact_match": bootstrap([0.5])})
    samples = choose_samples(Comparison((Metric("exact_match"),), (model,), ()))
    assert [(a.score, a.right) for a in samples[0].answers] == [(1.0, True)]
    assert found.values("exact_match") == answers


@pytest.mark.parametrize(
    "ordered", [["2", "10", "add"], ["-1.5", "-1.25", "1.25", "1.5"], ["level 2", "level 10"]]
)
def test_numbers_sort_as_numbers(ordered):
    assert all(natural(a) < natural(b) for a, b in pairwise(ordered))


def test_by_group_keeps_the_stored_mean_and_adds_an_interval(run_folder):
    run = load_run(run_folder)
    comparison = compare(run)
    found = comparison.by_group(comparison.models[0], comparison.metrics[0])
    stored = run.main.evaluation.scores["exact_match"]
    assert found["all"].mean == stored["mean"]
    assert {g: v.mean for g, v in found.items() if g != "all"} == stored["groups"]
    assert all(v.known and v.low <= v.mean <= v.high for v in found.values())


def test_a_win_a_loss_a_draw_are_said_as_such():
    won = versus([1.0] * 90 + [0.0] * 10, [0.0] * 50 + [1.0] * 50)[-1]
    assert won.startswith("cpd beats sft, the control, by 40.0 points")
    lost = versus([0.0] * 50 + [1.0] * 50, [1.0] * 90 + [0.0] * 10)[-1]
    assert lost.startswith("cpd loses to sft, the control, by 40.0 points")
    *_, unclear, power = versus([1.0, 0.0] * 20 + [1.0], [0.0, 1.0] * 20 + [0.0])
    assert "ahead of sft" in unclear and "includes zero" in unclear
    # 21 differences of +1 and 20 of -1: mean 1/41, standard error sqrt(41/40 * 40.976) / 41 =
    # 0.15806, times 1.960 + 0.842 = 0.44282; 41 (0.44282 / 0.02439)^2 = 13,515.
    assert power == (
        "Four times in five, 41 test examples show a difference of 44.3 points or more; for one as"
        " small as this it takes about 14,000."
    )
    assert versus([1.0, 0.0], [1.0, 0.0])[-1] == "sft, the control, scores exactly the same."


def judged(metric=None, **values):
    """Verdict and warning on models with such scores of the same 200 test examples.

    A number is a share of right answers; models with equal shares have the same answers right.
    """
    kinds = {"main": "main", "sft": "arm", "before": "before", "teacher": "teacher"}
    found = {}
    for kind, share in values.items():
        right = np.arange(200) < round(200 * share)
        found[kind] = {f"t{i:03d}": float(value) for i, value in enumerate(right)}
    models = tuple(
        Model(kind, kinds[kind], evaluated(a), {"exact_match": bootstrap([*a.values()])})
        for kind, a in found.items()
    )
    comparison = Comparison((metric or Metric("exact_match", 100.0),), models, ())
    return " ".join(verdict(comparison)), teacher_warning(comparison)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"before": 0.2, "main": 0.5, "teacher": 0.8}, "closes 50 % of the gap between"),
        ({"before": 0.2, "main": 0.205, "teacher": 0.8}, "cannot tell that step from none"),
        ({"before": 0.5, "main": 0.2, "teacher": 0.8}, "Before distillation the student was bett"),
        ({"before": 0.5, "main": 0.51, "teacher": 0.505}, "no share of a gap is given"),
        ({"before": 0.2, "main": 0.505, "teacher": 0.5}, "This is the level of the teacher"),
        ({"before": 0.0, "main": 0.5}, "main reaches 50.0 %"),
    ],
)
def test_the_gap_to_the_teacher_is_said_as_the_numbers_allow(values, words):
    said, _ = judged(**values)
    assert words in said
    assert said.count("% of the gap") == ("closes" in words or "that step" in words)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"before": 0.0, "main": 0.28, "teacher": 0.056}, "main has 28.0 %"),
        ({"before": 0.0, "main": 0.05, "sft": 0.3, "teacher": 0.06}, "sft has 30.0 %"),
        ({"before": 0.5, "main": 0.45, "teacher": 0.4}, "before has 50.0 %"),
        ({"before": 0.0, "main": 0.0, "teacher": 0.0}, "before has 0.0 %"),
    ],
)
def test_a_teacher_that_knows_less_than_its_students_is_said_loudly(values, named):
    said, warning = judged(**values)
    assert warning.startswith("The teacher is no better than what it teaches") and named in warning
    assert "teacher.finetune.epochs=3" in warning
    assert "of the gap" not in said and "500 %" not in said


@pytest.mark.parametrize(
    "values",
    [
        {"before": 0.0, "main": 0.5, "teacher": 0.9},
        {"before": 0.0, "main": 0.905, "teacher": 0.9},  # one example of 200 says nothing
        {"main": 0.5, "sft": 0.4},
    ],
)
def test_a_teacher_is_not_called_weak_for_nothing(values):
    assert judged(**values)[1] == ""


def test_a_weak_teacher_of_a_loss_is_the_one_with_more_of_it():
    metric = Metric("exact_match", lower_is_better=True)
    assert judged(metric, before=0.9, main=0.5, teacher=0.1)[1] == ""
    assert "main has 0.100" in judged(metric, before=0.9, main=0.1, teacher=0.5)[1]


def test_lower_is_better_turns_the_verdict_round():
    values = {"t0": 0.5, "t1": 0.6, "t2": 0.4}
    worse = {i: v + 1 for i, v in values.items()}
    difference = paired_difference(values, worse)
    assert difference is not None
    models = (
        Model("cpd", "main", evaluated(values), {"test_nll": bootstrap([0.5, 0.6, 0.4])}),
        Model(
            "sft", "arm", evaluated(worse), {"test_nll": bootstrap([1.5])}, {"test_nll": difference}
        ),
    )
    found = verdict(Comparison((Metric("test_nll", lower_is_better=True),), models, ()))
    assert found[-1].startswith("cpd beats sft")


def test_no_evaluation_is_said():
    assert "not been evaluated" in verdict(Comparison((), (), ()))[0]


def test_samples_are_right_and_wrong_of_each_group_and_fixed(run_folder):
    comparison = compare(load_run(run_folder))
    samples = choose_samples(comparison)
    assert samples == choose_samples(comparison)
    main = comparison.models[0].evaluated
    for group in comparison.groups:
        rights = [s.answers[0].right for s in samples if s.group == group]
        values = {main.values("exact_match")[s.id] for s in samples if s.group == group}
        assert len(rights) == len(set(rights)) == len(values)
    assert {s.answers[0].right for s in samples} == {True, False}
    assert [a.model for a in samples[0].answers] == [
        "cpd",
        "teacher",
        "sft",
        "kld",
        "student before",
    ]


def test_samples_do_not_depend_on_the_order_of_the_file():
    values = {f"t{i}": float(i % 2) for i in range(20)}
    backwards = dict(reversed(values.items()))
    chosen = []
    for answers in (values, backwards):
        model = Model("cpd", "main", evaluated(answers), {"exact_match": bootstrap([0.5])})
        comparison = Comparison((Metric("exact_match"),), (model,), ())
        chosen.append([sample.id for sample in choose_samples(comparison)])
    assert chosen[0] == chosen[1] and len(chosen[0]) == 2


def test_graded_metrics_are_sampled_near_both_ends():
    values = {f"t{i:03d}": i / 100 for i in range(101)}
    model = Model("cpd", "main", evaluated(values), {"exact_match": bootstrap([0.5])})
    samples = choose_samples(Comparison((Metric("exact_match"),), (model,), ()))
    assert [s.id for s in samples] == ["t090", "t010"]
    assert samples[0].answers[0].right is None


def test_long_texts_are_cut_with_a_note():
    assert shorten("a" * 1200) == "a" * 1200
    assert shorten("a" * 3000).endswith("[... 1,800 more characters]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.0), "0"),
        (number(0.123456), "0.123"),
        (number(12.3456), "12.3"),
        (number(12345.6), "12,346"),
        (number(0.00001234), "1.2e-05"),
        (number(float("nan")), "-"),
        (number(None), "-"),
        (count(1234567), "1,234,567"),
        (percent(0.1234), "12.3 %"),
        (small(0.001), "<0.01"),
        (small(0.0), "0.00"),
        (large(134_515_008), "135 M"),
        (large(412_032), "412 k"),
        (duration(4.25), "4.2 s"),
        (duration(59.7), "1 min 0 s"),
        (duration(3725), "1 h 2 min"),
    ],
)
def test_numbers_for_people(text, expected):
    assert text == expected

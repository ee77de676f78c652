"""What a study's results tell: against loops over single answers, with runs missing, in words."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from rich.console import Console
from study_results import GRID, all_results, ledger, result, scores, study

from tutelage.pipeline.stages.store import STORING
from tutelage.statistics import holm, seeded_difference
from tutelage.studies.analysis import analyse
from tutelage.studies.costs import curve_of
from tutelage.studies.load import load_study
from tutelage.studies.table import as_dict, study_table, to_csv
from tutelage.studies.verdicts import cell_sentence, cost_sentence, verdict_of, verdict_sentences


def printed(analysis, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(study_table(analysis))
    return console.file.getvalue()


def row(analysis, name):
    return next(cell for cell in analysis.cells if cell.name == name)


def by_loops(results, arm, control, keep=lambda group: True):
    """Differences of each seed by example, from the results themselves."""
    runs = []
    for run in results:
        other = [r for r in results if r.arm == control and r.seeds == run.seeds]
        if run.arm == arm and other:
            mine, theirs = run.scores["test:exact_match"], other[0].scores["test:exact_match"]
            runs.append(
                {
                    example: value - theirs.values[list(theirs.ids).index(example)]
                    for example, value, group in zip(
                        mine.ids, mine.values, mine.groups, strict=True
                    )
                    if keep(group)
                }
            )
    return runs


def test_runs_are_paired_by_seed_and_example():
    loaded = study()
    results = all_results(loaded, {"cpd": 0.1})
    rng = np.random.default_rng(0)
    shuffled = [results[i] for i in rng.permutation(len(results))]
    analysis = analyse(loaded, shuffled)
    cell, outcome = row(analysis, "cpd"), row(analysis, "cpd").outcomes["test:exact_match"]
    runs = by_loops(results, "cpd", "kld")
    means = [np.mean(list(run.values())) for run in runs]
    assert outcome.difference.by_seed == pytest.approx(means)
    assert outcome.difference.interval == seeded_difference(runs).interval
    assert outcome.mean == pytest.approx(np.mean(list(outcome.by_seed.values())))
    assert outcome.spread == pytest.approx(np.std(list(outcome.by_seed.values()), ddof=1))
    assert list(outcome.by_seed) == ["0", "1", "2", "3"] == list(cell.seeds)
    hard = cell.groups["hard"].difference
    expected = seeded_difference(by_loops(results, "cpd", "kld", lambda group: group == "hard"))
    assert hard.interval == expected.interval
    assert analysis.groups == ("easy", "hard")
    assert row(analysis, "kld").is_control and analysis.compared == (cell,)


def test_a_shift_of_one_example_is_seen_whatever_the_order_of_the_examples():
    loaded = study(seeds=2)
    kld, cpd = loaded.cells
    right = [1, 0, 1, 1, 0, 0]
    results = []
    for seed in range(2):
        turned = scores(right)
        turned = type(turned)(*(list(reversed(part)) for part in vars(turned).values()))
        results.append(result(kld, seed, right))
        results.append(result(cpd, seed, right, scores={"test:exact_match": turned}))
    difference = row(analyse(loaded, results), "cpd").outcomes["test:exact_match"].difference
    assert difference.by_seed == (0, 0) and difference.test.num_untied == 0


def test_holm_is_over_all_cells_that_are_held_against_another():
    loaded = load_study({**GRID, "seeds": 6})
    analysis = analyse(loaded, all_results(loaded, {"cpd": 0.05}))
    assert [cell.arm for cell in analysis.compared] == ["cpd"] * 6
    found = [cell.outcomes["test:exact_match"] for cell in analysis.compared]
    expected = holm([one.difference.test.p for one in found])
    assert [one.adjusted_p for one in found] == pytest.approx(expected)
    assert analysis.num_tests("test:exact_match") == 6
    for cell in analysis.compared:
        assert row(analysis, cell.control).levels == cell.levels


def test_one_arm_is_held_against_its_own_first_levels():
    loaded = study(arms={"kld": {"extends": "kld"}}, factors={"loss.ce_weight": [0.0, 0.5, 0.9]})
    analysis = analyse(loaded, all_results(loaded))
    assert {cell.control for cell in analysis.compared} == {"kld, ce_weight 0"}


def test_the_closeness_to_the_teacher_is_compared_over_seeds_alone():
    loaded = study()
    results = []
    for seed, (ours, theirs) in enumerate([(0.1, 0.2), (0.15, 0.3), (0.12, 0.2), (0.1, 0.25)]):
        for cell, value in zip(loaded.cells, (theirs, ours), strict=True):
            results.append(result(cell, seed, [1, 0, 1], agreement={"forward_kl": value}))
    analysis = analyse(loaded, results)
    assert [m.key for m in analysis.measures] == ["test:exact_match", "forward_kl"]
    assert analysis.measures[1].metric.lower_is_better
    found = row(analysis, "cpd").outcomes["forward_kl"].difference
    expected = scipy.stats.ttest_1samp([-0.1, -0.15, -0.08, -0.15], 0).confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(expected)
    assert found.test.p == 0.125


def test_where_less_is_better_a_lower_one_is_better():
    loaded = study(measures=["test:nll"])
    results = [
        result(cell, seed, [], scores={"test:nll": scores([level + 0.01 * seed] * 9)})
        for seed in range(4)
        for cell, level in zip(loaded.cells, (1.0, 0.8), strict=True)
    ]
    analysis = analyse(loaded, results)
    assert verdict_of(analysis, row(analysis, "cpd")) == "better"
    assert "better than kld: 0.200 negative log-likelihood" in verdict_sentences(analysis)[0]


def test_what_is_missing_is_said_and_nothing_else_is_lost():
    loaded = study(seeds=3)
    results = [
        r for r in all_results(loaded, {"cpd": 0.1}) if (r.arm, r.seeds["student"]) != ("kld", 1)
    ]
    analysis = analyse(loaded, results)
    assert row(analysis, "kld").missing == ("1",) and row(analysis, "cpd").missing == ()
    found = row(analysis, "cpd").outcomes["test:exact_match"]
    assert len(found.by_seed) == 3 and len(found.difference.by_seed) == 2
    assert "1 of 6 runs are missing: kld, seed 1." in verdict_sentences(analysis)
    assert "2/3" in printed(analysis)


def test_a_study_that_has_just_begun():
    loaded = study()
    nothing = analyse(loaded, [])
    assert verdict_sentences(nothing) == ["No run has been scored yet."]
    assert json.loads(json.dumps(as_dict(nothing), allow_nan=False))["missing"] == 8
    first = analyse(loaded, all_results(loaded, seeds=[0])[:1])
    assert verdict_of(first, row(first, "cpd")) == "missing"
    assert verdict_sentences(first) == [
        "Nothing can be compared yet: no cell shares a seed with its control.",
        "7 of 8 runs are missing: kld, seeds 1, 2, 3; cpd, seeds 0, 1, 2, 3.",
    ]
    assert "cpd" in printed(first) and "0/4" in printed(first)


def test_only_final_runs_of_the_cells_and_seeds_that_the_study_has_now_count():
    loaded = study()
    results = all_results(loaded, {"cpd": 0.1})
    kld, cpd = loaded.cells
    others = [
        result(cpd, 9, [0] * 80),
        result(cpd, 0, [0] * 80, role="search", value=-1.0),
        replace(result(cpd, 0, [0] * 80), cell="cpd, stages 4"),
        result(kld, 0, [0] * 80, seeds={"student": 0, "data": 1}),
    ]
    assert analyse(loaded, [*results, *others]) == analyse(loaded, results)


def test_few_seeds_say_no_more_than_they_can():
    loaded = study(seeds=3)
    analysis = analyse(loaded, all_results(loaded, {"cpd": 0.4}))
    cell = row(analysis, "cpd")
    assert verdict_of(analysis, cell) == "better"
    assert "p 0.25. 3 seeds can give no p below 0.25." in cell_sentence(analysis, cell)
    assert not as_dict(analysis)["cells"][1]["confirmed"]
    alone = study(seeds=1)
    analysis = analyse(alone, all_results(alone, {"cpd": 0.4}))
    assert verdict_of(analysis, row(analysis, "cpd")) == "cannot tell"
    assert "One seed says nothing of how seeds differ." in verdict_sentences(analysis)
    ten = study(seeds=10)
    analysis = analyse(ten, all_results(ten, {"cpd": 0.4}))
    assert as_dict(analysis)["cells"][1]["confirmed"]
    assert "can give no p" not in printed(analysis)


def test_many_cells_are_summed_up_with_what_chance_does_among_them():
    loaded = load_study({**GRID, "seeds": 3})
    analysis = analyse(loaded, all_results(loaded, {"cpd": 0.1}))
    words = " ".join(verdict_sentences(analysis))
    assert words.startswith("Of 6 cells, ") and "One interval in 20" in words
    assert "none could be confirmed" in words and "with the same settings" in words


def test_seeds_that_have_data_of_their_own_are_the_pieces_of_evidence():
    loaded = study(seeds={"student": [0, 1, 2, 3], "data": [0, 1, 2, 3]})
    results = []
    for place in range(4):
        rng = np.random.default_rng(place)
        for cell, share in zip(loaded.cells, (0.5, 0.6), strict=True):
            own = scores(rng.random(40) < share, prefix=f"{place}-")
            seeds = {"student": place, "data": place}
            results.append(result(cell, place, [], scores={"test:exact_match": own}, seeds=seeds))
    found = row(analyse(loaded, results), "cpd").outcomes["test:exact_match"].difference
    expected = scipy.stats.ttest_1samp(found.by_seed, 0).confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(expected)
    assert found.num_data_sets == 4


def test_examples_of_a_cluster_count_once():
    loaded = study(seeds=2)
    plain, clustered = [], []
    for seed in range(2):
        for cell, right in zip(loaded.cells, ([0, 1, 0, 1] * 10, [1, 1, 0, 0] * 10), strict=True):
            names = [f"passage {i % 4}" for i in range(40)]
            plain.append(result(cell, seed, right))
            own = {"test:exact_match": scores(right, clusters=names)}
            clustered.append(result(cell, seed, right, scores=own))
    width = [
        np.ptp([found.interval.low, found.interval.high])
        for runs in (plain, clustered)
        for found in [row(analyse(loaded, runs), "cpd").outcomes["test:exact_match"].difference]
    ]
    assert width[1] > 2 * width[0]


def test_what_cells_spent_against_their_control():
    loaded = study(equal={"by": "flops", "updates": 60})
    results = [
        result(cell, seed, [1, 0], ledger=own)
        for seed in range(4)
        for cell, own in zip(
            loaded.cells, (ledger(), ledger(factor=0.9, difficulty=2e10)), strict=True
        )
    ]
    analysis = analyse(loaded, results)
    cost = row(analysis, "cpd").cost
    assert cost.excess == pytest.approx((2.7e11 + 1e11 + 2e10) / 4e11 - 1)
    assert cost.flops == {"training": 2.7e11, "teacher": 1e11, "difficulty": 2e10}
    assert cost_sentence(analysis).endswith("the largest deviation from a control is -2.5 % (cpd).")
    curve = row(analysis, "cpd").curve
    assert curve.steps == (20, 40, 60) and curve.measure == "log_likelihood"
    assert curve.flops[-1] == pytest.approx(2e10 + 3.7e11 * 60 / 54)
    assert curve.seconds[0] == pytest.approx(2.0 + 4.0)
    assert curve.spreads[0] == pytest.approx(np.std([0, 0.01, 0.02, 0.03], ddof=1))
    stored = ledger(**{"difficulty": 2e10})
    stored.seconds[STORING] = 5.0  # the teacher was asked before the first update
    curve = curve_of([result(loaded.cells[0], 0, [1], ledger=stored)], "log_likelihood")
    assert curve.flops[0] == pytest.approx(2e10 + 1e11 + 3e11 * 20 / 60)
    assert curve.seconds[0] == pytest.approx(2.0 + 5.0 + 4.0)


def test_the_search_is_told_with_what_it_saved():
    loaded = study(search={"factors": {"training.learning_rate": [0.001, 0.002]}, "rungs": 2})
    kld, _ = loaded.cells
    results = []
    for trial, steps in zip(loaded.trials(kld), ([20], [20, 60]), strict=True):
        tuned = {level.factor: level.label for level in trial.tuned}
        for step in steps:
            value = None if step == 20 and steps == [20] else -1.0 / step
            results.append(
                result(
                    kld, 1000, [], role="search", tuned=tuned, steps=step, value=value, scores={}
                )
            )
    results.append(result(kld, 0, [1, 0], tuned={"training.learning_rate": "0.002"}))
    (race,) = analyse(loaded, results).races
    assert race.trials[0].settings == "learning_rate 0.002" and race.trials[0].chosen
    assert race.trials[0].rungs == ((20, -0.05), (60, -1 / 60))
    assert race.trials[1].rungs == ((20, None),) and not race.trials[1].chosen
    assert (race.updates, race.whole) == (80, 120)
    assert row(analyse(loaded, results), "kld").tuned == ("learning_rate 0.002",)


def test_what_a_race_of_all_arms_left_behind_is_not_missing():
    loaded = study(
        arms={name: {"extends": name} for name in ("kld", "cpd", "sft")},
        search={"factors": {"training.learning_rate": [0.001]}, "across_arms": True},
    )
    results = [r for r in all_results(loaded) if r.arm != "sft"]
    analysis = analyse(loaded, results)
    assert analysis.left == ("sft",) and analysis.num_missing == 0
    assert [cell.name for cell in analysis.cells] == ["kld", "cpd"]


def test_the_table_fits_a_terminal_and_obeys_no_markup():
    loaded = load_study({**GRID, "factors": {"loss.ce_weight": {"[bold]none[/]": 0.0}}})
    text = printed(analyse(loaded, all_results(loaded, {"cpd": 0.1})))
    assert "[bold]none[/]" in text and max(map(len, text.splitlines())) <= 80
    assert "95 %" in text and "cpd" in text


def test_json_and_csv_hold_every_number():
    loaded = study(seeds=2)
    results = all_results(loaded, {"cpd": 0.1})
    plain = json.loads(json.dumps(as_dict(analyse(loaded, results)), allow_nan=False))
    cell = plain["cells"][1]
    assert cell["verdict"] in ("better", "cannot tell") and cell["words"]
    assert cell["outcomes"]["test:exact_match"]["difference"]["test"]["least_p"] == 0.5
    rows = list(csv.DictReader(io.StringIO(to_csv(results))))
    assert len(rows) == 4
    assert float(rows[0]["test:exact_match"]) == pytest.approx(
        results[0].scores["test:exact_match"].mean
    )
    assert rows[0]["student seed"] == "0" and float(rows[0]["FLOPs"]) == 4e11
    assert math.isclose(float(rows[1]["agreement forward_kl"]), 0.21)

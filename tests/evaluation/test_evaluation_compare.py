"""Two models on the same questions, from the files that evaluations keep."""

import json

import pytest
import scipy.stats

from tutelage.errors import DataError
from tutelage.evaluation import Answers, compare_answers, compare_models
from tutelage.evaluation.compare import forms_differ
from tutelage.evaluation.kept import read_answers
from tutelage.statistics import holm


def row(i, score, *, cluster="", group="", answer_score=None, prompt=None):
    return {
        "id": f"q{i}",
        "prompt": prompt or f"What is {i}?",
        "reference": str(i),
        "answer": "x",
        "answer_scores": {"right": score if answer_score is None else answer_score},
        "group": group,
        "cluster": cluster,
        "scores": {"right": score, "length": 0.5},
    }


def answers(model, rows):
    return Answers(model, {one["id"]: one for one in rows})


def scored(model, scores, **options):
    return answers(model, [row(i, score, **options) for i, score in enumerate(scores)])


@pytest.fixture
def folder(tmp_path):
    rows = [row(i, float(i % 2)) for i in range(4)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (tmp_path / "scores.json").write_text(json.dumps({"num_examples": 4}))
    return tmp_path


def test_right_and_wrong_answers_are_compared_pair_by_pair():
    first = scored("A", [1.0] * 12 + [0.0] * 3 + [1.0] * 5)
    second = scored("B", [0.0] * 12 + [1.0] * 3 + [1.0] * 5)
    found = compare_answers(first, second)
    assert (found.first, found.second, found.metric) == ("A", "B", "right")
    assert found.difference.mean == pytest.approx(9 / 20) and found.difference.excludes_zero
    assert found.test.p == found.adjusted_p == scipy.stats.binomtest(3, 15).pvalue
    assert found.test.least_p == 2 / 2**15 and found.num_shared == found.num_clusters == 20
    assert found.standard_error == pytest.approx(scipy.stats.sem([1.0] * 12 + [-1] * 3 + [0] * 5))
    assert found.binary and len(found.changes) == 15
    assert {change.id for change in found.second_better} == {"q12", "q13", "q14"}
    assert len(found.first_better) == 12


def test_the_order_of_changes_is_a_rule_and_not_the_order_of_the_file():
    scores = [0.9, 0.5, 0.2, 0.7]
    first, second = scored("A", scores), scored("B", [0.4, 0.5, 0.8, 0.2])
    found = compare_answers(first, second)
    assert not found.binary
    # 0.9 - 0.4 and 0.7 - 0.2 are equal but for rounding.
    assert found.changes[0].id == "q2" and {c.id for c in found.changes[1:]} == {"q0", "q3"}
    backwards = [Answers(a.model, dict(reversed(a.rows.items()))) for a in (first, second)]
    assert compare_answers(*backwards) == found


def test_what_is_shown_has_its_own_score_and_not_the_mean_over_seeds():
    first, second = scored("A", [0.5, 0.5], answer_score=1.0), scored("B", [0.5, 0.0])
    found = compare_answers(first, second)
    assert found.difference.mean == 0.25
    assert [(c.first, c.second) for c in found.changes] == [(1.0, 0.0), (1.0, 0.5)]


def test_questions_about_one_passage_count_as_one():
    rows = [
        (row(i, 1.0, cluster=f"p{i // 8}"), row(i, 0.0, cluster=f"p{i // 8}")) for i in range(24)
    ]
    found = compare_answers(answers("A", [a for a, _ in rows]), answers("B", [b for _, b in rows]))
    assert (found.num_shared, found.num_clusters) == (24, 3)
    assert found.test.p == found.test.least_p == 0.25 and "sign-flip" in found.test.name


def test_questions_of_one_model_alone_are_counted_and_left_out():
    first = scored("A", [1.0, 0.0, 1.0])
    second = answers("B", [row(i, 0.0) for i in range(1, 7)])
    second.rows["q1"]["scores"]["right"] = None
    found = compare_answers(first, second)
    assert (found.num_shared, found.num_first_only, found.num_second_only) == (1, 2, 4)
    assert found.difference.mean == 1.0 and not found.difference.known


def test_groups_are_compared_apart():
    groups = ["easy"] * 6 + ["hard"] * 4
    first = answers("A", [row(i, 1.0, group=g) for i, g in enumerate(groups)])
    second = answers("B", [row(i, float(g == "easy"), group=g) for i, g in enumerate(groups)])
    found = compare_answers(first, second).groups
    assert {g: (d.interval.mean, d.num_examples) for g, d in found.items()} == {
        "easy": (0.0, 6),
        "hard": (1.0, 4),
    }


def test_several_models_are_held_against_the_first_and_adjusted_together():
    first = scored("A", [1.0] * 10)
    others = [
        scored(name, [1.0] * (10 - k) + [0.0] * k) for name, k in zip("BCD", (3, 9, 6), strict=True)
    ]
    found = compare_models([first, *others])
    assert [one.second for one in found] == ["B", "C", "D"]
    p_values = [2 / 2**k for k in (3, 9, 6)]
    assert [one.test.p for one in found] == p_values
    assert [one.adjusted_p for one in found] == holm(p_values)


def test_other_metrics_are_compared_by_name():
    first, second = scored("A", [1.0, 0.0]), scored("B", [0.0, 0.0])
    found = compare_answers(first, second, "length")
    assert (found.metric, found.difference.mean, found.test.p) == ("length", 0.0, 1.0)


def test_answers_are_read_from_a_folder(folder):
    found = Answers.read(folder, "A")
    assert found.model == "A" and list(found.rows) == ["q0", "q1", "q2", "q3"]
    assert found.metrics == ("right", "length")
    assert compare_answers(found, Answers.read(folder)).difference.mean == 0.0


@pytest.mark.parametrize("key", ["prompt", "reference"])
def test_other_questions_under_the_same_ids_are_refused(key):
    first, second = scored("A", [1.0, 0.0]), scored("B", [0.0, 0.0])
    second.rows["q1"][key] = "another"
    with pytest.raises(DataError, match=rf"question 'q1' has another {key} .*1 of 2 shared ids"):
        compare_answers(first, second)


def test_one_question_may_be_asked_in_two_forms():
    first, second = scored("A", [1.0, 0.0]), scored("B", [0.0, 0.0])
    for one in (first, second):
        for i in ("q0", "q1"):
            one.rows[i]["question"] = f"digest of {i}"
    assert not forms_differ(first, second)
    second.rows["q1"]["prompt"] = "Question: What is 1?\nAnswer:"
    assert compare_answers(first, second).num_shared == 2 and forms_differ(first, second)
    second.rows["q1"]["question"] = "digest of another"
    with pytest.raises(DataError, match="question 'q1' has another prompt"):
        compare_answers(first, second)


def test_models_that_share_nothing_are_refused():
    first = scored("A", [1.0])
    with pytest.raises(DataError, match=r"share no question .*same suite, data and limit"):
        compare_answers(first, answers("B", [row(7, 1.0)]))
    with pytest.raises(DataError, match=r"do not both have the score 'bleu': .*right, length"):
        compare_answers(first, scored("B", [1.0]), "bleu")
    second = scored("B", [1.0])
    second.rows["q0"]["scores"] = {"other": 1.0}
    with pytest.raises(DataError, match=r"do not both have a score: .*right, length, and other"):
        compare_answers(first, second)


def test_a_folder_without_answers_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no answers to compare. Give the folder of an evaluation"):
        read_answers(tmp_path)


@pytest.mark.parametrize("damage", ["torn", "short", "twice"])
def test_damaged_answers_are_refused(folder, damage):
    path = folder / "answers.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines = {
        "torn": [*lines[:3], lines[3][:9]],
        "short": lines[:3],
        "twice": [*lines[:3], lines[0]],
    }
    path.write_text("".join(lines[damage]))
    words = "ids repeat" if damage == "twice" else "3 of 4 answers can be read"
    with pytest.raises(DataError, match=words):
        read_answers(folder)

"""What CONTRIBUTING promises: a new piece is one function and one row of a table.

Each piece is defined here and put into its table; recipes, plans, training, evaluation and
``tutelage ls`` know it without another line.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pytest
import torch
from killing import make_models, small_recipe

from tutelage import run
from tutelage.catalogue import catalogue
from tutelage.components import Component, Limits
from tutelage.curriculum import CURRICULA, Curriculum, load_plan
from tutelage.difficulty import DIFFICULTIES, load_profile
from tutelage.difficulty.table import Difficulty
from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError
from tutelage.files import read_json, read_jsonl
from tutelage.recipe import load_recipe
from tutelage.schedules import SCHEDULES
from tutelage.targets import TARGETS
from tutelage.verifiers import VERIFIERS


def doubling(running_mean, num_stages: int, *, first: int = 1):
    """Pacing: each stage has twice the examples of the one before; the last has all."""
    sizes = np.minimum(first * 2 ** np.arange(num_stages), len(running_mean))
    sizes[-1] = len(running_mean)
    return sizes


def count_letters(
    rationales: Sequence[str], *, letter: str, most: Annotated[int, Limits(1, 9)] = 9
):
    """Difficulty: how often a letter stands in the answer."""
    return np.asarray([min(text.count(letter), most) for text in rationales])


def chi_squared(teacher_logp, student_logp, *, weight: float = 1.0):
    """Divergence: the mean over the teacher of how far the ratio is from 1."""
    ratio = (student_logp - teacher_logp).exp()
    return weight * (teacher_logp.exp() * (ratio - 1.0) ** 2).sum(-1)


def power_mix(teacher_logp, student_logp, student_share, *, power: float = 1.0):
    """Target: the teacher, sharper or flatter."""
    return torch.log_softmax(power * teacher_logp, -1)


def saw(*, teeth: int, height: float = 1.0):
    """Schedule: rises from 1 again and again."""
    return lambda progress: 1.0 + height * ((progress * teeth) % 1.0)


def as_long(answer: str, references: Sequence[str], *, slack: int = 0) -> float:
    """Metric: 1 when the answer is as long as a reference, more or less."""
    return float(any(abs(len(answer) - len(one)) <= slack for one in references))


PIECES = {
    "curricula": (CURRICULA, "doubling", Curriculum(doubling, "twice the examples")),
    "difficulties": (
        DIFFICULTIES,
        "count_letters",
        Difficulty(count_letters, "letters of the answer", needs=("rationales",), unit="letters"),
    ),
    "divergences": (DIVERGENCES, "chi_squared", Component(chi_squared, "chi squared")),
    "targets": (TARGETS, "power_mix", Component(power_mix, "the teacher, sharper")),
    "schedules": (SCHEDULES, "saw", Component(saw, "a saw")),
    "metrics": (VERIFIERS, "as_long", Component(as_long, "1 when as long")),
}
NAMED = {
    "curriculum": {"kind": "doubling", "first": 6, "stages": 3, "total_steps": 3},
    "difficulty": {"kind": "count_letters", "letter": "#", "most": 5},
    "loss": {
        "divergence": {"kind": "chi_squared", "weight": 0.5},
        "target": {"kind": "power_mix", "power": 1.5},
        "distill_temperature": {"kind": "saw", "teeth": 2, "per": "step"},
    },
    "evaluation": {"metrics": {"as_long": {"slack": 1000}}, "max_new_tokens": 4},
    "selection": {"metric": "as_long"},
    "controls": {},
}


@pytest.fixture
def pieces(monkeypatch):
    """The rows, as a user's own module would add them."""
    for table, name, row in PIECES.values():
        monkeypatch.setitem(table, name, row)


def test_a_new_piece_is_listed(pieces):
    for family, (_, name, row) in PIECES.items():
        (entry,) = (entry for entry in catalogue(family)[family] if entry["name"] == name)
        assert entry["summary"] == row.summary


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("curriculum.frist=3", "curriculum 'doubling' has no option 'frist'. Did you mean 'first'"),
        ("curriculum.first=many", "curriculum.first: must be a whole number"),
        ("curriculum.kind=dobling", "Did you mean 'doubling'"),
        ("difficulty.leter=a", "no option 'leter'. Did you mean 'letter'"),
        ("difficulty.most=10", "difficulty.most: must be between 1 and 9, not 10"),
        ("difficulty.kind=count_leters", "Did you mean 'count_letters'"),
        ("loss.divergence.wieght=1", "no option 'wieght'. Did you mean 'weight'"),
        ("loss.divergence.weight=0", "nothing would be learned"),
        ("loss.target.power=x", "loss.target.power: must be a number"),
        ("loss.distill_temperature.tooth=1", "no option 'tooth'. Did you mean 'teeth'"),
        ("loss.distill_temperature.teeth=1.5", "distill_temperature.teeth: must be a whole number"),
        ("loss.distill_temperature.height=-5", "must stay between 0.001 and 1000"),
        ("evaluation.metrics.as_long.slak=1", "no option 'slak'. Did you mean 'slack'"),
    ],
)
def test_what_does_not_fit_a_new_piece_is_told(pieces, change, words):
    with pytest.raises(ConfigError) as caught:
        load_recipe({"extends": "cpd", **NAMED}, [change], partial=True)
    assert words in str(caught.value) and str(caught.value).startswith("--set: ")


def test_another_kind_makes_the_options_of_a_new_piece_void(pieces):
    recipe = load_recipe({"extends": "cpd", **NAMED}, ["curriculum.kind=random"], partial=True)
    assert recipe.recipe.curriculum.options == {} and recipe.recipe.curriculum.total_steps == 3


def test_a_recipe_of_new_pieces_plans_trains_and_is_evaluated(pieces, tmp_path):
    make_models(tmp_path)
    folder = tmp_path / "run"
    run(small_recipe(tmp_path, max_steps=2) | NAMED, run_dir=folder)
    plan = load_plan(folder / "arms/cpd/plan")
    assert [stage.num_examples for stage in plan.stages] == [6, 12, 40]
    assert plan.distill_temperature.tolist() == [1.0, 1.0, 1.0]
    assert set(load_profile(folder / "difficulty/profile.parquet").scores) <= {0, 1, 2, 3, 4, 5}
    assert read_json(folder / "difficulty/summary.json")["unit"] == "letters"
    rows = read_jsonl(folder / "arms/cpd/metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2] and all(row["kd"] > 0 for row in rows)
    assert "as_long" in read_json(folder / "arms/cpd/evaluation/scores.json")["scores"]

"""The generator of easy problems: different, seeded, solved by their own answers."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tutelage.data import load_examples
from tutelage.verifiers import number

PATH = Path(__file__).parents[2] / "benchmarks" / "easy_problems.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("easy_problems", PATH)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_files_load_with_groups_and_share_no_prompt(module, tmp_path):
    module.main([str(tmp_path), "--train", "60", "--test", "20"])
    train, test = (
        load_examples(str(tmp_path / f"{name}.jsonl")).examples for name in ("train", "test")
    )
    assert (len(train), len(test)) == (60, 20)
    prompts = [example.fields["prompt"] for example in (*train, *test)]
    assert len(set(prompts)) == 80
    assert {example.group for example in train} == set(module.GROUPS)


def test_answers_are_right_and_ask_for_what_the_prompt_holds(module):
    for row in module.problems(500, seed=3):
        left, right = row["completion"].split(" = ")
        assert eval(left) == int(right)
        assert number(row["completion"], [right]) == 1.0
        assert sorted(re.findall(r"\d+", row["prompt"])) == sorted(re.findall(r"\d+", left))


def test_the_seed_alone_decides(module, tmp_path):
    for place in ("a", "b"):
        module.main([str(tmp_path / place), "--seed", "1"])
    texts = [(tmp_path / place / "train.jsonl").read_text() for place in ("a", "b")]
    assert texts[0] == texts[1]
    assert json.dumps(module.problems(50, 0)) != json.dumps(module.problems(50, 1))


def test_more_than_there_are_is_refused(module):
    with pytest.raises(SystemExit, match="1 to 500"):
        module.problems(501, 0)

"""Suites that generate nothing, broken off at every piece: nothing is read twice or lost."""

import functools
import itertools
import json

import pytest

from conftest_models import tiny_model
from tutelage.data.arithmetic import arithmetic_examples, build_tokenizer
from tutelage.evaluation import Suite, bound_metrics, evaluate_suite, make_suite, save_evaluation
from tutelage.evaluation.pieces import keep_in, pieces_to_measure, worth_keeping
from tutelage.generation import GenerationSettings, LocalEngine

TOKENIZER = build_tokenizer()
ASKED = Suite(
    "asked", bound_metrics({"rouge_l": {}}), generation=GenerationSettings(batch_tokens=16)
)
INPUTS = {"of": "these"}


class Killed(Exception):
    pass


@pytest.fixture
def model():
    return tiny_model(seed=1, vocab=len(TOKENIZER))


@pytest.fixture(params=["choice", "perplexity", "agreement"])
def suite(request, model, tmp_path):
    examples = list(arithmetic_examples("test", 15))
    data = tmp_path / "data.jsonl"
    rows = [
        {"question": e.fields["prompt"], "options": ["1", "23", e.completion[:4]], "answer": 2}
        if request.param == "choice"
        else {"text": e.fields["prompt"] + e.completion, "domain": e.group}
        for e in examples
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"data": str(data)}
    if request.param == "choice":
        options["way"] = "likelihood"
    if request.param == "agreement":
        teacher = tmp_path / "teacher"
        tiny_model(seed=2, vocab=len(TOKENIZER)).save_pretrained(teacher)
        TOKENIZER.save_pretrained(teacher)
        options["teacher"] = str(teacher)
    return make_suite(request.param, options, ASKED)


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def broken_off(suite, after):
    """The same suite, killed when it asks for one more piece; and what it read."""
    read_ids, measure = [], suite.measure
    reader = type(measure).reader

    def until(self, engine, suite):
        read = reader(self, engine, suite)

        def counted(questions, progress):
            if len(read_ids) == after:
                raise Killed
            read_ids.append([question.id for question in questions])
            return read(questions, progress)

        return counted

    return until, read_ids


def test_a_kill_between_any_two_pieces(suite, model, tmp_path, monkeypatch):
    engine, questions = LocalEngine(model, TOKENIZER), suite.questions()
    assert worth_keeping(suite, questions)
    pieces = list(pieces_to_measure(questions, suite))
    assert 3 < len(pieces) <= len(questions)
    assert sorted(itertools.chain(*pieces)) == list(range(len(questions)))
    unbroken = tmp_path / "unbroken"
    save_evaluation(unbroken, evaluate_suite(engine, questions, suite))
    for after in range(len(pieces)):
        place = tmp_path / f"kept{after}"
        with monkeypatch.context() as patch:
            until, first = broken_off(suite, after)
            patch.setattr(type(suite.measure), "reader", until)
            with pytest.raises(Killed):
                evaluate_suite(engine, questions, suite, kept=keep_in(place, INPUTS))
        kept = keep_in(place, INPUTS)
        assert len(kept) == sum(map(len, first))
        seen = []
        with monkeypatch.context() as patch:
            until, second = broken_off(suite, -1)
            patch.setattr(type(suite.measure), "reader", until)
            progress = functools.partial(lambda found, *done: found.append(done), seen)
            evaluated = evaluate_suite(engine, questions, suite, progress, kept=kept)
        assert len(first) + len(second) == len(pieces)
        assert sorted(itertools.chain(*first, *second)) == sorted(
            question.id for question in questions
        )
        again = tmp_path / f"again{after}"
        save_evaluation(again, evaluated)
        assert files(again) == files(unbroken)
        assert seen == sorted(seen) and seen[-1] == (len(questions), len(questions))

"""Any model with any suite: `tutelage eval` from a file to results, cut off and gone on with."""

import json

import pytest
from killing import make_models

from tutelage.cli.evaluation import chosen_suites
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.evaluation.judge import JudgeSettings
from tutelage.files import read_json, read_jsonl
from tutelage.generation import Answer, LocalEngine
from tutelage.pipeline.context.subjects import slug_of
from tutelage.pipeline.evals import evaluate_models
from tutelage.pipeline.judging import judge_answers
from tutelage.report.judged import judged_lines

SAMPLED = [
    "evaluation.sampling_temperature=1",
    "evaluation.seeds=[1, 2]",
    "evaluation.max_new_tokens=6",
    "evaluation.batch_tokens=8",  # few at once, so that there are many pieces
    "evaluation.metrics={exact_match: {after: '#'}}",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    make_models(folder)
    rows = [
        {"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion, "level": e.group}
        for e in arithmetic_examples("test", 12, levels=(1, 2))
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def ask(place, tmp_path):
    def ask(models=("calm",), out="out", settings=SAMPLED, **options):
        suites = [{"kind": "file", "data": str(place / "sums.jsonl"), **options}]
        names = [str(place / model) for model in models]
        return evaluate_models(names, suites, settings, out=tmp_path / out, quiet=True)

    return ask


def test_what_is_asked_is_kept_and_asked_once(ask, tmp_path, monkeypatch):
    first, second = ask(["calm", "teacher"])
    assert (first.model, second.model) == ("calm", "teacher") and first.suite == "file"
    rows = read_jsonl(tmp_path / "out/calm/file/answers.jsonl")
    assert len(rows) == 12 and first.num_examples == 12
    assert [sample["seed"] for sample in rows[0]["samples"]] == [1, 2]
    assert {row["group"] for row in rows} == {"1", "2"}
    page = (tmp_path / "out/report.html").read_text()
    assert "calm" in page and "teacher" in page
    about = read_json(tmp_path / "out/calm/file/suite.json")
    assert about["model"] == "calm" and about["asked"]["kind"] == "file"
    monkeypatch.setattr(LocalEngine, "answer", None)
    again = ask(["calm", "teacher"])
    assert [result.reused for result in again] == [True, True]
    assert [result.scores for result in again] == [first.scores, second.scores]


def test_another_question_or_setting_is_asked_anew(ask, place):
    assert not ask()[0].reused
    assert ask()[0].reused
    assert ask(settings=[*SAMPLED, "evaluation.limit=3"])[0].num_examples == 3
    assert not ask(settings=[*SAMPLED, "evaluation.seeds=[3]"])[0].reused


def test_an_evaluation_that_is_cut_off_goes_on_and_ends_the_same(ask, tmp_path, monkeypatch):
    ask(out="whole")
    answer, calls = LocalEngine.answer, []

    def dies(self, prompts, *arguments, **options):
        calls.append(len(prompts))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return answer(self, prompts, *arguments, **options)

    monkeypatch.setattr(LocalEngine, "answer", dies)
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert not (tmp_path / "out/calm").exists(), "nothing half-written"
    ask()
    assert len(calls) > 5 and sum(calls) == 24 + calls[3], "no answer is asked for twice"
    for name in ("answers.jsonl", "scores.json"):
        whole = (tmp_path / "whole/calm/file" / name).read_bytes()
        assert (tmp_path / "out/calm/file" / name).read_bytes() == whole
    assert not any((tmp_path / "out/.unfinished").iterdir())


@pytest.mark.parametrize(
    ("kind", "message"),
    [("fil", "Did you mean 'file'"), ("test", "asks the test rows of a recipe's data")],
)
def test_a_suite_that_cannot_be_asked_is_named(place, tmp_path, kind, message):
    with pytest.raises(ConfigError, match=message):
        evaluate_models([str(place / "calm")], [{"kind": kind}], out=tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_new_tokens=4", "'choice', which has its own. Set that: --set choice.max_new_tokens="),
        ("seeds=[1, 2]", "'choice', which has its own and no option for it"),
        ("metrics=[rouge_l]", "'choice', which is scored by choice"),
    ],
)
def test_what_is_set_for_all_and_reaches_no_suite_is_refused(ask, tmp_path, setting, message):
    data = tmp_path / "options.jsonl"
    data.write_text('{"question": "7+7", "options": ["14", "15"], "answer": "A"}\n')
    with pytest.raises(ConfigError, match=f"would change nothing for {message}"):
        ask(settings=[f"evaluation.{setting}"], kind="choice", data=str(data))
    with pytest.raises(ConfigError, match="'choice', which writes no answers"):
        ask(settings=[f"evaluation.{setting}"], kind="choice", data=str(data), way="likelihood")


def test_what_is_set_for_all_is_said_of_a_suite_that_it_does_not_reach(place, tmp_path, capsys):
    suites = [
        {"kind": "file", "data": str(place / "sums.jsonl")},
        {"kind": "arithmetic", "count": 1, "max_new_tokens": 9},
    ]
    settings = ["evaluation.max_new_tokens=4", "evaluation.limit=1"]
    evaluate_models([str(place / "calm")], suites, settings, out=tmp_path, quiet=True)
    said = capsys.readouterr().err
    assert "max_new_tokens=4 does not count for 'arithmetic'" in said and "'file'" not in said
    for name, tokens in (("file", 4), ("arithmetic", 9)):
        asked = read_json(tmp_path / f"calm/{name}/suite.json")["asked"]
        assert asked["generation"]["max_new_tokens"] == tokens


def test_prompts_that_leave_no_room_are_told_each_time(ask, capsys):
    settings = ["evaluation.max_total_tokens=3", "evaluation.seeds=[1]"]
    for _ in range(2):  # made, and reused
        (found,) = ask(settings=settings)
        assert found.without_room == 12 and found.truncated == 1.0
        assert "12 of 12 answers were cut before their first word" in capsys.readouterr().err


def test_mistakes_are_found_before_a_model_is_loaded(ask, place, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        ask(data=str(place / "sum.jsonl"))
    with pytest.raises(DataError, match="Metric 'number', example"):
        ask(settings=["evaluation.metrics=[number]"], data=str(words(tmp_path)))
    with pytest.raises(ModelError):
        ask(["clam"])
    with pytest.raises(ConfigError, match="'calm' is there twice"):
        ask(["calm", "calm"])


def words(folder):
    path = folder / "words.jsonl"
    path.write_text(json.dumps({"prompt": "7+7=", "completion": "fourteen"}) + "\n")
    return path


def test_a_judge_who_always_says_the_first_is_shown_to_be_biased(ask, place, tmp_path, monkeypatch):
    ask(["calm", "teacher"])
    asked = []

    def first(self, prompts, settings, *, seed=0, progress=None, on_answer=None):
        asked.append(len(prompts))
        answers = [Answer("[[A]]", 3, "stop") for _ in prompts]
        for number, answer in enumerate(answers):
            on_answer(number, answer)
        return answers

    monkeypatch.setattr(LocalEngine, "answer", first)
    folders = [tmp_path / "out" / model / "file" for model in ("calm", "teacher")]
    options = {"out": tmp_path / "out", "quiet": True}
    found = judge_answers(*folders, str(place / "calm"), JudgeSettings(), **options)
    report = found.report
    assert report.pairs == report.counted == 12
    assert report.win_rate.mean == 0.5 and report.flips == 1.0 and report.first_shown.mean == 1.0
    words = "\n".join(judged_lines(found.first, found.second, report))
    assert "calm wins 50.0 %" in words and "100 % of pairs had another winner" in words
    assert report.first_shown.low == pytest.approx(12 / (12 + 1.959964**2)), "of twelve, no more"
    assert found.path.name == f"calm--teacher--file--{slug_of(str(place / 'calm'))[-60:]}.json"
    other = judge_answers(*folders, str(place / "teacher"), JudgeSettings(), **options)
    assert other.path != found.path and found.path.is_file()
    assert read_json(found.path)["flips"] == 1.0
    before = sum(asked)
    again = judge_answers(*folders, str(place / "calm"), JudgeSettings(), **options)
    assert sum(asked) == before and again.report.win_rate == report.win_rate, (
        "nobody is asked twice"
    )


@pytest.mark.parametrize(
    ("names", "data", "expected"),
    [
        ("file", ["a.jsonl"], [("", "a.jsonl")]),
        ("file", ["mine=a.jsonl"], [("file-mine", "a.jsonl")]),
        ("file", ["a.jsonl", "b.jsonl.gz"], [("file-a", "a.jsonl"), ("file-b", "b.jsonl.gz")]),
        ("file,arc", ["arc=a.jsonl", "file=b.jsonl"], [("", "b.jsonl"), ("", "a.jsonl")]),
    ],
)
def test_files_go_to_their_suites(names, data, expected):
    suites, settings = chosen_suites(names, data, ["arc.shots=3", "precision=bfloat16"], 7, False)
    assert [(one.get("name", ""), one["data"]) for one in suites] == expected
    assert [one.get("shots") for one in suites if one["kind"] == "arc"] in ([], [3])
    assert settings[-1] == "evaluation.limit=7" and "evaluation.precision=bfloat16" in settings
    with pytest.raises(ConfigError, match="does not say which of the suites file, arc"):
        chosen_suites("file,arc", ["a.jsonl"], [], None, False)

"""Runs that ask a server: a teacher that is elsewhere writes, a student elsewhere is measured."""

import json

import pytest
from killing import make_models

from conftest_models import tiny_model
from loopback import Hostile, completion, serving
from tutelage import run
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, ServerError
from tutelage.files import read_json, read_jsonl
from tutelage.generation import LocalEngine
from tutelage.generation.engines import server_calls
from tutelage.pipeline.context.models import Models
from tutelage.recipe import load_recipe
from tutelage.recipe.effects import effective


@pytest.fixture
def overrides(tmp_path, monkeypatch):
    monkeypatch.setattr(server_calls, "FIRST_WAIT", 0.001)
    make_models(tmp_path)
    changes = {
        "student.model": str(tmp_path / "student"),
        "teacher.model": str(tmp_path / "teacher"),
        "data.kind": "arithmetic",
        "data.train": 8,
        "data.validation": 4,
        "data.test": 4,
        "data.max_length": 128,
        "curriculum.stages": 1,
        "curriculum.total_steps": 2,
        "training.batch_size": 4,
        "training.micro_batch_size": 4,
        "supervision.max_new_tokens": 8,
        "evaluation.metrics": "[exact_match]",
        "evaluation.agreement": "false",
        "evaluation.max_new_tokens": 8,
        "output": str(tmp_path / "runs"),
    }
    return [f"{path}={value}" for path, value in changes.items()]


def engine(url, **options):
    return "engine=" + json.dumps({"kind": "server", "base_url": url, "retries": 1, **options})


def texts_in(folder):
    (store,) = (folder / "runs/cache").glob("texts-*/texts.jsonl")
    return {row["id"]: row["text"] for line in store.open() for row in json.loads(line)["texts"]}


def says(text):
    return Hostile(lambda body, number: completion(text, tokens=3))


def no_teacher_here(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a teacher that is elsewhere was loaded")

    monkeypatch.setattr(Models, "load_teacher", refuse)


def test_a_teacher_on_a_server_writes_and_is_tested_there_and_the_student_here(
    tmp_path, overrides, monkeypatch
):
    no_teacher_here(monkeypatch)
    for weights in (tmp_path / "teacher").glob("*.safetensors"):
        weights.unlink()
    with says("7#7") as server:
        folder = run("seqkd", [*overrides, engine(server.url)], run_dir=tmp_path / "run").folder
        asked = len(server.asked)
        assert asked == 8 + 4, "texts and the teacher's test; students are asked here"
        run("seqkd", [*overrides, engine(server.url, concurrency=1)], run_dir=tmp_path / "again")
        assert len(server.asked) == asked, "all that it said is there, whatever it costs to ask"
    assert set(texts_in(tmp_path).values()) == {"7#7"}
    answers = {
        model: {row["answer"] for row in read_jsonl(folder / model / "evaluation/answers.jsonl")}
        for model in ("references/teacher", "references/student_before", "arms/seqkd")
    }
    assert answers["references/teacher"] == {"7#7"}
    assert "7#7" not in answers["references/student_before"] | answers["arms/seqkd"]
    shown = (folder / "recipe.yaml").read_text()
    assert server.url in shown


def test_a_server_gives_what_the_model_here_gives(tmp_path, overrides):
    tokenizer = build_tokenizer()
    teacher = tiny_model(vocab=len(tokenizer), seed=2, hidden=24)
    here = run("seqkd", overrides, run_dir=tmp_path / "here").folder
    texts = texts_in(tmp_path)
    with serving(teacher, tokenizer) as server:
        moved = [*overrides, f"output={tmp_path / 'other/runs'}", engine(server.url)]
        there = run("seqkd", moved, run_dir=tmp_path / "there").folder
    assert texts_in(tmp_path / "other") == texts
    for part in ("references/teacher", "references/student_before"):
        scores = [read_json(one / part / "evaluation/scores.json") for one in (here, there)]
        assert scores[0]["scores"] == scores[1]["scores"]


def test_a_student_on_a_server_is_asked_for_its_difficulty(tmp_path, overrides):
    changes = ["difficulty={kind: failure_rate, samples: 2, verifier: {kind: exact_match}}"]
    with says("7#7") as server:
        changes += ["curriculum.kind=calibrated", engine(server.url, runs="student")]
        run("kld", [*overrides, *changes], run_dir=tmp_path / "run")
        assert len(server.asked) == 8 * 2 + 4, "difficulty, and the test before training"


def test_what_a_dying_server_wrote_is_kept(tmp_path, overrides):
    def dies(body, number):
        return completion(f"{number}", tokens=3) if number < 5 else (500, {})

    one_by_one = {"concurrency": 1, "model": "tiny"}
    with (
        Hostile(dies) as server,
        pytest.raises(ServerError, match="5 of 8 answers had come; they are kept") as caught,
    ):
        run("seqkd", [*overrides, engine(server.url, **one_by_one)], run_dir=tmp_path / "run")
    assert "give the same command again" in str(caught.value)
    assert sorted(texts_in(tmp_path).values()) == list("01234")


def test_another_model_on_the_server_writes_its_own_texts(tmp_path, overrides):
    for name in ("11", "22"):
        with Hostile(lambda body, number: completion(body["model"], tokens=3), [name]) as server:
            # The same address, as a server that was started with another model has it.
            url = server.url
            run("seqkd", [*overrides, engine(url)], run_dir=tmp_path / name)
    stores = list((tmp_path / "runs/cache").glob("texts-*/texts.jsonl"))
    assert len(stores) == 2


def test_what_changes_no_result_is_in_no_fingerprint(overrides):
    plain = load_recipe("seqkd", [*overrides, engine("http://127.0.0.1:9/v1")])
    other = load_recipe(
        "seqkd",
        [*overrides, engine("http://127.0.0.1:9/v1/", key_env="X", concurrency=3, timeout=9.0)],
    )
    assert effective(plain.recipe) == effective(other.recipe)
    assert plain.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "http://u:secret-9@127.0.0.1/v1"}, "engine: `base_url` holds a name"),
        ({"base_url": "secret-9"}, "no address"),
        ({"api": "chats"}, "engine.api: must be"),
        ({"concurrency": 0}, "engine.concurrency: must be between 1 and 1,000"),
        ({"timeuot": 1.0}, "Did you mean 'timeout'"),
    ],
)
def test_mistakes_are_said_before_anything_is_asked(overrides, options, words):
    with pytest.raises(ConfigError) as caught:
        load_recipe("seqkd", [*overrides, engine("http://127.0.0.1:9/v1", **options)])
    assert words in str(caught.value) and "secret-9" not in str(caught.value)


def test_models_in_training_and_adapters_are_asked_here(tmp_path, overrides):
    from tutelage.pipeline.run import open_session

    loaded = load_recipe("seqkd", [*overrides, engine("http://127.0.0.1:9/v1")])
    with open_session(loaded, tmp_path / "run", quiet=True) as session:
        model = tiny_model(vocab=len(session.models.tokenizer))
        assert isinstance(session.models.engine(session.models.in_training(model)), LocalEngine)
        assert session.models.engine_identity(session.models.in_training(model)) == {}

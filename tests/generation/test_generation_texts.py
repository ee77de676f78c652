"""Written answers: kept by id, continued after a kill, filtered by a verifier."""

import dataclasses
import json

import pytest

from conftest_models import tiny_model
from tutelage.data import WrittenAnswer, teacher_prompts, tokenize_examples, tokenize_written
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, RunFolderError
from tutelage.generation import (
    GenerationSettings,
    LocalEngine,
    TextStore,
    Writer,
    WrittenText,
    choose_texts,
)
from tutelage.types import Example


@pytest.fixture
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def prompts(tokenizer):
    return {f"e{n}": tokenizer(f"{n}+{n}=")["input_ids"] for n in range(10)}


def writer_of(tokenizer, warm=1.0, verifier=None, seed=0):
    model = tiny_model(seed=4, vocab=len(tokenizer))
    settings = GenerationSettings(max_new_tokens=5, sampling_temperature=warm)
    return Writer("weak", LocalEngine(model, tokenizer), settings, seed, verifier)


def texts_of(store, prompts, sample=0):
    return [store.get(i, sample).text for i in prompts]


def test_a_broken_run_writes_what_an_unbroken_one_does(tmp_path, tokenizer, prompts):
    writer = dataclasses.replace(writer_of(tokenizer), chunk=3)
    whole = TextStore(tmp_path / "whole", {"who": 1})
    writer.write(prompts, whole)
    broken = TextStore(tmp_path / "broken", {"who": 1})

    def stop(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write(prompts, broken, progress=stop)
    path = tmp_path / "broken" / "texts.jsonl"
    path.write_text(path.read_text() + path.read_text()[:25])  # a chunk cut short by a kill
    again = TextStore(tmp_path / "broken", {"who": 1})
    assert len(again) == 6 and len(again.missing(prompts)) == 4
    writer.write(prompts, again)
    assert texts_of(again, prompts) == texts_of(whole, prompts)
    assert texts_of(TextStore(tmp_path / "broken", {"who": 1}), prompts) == texts_of(whole, prompts)
    other = TextStore(tmp_path / "other", {"who": 1})
    writer_of(tokenizer, seed=1).write(prompts, other)
    assert texts_of(other, prompts) != texts_of(whole, prompts)


def test_nothing_is_written_twice(tmp_path, tokenizer, prompts):
    store = TextStore(tmp_path, {})
    writer = writer_of(tokenizer)
    writer.write(prompts, store)
    size = (tmp_path / "texts.jsonl").stat().st_size
    writer.write(prompts, store)
    assert (tmp_path / "texts.jsonl").stat().st_size == size
    record = json.loads((tmp_path / "texts.jsonl").read_text().splitlines()[0])["texts"][0]
    assert record["writer"] == "weak" and record["sampling_temperature"] == 1.0


def test_other_inputs_are_refused(tmp_path):
    TextStore(tmp_path, {"prompt": "a"})
    with pytest.raises(RunFolderError, match="another teacher, prompt or setting"):
        TextStore(tmp_path, {"prompt": "b"})


def test_writing_until_right_asks_again_only_where_it_was_wrong(tmp_path, tokenizer, prompts):
    asked = []

    def verify(example_id, text):
        asked.append(example_id)
        return float(asked.count(example_id) >= {"e1": 2, "e2": 3, "e3": 99}.get(example_id, 1))

    store = TextStore(tmp_path, {})
    writer = writer_of(tokenizer, verifier=verify)
    # The verifier must not be misled by answers that the length limit cut.
    writer = dataclasses.replace(writer, settings=GenerationSettings(max_new_tokens=40))
    writer.write_until_right(prompts, store, max_samples=4, resample_temperature=1.0)
    assert asked.count("e3") == 4
    for example_id in prompts:
        tries = [store.get(example_id, n) for n in range(4)]
        right = [n for n, one in enumerate(tries) if one is not None and one.right]
        assert asked.count(example_id) == (right[0] + 1 if right else 4)
    chosen = choose_texts(store, prompts, "resample", 4)
    assert "e3" not in chosen.texts
    assert chosen.summary["asked"] == 10 == chosen.summary["kept"] + chosen.summary["dropped"]


def text(example_id, sample, score, *, truncated=False):
    return WrittenText(example_id, sample, "t", "w", 3, truncated, score, 0, 0.0)


def test_what_becomes_of_wrong_answers(tmp_path):
    store = TextStore(tmp_path, {})
    store.add([text("a", 0, 1.0), text("b", 0, 0.0), text("b", 1, 0.2), text("b", 2, 1.0)])
    store.add([text("c", 0, 1.0, truncated=True), text("d", 0, None)])
    ids = ["a", "b", "c", "d"]
    kept = {
        how: set(choose_texts(store, ids, how, 3).texts) for how in ("keep", "drop", "resample")
    }
    assert kept == {"keep": set(ids), "drop": {"a"}, "resample": {"a", "b"}}
    summary = choose_texts(store, ids, "resample", 3).summary
    assert summary["rescued"] == 1 and summary["wrong"] == 2 and summary["unjudged"] == 1


def test_prompts_ask_for_steps_and_the_final_form(tokenizer):
    example = Example("a", {"question": "2+2?"}, "4")
    asked = teacher_prompts(
        [example], CharTokenizer(tokenizer), style="step_by_step", answer_format="#### {answer}"
    )
    assert asked.keys() == {"a"}
    with pytest.raises(ConfigError, match="Unknown prompt style 'step by step'"):
        teacher_prompts([example], tokenizer, style="step by step")
    with pytest.raises(ConfigError, match=r"does not fit the data.*'level'"):
        teacher_prompts([example], tokenizer, style="{prompt} {level}")
    plain = Example("a", {"prompt": "2+2="}, "4")
    own = teacher_prompts([plain], tokenizer, style="{prompt}")
    assert own == teacher_prompts([plain], tokenizer)


def CharTokenizer(tokenizer):
    """The arithmetic tokenizer with the letters that prose needs."""
    tokenizer.add_tokens([*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,.:<>()? \n#"])
    return tokenizer


def test_a_text_takes_the_place_of_the_answer_but_not_of_the_references(tokenizer):
    example = Example("a", {"prompt": "1+1="}, "2#2", ("2#2",), group="1")
    rows = tokenize_examples([example], tokenizer).dataset
    taught = {"a": WrittenAnswer("1+1=3#3")}
    row = tokenize_written(rows, {"a": example}, taught, tokenizer).dataset[0]
    assert (row["completion"], row["references"], row["group"]) == ("1+1=3#3", ["2#2"], "1")
    learned = [token for token in row["labels"] if token >= 0]
    assert tokenizer.decode(learned, skip_special_tokens=True).replace(" ", "") == "1+1=3#3"

"""Texts of a writer: the same ones however often it is interrupted, and only those that miss."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from conftest_models import tiny_model
from tutelage.data import WrittenAnswer, teacher_prompts, tokenize_examples, tokenize_written
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError, RunFolderError
from tutelage.generation import (
    GenerationSettings,
    LocalEngine,
    TextStore,
    Writer,
    choose_texts,
    unwritten,
)
from tutelage.types import Example

TOKENIZER = build_tokenizer()
GREEDY = GenerationSettings(max_new_tokens=8)
SAMPLED = GenerationSettings(max_new_tokens=8, sampling_temperature=1.2)
INPUTS = {"seed": 5}
_RNG = np.random.default_rng(4)
PROMPTS = {
    f"p{number:02d}": _RNG.integers(3, len(TOKENIZER), _RNG.integers(1, 7)).tolist()
    for number in range(22)
}


@pytest.fixture(scope="module")
def model():
    model = tiny_model(seed=3, vocab=len(TOKENIZER)).eval()
    with torch.no_grad():
        model.lm_head.weight[TOKENIZER.eos_token_id] *= 2.5  # so that some greedy answers end
    return model


def writer(model, settings=SAMPLED, **options):
    engine = LocalEngine(model, TOKENIZER)
    return Writer("strong", engine, settings, **{"seed": 5, "chunk": 4, **options})


def even(example_id, text):
    """A rule that a random model meets about every other time."""
    return float(len(text) % 2 == 0 and bool(text))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def interrupted(write, path, every):
    """Write, killed again and again after so many chunks, until it gets through; and how often."""
    kills = 0
    while True:
        left = every

        def kill(done, total):
            nonlocal left
            left -= 1
            if not left:
                raise Killed

        try:
            write(TextStore(path, INPUTS), kill)
            return kills
        except Killed:
            kills += 1
            # A real kill may also leave a part of the line that was being written.
            with (path / "texts.jsonl").open("ab") as file:
                file.write('[{"id": "p07", "text": "\u4e8c'.encode()[: -1 - kills])


def content(path):
    """All whole lines; half a line at the end stays until something more is written."""
    written = (path / "texts.jsonl").read_bytes()
    return written[: written.rindex(b"\n") + 1]


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(
    ("settings", "samples"), [(GREEDY, (0,)), (SAMPLED, (0,)), (SAMPLED, (0, 1, 2))]
)
def test_interrupted_writing_equals_unbroken(tmp_path, model, settings, samples, every):
    def write(store, progress=None):
        writer(model, settings).write(PROMPTS, store, samples=samples, progress=progress)

    write(TextStore(tmp_path / "whole", INPUTS))
    assert interrupted(write, tmp_path / "broken", every) == 6 * len(samples) // every
    assert content(tmp_path / "broken") == content(tmp_path / "whole")
    assert len(TextStore(tmp_path / "whole", INPUTS)) == len(samples) * len(PROMPTS)


@pytest.mark.parametrize(("every", "kills"), [(1, 10), (2, 5)])
def test_interrupted_resampling_equals_unbroken(tmp_path, model, every, kills):
    def write(store, progress=None):
        writer(model, GREEDY, verifier=even).write_until_right(
            PROMPTS, store, max_samples=4, resample_temperature=1.5, progress=progress
        )

    write(TextStore(tmp_path / "whole", INPUTS))
    assert interrupted(write, tmp_path / "broken", every) >= kills
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_greedy_texts_are_those_of_each_prompt_alone(tmp_path, model):
    store = TextStore(tmp_path, INPUTS)
    writer(model, GREEDY).write(PROMPTS, store)
    for example_id, prompt in PROMPTS.items():
        (alone,) = LocalEngine(model, TOKENIZER).answer([prompt], GREEDY)
        text = store.get(example_id)
        assert (text.text, text.num_tokens, text.truncated) == (
            alone.text,
            alone.num_tokens,
            alone.truncated,
        )
        assert (text.writer, text.score, text.sampling_temperature) == ("strong", None, 0.0)


def test_sampled_texts_come_again_from_what_the_store_says(tmp_path, model):
    store = TextStore(tmp_path, INPUTS)
    writer(model).write(PROMPTS, store, samples=range(2))
    lines = [json.loads(line)["texts"] for line in content(tmp_path).splitlines()]
    for row in (row for rows in lines[::2] for row in rows[::2]):
        (again,) = LocalEngine(model, TOKENIZER).answer(
            [PROMPTS[row["id"]]], SAMPLED, seed=row["seed"]
        )
        assert row["text"] == again.text, "each text by itself"
        assert row["sampling_temperature"] == 1.2
    seeds = {row["seed"] for rows in lines for row in rows}
    assert len(seeds) == 2 * len(PROMPTS), "each text draws for itself"
    ids = [row["id"] for rows in lines for row in rows]
    order = sorted(PROMPTS, key=lambda i: (len(PROMPTS[i]), i))
    assert ids == order * 2
    assert [len(rows) for rows in lines] == [4, 4, 4, 4, 4, 2] * 2
    texts = [[store.get(i, sample).text for i in PROMPTS] for sample in range(2)]
    assert texts[0] != texts[1]


def test_what_a_draw_depends_on(tmp_path, model):
    def texts(name, prompts=PROMPTS, **options):
        store = TextStore(tmp_path / name, INPUTS)
        writer(model, **options).write(prompts, store)
        return {text.id: text.text for text in store}

    torch.manual_seed(1)
    first = texts("first")
    torch.manual_seed(2)
    assert texts("again") == first
    assert texts("backwards", dict(reversed(PROMPTS.items()))) == first
    assert texts("in other chunks", chunk=5) == first
    few = dict(list(PROMPTS.items())[::3])
    assert texts("few", few) == {i: first[i] for i in few}, "whoever else is asked"
    assert texts("other seed", seed=6) != first
    same = texts("one prompt for all", {i: [7, 5] for i in PROMPTS})
    assert len(set(same.values())) > len(PROMPTS) / 2, "each id draws for itself"


def test_only_what_is_missing_is_written(tmp_path, model):
    asked = []

    class Counting(LocalEngine):
        def answer(self, prompts, *settings, **options):
            asked.extend(prompts)
            return super().answer(prompts, *settings, **options)

    work = replace(writer(model), engine=Counting(model, TOKENIZER))
    store = TextStore(tmp_path, INPUTS)
    few = dict(list(PROMPTS.items())[:9])
    work.write(few, store)
    before = {text.id: text for text in store}
    work.write(PROMPTS, store)
    assert sorted(asked) == sorted(PROMPTS.values())
    assert all(store.get(i) == text for i, text in before.items())
    calls = []
    work.write(PROMPTS, store, progress=lambda *call: calls.append(call))
    assert len(asked) == len(PROMPTS) and calls == []


def test_progress_counts_all_answers(tmp_path, model):
    calls = []
    writer(model).write(
        PROMPTS,
        TextStore(tmp_path, INPUTS),
        samples=(0, 1),
        progress=lambda *call: calls.append(call),
    )
    done = [4, 8, 12, 16, 20, 22, 26, 30, 34, 38, 42, 44]
    assert calls == [(number, 44) for number in done]


def test_the_verifier_sees_every_text(tmp_path, model):
    store = TextStore(tmp_path, INPUTS)
    writer(model, verifier=even).write(PROMPTS, store)
    assert {text.score for text in store} == {0.0, 1.0}
    assert all(text.score == even(text.id, text.text) for text in store)


def test_more_answers_go_to_wrong_ones_alone(tmp_path, model):
    store = TextStore(tmp_path, INPUTS)
    work = writer(model, GREEDY, verifier=even)
    work.write_until_right(PROMPTS, store, max_samples=4, resample_temperature=1.5)
    counts = []
    for example_id in PROMPTS:
        tries = sorted((t for t in store if t.id == example_id), key=lambda t: t.sample)
        counts.append(len(tries))
        assert [t.sample for t in tries] == list(range(len(tries)))
        assert [t.sampling_temperature for t in tries] == [0.0] + [1.5] * (len(tries) - 1)
        rights = [even(t.id, t.text) == 1.0 and not t.truncated for t in tries]
        assert not any(rights[:-1]), "a right answer is the last one"
        assert rights[-1] or len(tries) == 4
    assert {1, 4} < set(counts), "some at once, some late, some never"
    assert unwritten(store, PROMPTS, "resample", 4) == []
    assert unwritten(store, PROMPTS, "resample", 5) == [
        i for i, n in zip(PROMPTS, counts, strict=True) if n == 4 and not _solved(store, i)
    ]
    chosen = choose_texts(store, PROMPTS, "resample", 4)
    assert set(chosen.texts) == {i for i in PROMPTS if _solved(store, i)}
    before = content(tmp_path)
    work.write_until_right(PROMPTS, store, max_samples=4, resample_temperature=1.5)
    assert content(tmp_path) == before


def _solved(store, example_id):
    return any(t.right for t in store if t.id == example_id)


def test_a_cut_answer_is_tried_again(tmp_path):
    never = tiny_model(seed=3, vocab=len(TOKENIZER)).eval()
    with torch.no_grad():
        # Its logit is then 0 everywhere, and some other one is always larger.
        never.lm_head.weight[TOKENIZER.eos_token_id] = 0.0
    never.generation_config.eos_token_id = None
    store = TextStore(tmp_path, INPUTS)
    prompts = dict(list(PROMPTS.items())[:3])
    work = writer(never, replace(GREEDY, max_new_tokens=1), verifier=lambda example_id, text: 1.0)
    work.write_until_right(prompts, store, max_samples=2, resample_temperature=0.01)
    assert [text.truncated for text in store] == [True] * 6


def test_what_makes_no_sense_is_refused(tmp_path, model):
    store = TextStore(tmp_path, INPUTS)
    with pytest.raises(ConfigError, match="3 greedy answers"):
        writer(model, GREEDY).write(PROMPTS, store, samples=range(3))
    with pytest.raises(ConfigError, match="nobody says what is right"):
        writer(model).write_until_right(PROMPTS, store, max_samples=2, resample_temperature=1.0)
    with pytest.raises(ConfigError, match="`resample_temperature` is 0"):
        writer(model, verifier=even).write_until_right(
            PROMPTS, store, max_samples=2, resample_temperature=0.0
        )
    with pytest.raises(DataError, match="no tokens"):
        writer(model).write({"a": []}, store)
    assert len(store) == 0


def test_a_full_disk_keeps_the_chunks_before(tmp_path, model, monkeypatch):
    def add(store, chunk, real=TextStore.add):
        if len(store) >= 8:
            raise RunFolderError("The disk is full.")
        real(store, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(TextStore, "add", add)
        with pytest.raises(RunFolderError):
            writer(model).write(PROMPTS, TextStore(tmp_path / "broken", INPUTS))
    assert len(TextStore(tmp_path / "broken", INPUTS)) == 8
    for name in ("broken", "whole"):
        writer(model).write(PROMPTS, TextStore(tmp_path / name, INPUTS))
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(*, shift, merges, eos, chat_template=None):
    """A tokenizer of bytes whose ids are shifted against another's, and with its own merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    alphabet = alphabet[shift:] + alphabet[:shift]
    symbols = [*alphabet, *("".join(pair) for pair in merges)]
    inner = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([eos])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos)
    tokenizer.chat_template = chat_template
    return tokenizer


def test_a_teacher_of_another_tokenizer(tmp_path):
    teachers = byte_tokenizer(shift=0, merges=[], eos="</s>", chat_template=CHAT)
    students = byte_tokenizer(shift=90, merges=[("1", "2"), ("a", "b")], eos="<end>")
    assert teachers.get_vocab() != students.get_vocab()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(teachers),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=teachers.eos_token_id,
    )
    teacher = LlamaForCausalLM(config).eval()
    examples = [
        Example(f"e{n}", {"question": f"{n} + 12 = ?"}, str(n + 12), (str(n + 12), "x"))
        for n in range(5)
    ]
    prompts = teacher_prompts(examples, teachers, style="step_by_step")
    settings = GenerationSettings(max_new_tokens=12, sampling_temperature=1.0)
    store = TextStore(tmp_path, INPUTS)
    Writer("other", LocalEngine(teacher, teachers), settings, seed=1).write(prompts, store)
    chosen = choose_texts(store, prompts, "keep")
    assert len(chosen.texts) == 5
    rows = tokenize_examples(examples, students).dataset
    taught = {e.id: WrittenAnswer(chosen.texts[e.id].text) for e in examples}
    split = tokenize_written(rows, {e.id: e for e in examples}, taught, students)
    assert len(split.dataset) == 5
    for example, row in zip(examples, split.dataset, strict=True):
        length = row["num_prompt_tokens"]
        assert students.decode(row["input_ids"][:length]) == f"{example.fields['question']}\n"
        learned = [label for label in row["labels"] if label != -100]
        assert learned == row["input_ids"][length:] and learned[-1] == students.eos_token_id
        assert students.decode(learned[:-1]) == store.get(example.id).text
        assert row["references"] == [example.completion, "x"]
        assert "<assistant>" in teachers.decode(prompts[example.id])


def test_texts_keep_the_tokens_that_were_written(model, tmp_path):
    """Sampled tokens need not be those that the tokenizer gives to their text."""
    store = TextStore(tmp_path, INPUTS)
    Writer("w", LocalEngine(model, TOKENIZER), SAMPLED).write(PROMPTS, store)
    texts = [store.get(i) for i in PROMPTS]
    for text in texts:
        assert len(text.tokens) == text.num_tokens - (not text.truncated)
        assert TOKENIZER.decode(text.tokens, skip_special_tokens=True) == text.text
    again = TextStore(tmp_path, INPUTS)
    assert [again.get(i) for i in PROMPTS] == texts
    assert any(text.truncated for text in texts) and not all(text.truncated for text in texts)

"""Stop strings: an answer ends before the first, wherever it lies among tokens and batches."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError
from tutelage.generation import Answer, GenerationSettings, LocalEngine
from tutelage.generation.stopping import Stops

TOKENIZER = build_tokenizer()
MERGES = [("a", "b"), ("c", "d"), ("ab", "cd")]


def word_tokenizer():
    """A tokenizer of bytes with the words ab, cd and abcd, and a special token."""
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    inner = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, merges=MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["</s>", "<|turn|>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


def read(pieces, *strings):
    """The answer in tokens that are given as words."""
    tokenizer = word_tokenizer()
    stops = Stops.of(tokenizer, None, strings)
    return stops.read([0], tokenizer.convert_tokens_to_ids(pieces))


@pytest.mark.parametrize(
    ("pieces", "strings", "text", "num_tokens", "finish"),
    [
        (["ab", "cd", "x"], ["cd"], "ab", 2, "stop"),
        (["ab", "cd", "x"], ["bc"], "a", 2, "stop"),  # it begins in one token and ends in another
        (["abcd", "x"], ["b"], "a", 1, "stop"),  # it lies inside one
        (["abcd", "x"], ["d", "b"], "a", 1, "stop"),  # the first in the text, not in the list
        # What was complete first ends the answer, though a longer one had begun before.
        (["a", "b", "c", "x"], ["abcx", "b"], "a", 2, "stop"),
        (["x", "x", "y"], ["z"], "xxy", 3, "length"),
        (["x", "</s>", "ab"], ["ab"], "x", 2, "stop"),  # the end of the text came before
        (["ab", "</s>", "x"], ["ab"], "", 1, "stop"),
        (["x", "<|turn|>", "y"], ["<|turn|>"], "x", 2, "stop"),  # a token that is never text
        (["Ã", "©", "x"], ["é"], "", 2, "stop"),  # of two bytes
        (["x", "Ã"], ["é"], "x", 2, "length"),  # half of it is no answer and no stop
    ],
)
def test_an_answer_ends_before_the_first(pieces, strings, text, num_tokens, finish):
    found = read(pieces, *strings)
    assert found == Answer(text, num_tokens, finish)
    assert found.tokens == tuple(word_tokenizer().convert_tokens_to_ids(pieces))[:num_tokens]


def counting_model():
    """After token k comes token k + 1; the last tokens are followed by the first."""
    size = len(TOKENIZER)
    model = tiny_model(seed=3, vocab=size, hidden=size + size % 2).eval()
    model.generation_config.eos_token_id = None
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    with torch.no_grad():
        after = torch.arange(size).roll(-1)
        after[-1] = 3  # past the special tokens
        model.model.embed_tokens.weight.copy_(torch.eye(size, model.config.hidden_size))
        model.lm_head.weight.zero_()[after, torch.arange(size)] = 10.0
    return model


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_that_have_met_one_stop_the_batch(rows):
    model, steps = counting_model(), []
    model.register_forward_pre_hook(
        lambda module, args, inputs: steps.append(len(inputs["input_ids"])), with_kwargs=True
    )
    # Tokens 3, 4, 5... are the characters 0, 1, 2...
    prompts = [[3], [4], [5], [6], [7]]
    settings = GenerationSettings(
        max_new_tokens=200, stop_strings=("78", "34"), batch_tokens=rows * 201
    )
    answers = LocalEngine(model, TOKENIZER).answer(prompts, settings)
    assert [answer.text for answer in answers] == ["12", "2", "", "456", "56"]
    assert [answer.num_tokens for answer in answers] == [4, 3, 2, 5, 4]
    assert {answer.finish for answer in answers} == {"stop"}
    assert len(steps) < 60, "not 200"


def test_a_row_that_meets_none_goes_on_when_the_others_have_left():
    model = counting_model()
    settings = GenerationSettings(max_new_tokens=40)
    plain = LocalEngine(model, TOKENIZER).answer([[3]], settings)[0]
    assert plain.truncated and plain.num_tokens == 40
    with torch.no_grad():  # token 17 is followed by itself: it never comes to what stops the others
        model.lm_head.weight[:, 17] = 0.0
        model.lm_head.weight[17, 17] = 10.0
    stopping = GenerationSettings(max_new_tokens=40, stop_strings=("34",))
    answers = LocalEngine(model, TOKENIZER).answer([[17], [3], [4], [3]], stopping)
    assert [answer.num_tokens for answer in answers] == [40, 4, 3, 4]
    assert answers[0].truncated and len(set(answers[0].tokens)) == 1


def test_the_prompt_is_no_part_of_an_answer():
    settings = GenerationSettings(max_new_tokens=3, stop_strings=("012", "01"))
    (answer,) = LocalEngine(counting_model(), TOKENIZER).answer(["0"], settings)
    assert answer == Answer("123", 3, "length")


@pytest.mark.parametrize("strings", [("",), ("a", ""), "ab"])
def test_what_is_no_list_of_texts_is_refused(strings):
    with pytest.raises(ConfigError, match=r"`stop_strings`.*list of texts"):
        GenerationSettings(stop_strings=strings)


def test_a_list_will_do():
    assert GenerationSettings(stop_strings=["a"]) == GenerationSettings(stop_strings=("a",))
    assert hash(GenerationSettings(stop_strings=["a"]))

"""What a model is given: conversations as its template writes them, texts cut where they join."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from conftest_models import tiny_model
from tutelage.errors import ConfigError, DataError
from tutelage.generation import Chat, GenerationSettings, LocalEngine
from tutelage.generation.requests import token_pairs, token_prompts
from tutelage.types import Message

THINKING = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
)
MERGES = [("Ġ", "P"), ("ĠP", "a"), ("1", "2"), ("Ċ", "Ċ")]
USER = Message("user", "2+2?")


def byte_tokenizer(chat_template=None, *, bos=False, spaced=False):
    """A tokenizer of bytes with merges that reach over the border of two texts."""
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    inner = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, merges=MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>", "</s>"])
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = chat_template
    return tokenizer


@pytest.mark.parametrize("bos", [False, True])
def test_a_conversation_is_what_its_template_opens(bos):
    tokenizer = byte_tokenizer(THINKING, bos=bos)
    turns = (Message("system", "Be brief."), USER, Message("assistant", "4"), USER)
    (tokens,) = token_prompts([Chat(turns)], tokenizer)
    text = (
        "<s><system>Be brief.</s><user>2+2?</s><assistant>4</s><user>2+2?</s><assistant><think>\n"
    )
    assert tokenizer.decode(tokens) == text
    assert tokens.count(tokenizer.bos_token_id) == 1, "the template writes it, and nobody else"
    own = [{"role": turn.role, "content": turn.content} for turn in turns]
    expected = tokenizer.apply_chat_template(own, add_generation_prompt=True, tokenize=False)
    assert text == expected


def test_what_a_template_cannot_write_is_said():
    with pytest.raises(
        DataError, match=r"Prompt 1 is a conversation.*no chat template.*plain text"
    ):
        token_prompts(["x", Chat((USER,))], byte_tokenizer())
    with pytest.raises(DataError, match=r"prompt 0.*refuses.*system, user: System role not supp"):
        token_prompts([Chat((Message("system", "x"), USER))], byte_tokenizer(NO_SYSTEM))
    called = Message("assistant", "", {"tool_calls": [{"name": "f"}]})
    with pytest.raises(DataError, match=r"prompt 0.*tool_calls"):
        token_prompts([Chat((USER, called, USER))], byte_tokenizer(NO_SYSTEM))
    several = byte_tokenizer({"rag": NO_SYSTEM, "tool": NO_SYSTEM})
    with pytest.raises(ConfigError, match="none of them is called 'default'"):
        token_prompts([Chat((USER,))], several)


def pieces(tokenizer, pair):
    """A pair as its tokens in words, before and after the cut."""
    words = tokenizer.convert_ids_to_tokens(pair.tokens)
    return words[: pair.start], words[pair.start :]


@pytest.mark.parametrize(
    ("prompt", "text", "before", "after"),
    [
        ("A:", " Pa", ["A", ":"], ["ĠPa"]),
        ("A: ", "Pa", ["A", ":"], ["ĠPa"]),  # the space is the beginning of the word
        ("A:\n", "\nPa", ["A", ":"], ["ĊĊ", "P", "a"]),
        ("A:", "Pa", ["A", ":"], ["P", "a"]),
        # Where a token reaches over the border there is no right cut; this is the harness's.
        ("x1", "23", ["x", "12"], ["3"]),
        ("x1", "2", ["x"], ["12"]),
    ],
)
@pytest.mark.parametrize("bos", [False, True])
def test_a_text_and_its_continuation_are_read_as_one(prompt, text, before, after, bos):
    tokenizer = byte_tokenizer(bos=bos)
    (pair,) = token_pairs([prompt], [text], tokenizer)
    assert pieces(tokenizer, pair) == ([*(["<s>"] if bos else []), *before], after)
    assert tokenizer.decode(pair.tokens[bos:]) == prompt + text


def test_after_tokens_and_conversations_nothing_of_them_moves():
    tokenizer = byte_tokenizer(THINKING)
    tokens = tokenizer("x1")["input_ids"]
    (pair,) = token_pairs([tokens], ["2"], tokenizer)
    assert pieces(tokenizer, pair) == (["x", "1"], ["2"])
    (pair,) = token_pairs([Chat((USER,))], ["\n4"], tokenizer)
    before, after = pieces(tokenizer, pair)
    assert (before[-1], after) == ("Ċ", ["Ċ", "4"])
    assert list(pair.tokens[: pair.start]) == token_prompts([Chat((USER,))], tokenizer)[0]


def test_a_continuation_gets_no_space_from_a_tokenizer_that_begins_texts_with_one():
    tokenizer = byte_tokenizer(spaced=True)
    (pair,) = token_pairs(["A:"], ["Pa"], tokenizer)
    assert pieces(tokenizer, pair) == (["Ġ", "A", ":"], ["P", "a"])
    (pair,) = token_pairs([tokenizer("A:")["input_ids"]], ["Pa"], tokenizer)
    assert pieces(tokenizer, pair) == (["Ġ", "A", ":"], ["P", "a"])


def test_what_a_model_cannot_read_is_named_before_anything_is_scored():
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab=len(tokenizer)).eval()  # of 64 positions
    calls = []
    with pytest.raises(DataError, match=r"Prompt 1 has 63 tokens, 65 with .* can read 64"):
        LocalEngine(model, tokenizer).log_likelihoods(
            ["x", "x" * 63],
            ["4", "4 "],
            GenerationSettings(),
            progress=lambda *call: calls.append(call),
        )
    assert not calls


def test_choices_of_one_token_are_read_once(monkeypatch):
    tokenizer = byte_tokenizer()
    model = tiny_model(vocab=len(tokenizer)).eval()
    rows = []
    model.register_forward_pre_hook(
        lambda module, args, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True
    )
    engine = LocalEngine(model, tokenizer)
    prompts, texts = ["Q:"] * 4 + ["R:"], ["A", "B", "C", "AB", "A"]
    together = engine.log_likelihoods(prompts, texts, GenerationSettings())
    assert rows == [3], "of the three letters one row, and one for each of the others"
    for prompt, text, found in zip(prompts, texts, together, strict=True):
        (alone,) = engine.log_likelihoods([prompt], [text], GenerationSettings())
        assert found.logprob == pytest.approx(alone.logprob, rel=1e-5)
        assert (found.num_tokens, found.greedy) == (alone.num_tokens, alone.greedy)

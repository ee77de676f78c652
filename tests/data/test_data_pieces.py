"""Answers tokenized where they stand: no space enters before them, whatever the tokenizer."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tutelage.data import tokenize_examples
from tutelage.data.pieces import continuation_text, decode, spaces_beginnings, token_ids
from tutelage.types import Example, Message

SPACE = "\u2581"
PIECES = [*"\nQA:.=Parisx4", SPACE, f"{SPACE}P", "Pa", f"{SPACE}Pa", "is"]
MERGES = [(SPACE, "P"), ("P", "a"), (f"{SPACE}P", "a"), ("i", "s")]


def metaspace(prepend: str) -> PreTrainedTokenizerFast:
    """A tokenizer like those of SentencePiece, which may put a space before every text."""
    vocab = {"<unk>": 0, "</s>": 1, "<s>": 2}
    for piece in PIECES:
        vocab.setdefault(piece, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab, merges=MERGES, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", "</s>", "<s>"])
    if prepend == "legacy":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


KINDS = ("always", "first", "legacy", "never")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["plain", "{prompt}", "chat"])
@pytest.mark.parametrize(
    ("prompt", "answer", "first"),
    [
        ("Q:Paris\nA:", "Paris", "Pa"),
        ("Q:Paris\nA: ", "Paris", "Pa"),  # one token would hold the space and the answer's start
        ("Q:Paris\nA:", " Paris", f"{SPACE}Pa"),
        ("x=", "4", "4"),
    ],
)
def test_an_answer_gets_no_space_that_it_has_not(kind, template, prompt, answer, first):
    tokenizer = metaspace(kind)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}"
    assert spaces_beginnings(tokenizer) == (kind != "never")
    example = Example("e", {"prompt": prompt}, answer)
    row = tokenize_examples([example], tokenizer, template=template).dataset[0]
    start = row["num_prompt_tokens"]
    # The prompt is what a model is given; the answer begins with the piece that it begins with.
    given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert row["input_ids"][start - len(given) : start] == given
    learned = [label for label in row["labels"] if label != -100]
    assert learned == row["input_ids"][start:]
    assert tokenizer.convert_ids_to_tokens(learned)[0] == first
    assert tokenizer.convert_ids_to_tokens(learned)[-1] == "</s>"
    assert decode(row["input_ids"], tokenizer).lstrip() == prompt + answer
    if kind != "never":
        # What a model writes is read with the space that it begins with.
        assert continuation_text(given, learned, tokenizer) == answer


def test_turns_after_a_border_inside_a_token_get_no_space():
    tokenizer = metaspace("always")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}"
    turns = [Message("user", "Q: "), Message("assistant", "Paris"), Message("user", "\nQ: ")]
    example = Example("e", {"prompt": "x"}, "Pa", messages=(*turns, Message("assistant", "Pa")))
    row = tokenize_examples([example], tokenizer, template="chat").dataset[0]
    assert decode(row["input_ids"], tokenizer) == "Q: Paris\nQ: Pa"
    pieces = tokenizer.convert_ids_to_tokens([i for i in row["labels"] if i != -100])
    assert pieces == ["Pa", "r", "is", "Pa", "</s>"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", [False, True])
def test_many_texts_have_the_ids_of_each(kind, split):
    tokenizer = metaspace(kind)
    tokenizer.split_special_tokens = split
    texts = ["Paris", "Q: Pa</s>is", "", " x=4\n", "<s>Paris", "none of it: \u4e8c"] * 4
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert split == (expected[1].count(tokenizer.eos_token_id) == 0)
    # What somebody asked of the tokenizer before does not stay.
    tokenizer.pad_token = "</s>"
    tokenizer(texts, truncation=True, max_length=2, padding="max_length", split_special_tokens=True)
    assert token_ids(texts, tokenizer) == expected
    assert token_ids(texts[:2], tokenizer) == expected[:2]


def test_a_tokenizer_that_does_more_than_its_backend_is_asked_itself():
    class Lower(PreTrainedTokenizerFast):
        def _encode_plus(self, text, *given, **options):
            text = text.lower() if isinstance(text, str) else [one.lower() for one in text]
            return super()._encode_plus(text, *given, **options)

    lower = Lower(tokenizer_object=metaspace("never").backend_tokenizer, unk_token="<unk>")
    texts = ["Paris", "is"] * 10
    assert token_ids(texts, lower) == [
        lower(one, add_special_tokens=False).input_ids for one in texts
    ]
    assert token_ids(texts, lower)[0] != token_ids(texts, metaspace("never"))[0]

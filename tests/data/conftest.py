"""A tiny byte-level tokenizer, with the parts that differ between families as arguments."""

from collections.abc import Callable, Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Earlier answers lose their thoughts, as in templates of reasoning models.
THINKING_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM_CHAT = (
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """A function that makes a tokenizer of one token for each byte, and one for two line breaks."""

    def make(
        *,
        chat_template: str | None = None,
        bos: str | None = None,
        eos: str | None = "<|im_end|>",
        pad: str | None = None,
        special: Sequence[str] = (),
    ) -> PreTrainedTokenizerFast:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        newline = "\u010a"  # how byte-level tokenizers write a line break
        vocab = {symbol: i for i, symbol in enumerate([*alphabet, newline * 2])}
        tokenizer = Tokenizer(models.BPE(vocab, merges=[(newline, newline)]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<s>", *special])
        if bos:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
            )
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad
        )
        fast.chat_template = chat_template
        return fast

    return make


@pytest.fixture
def chatml() -> str:
    """A chat template that ends each turn with a token and a line break."""
    return CHATML


@pytest.fixture
def marked_chatml() -> str:
    """The same format, with the assistant's text marked by generation blocks."""
    return MARKED_CHATML


@pytest.fixture
def thinking_chatml() -> str:
    """A chat template that writes an answer differently once another turn follows."""
    return THINKING_CHATML


@pytest.fixture
def no_system_chat() -> str:
    """A chat template that refuses a system turn and ends turns with a line break alone."""
    return NO_SYSTEM_CHAT

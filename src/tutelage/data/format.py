"""From an example to the text that a model reads.

A template is one of ``auto``, ``plain``, ``alpaca``, ``chat``, or a string of the user's own with
``{field}`` placeholders. ``auto`` becomes, in this order:

- ``chat`` for conversations, and for every example when the tokenizer has a chat template;
- ``alpaca`` for instruction rows;
- ``plain`` for prompt and question rows.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tutelage.data.chat import SPOKEN, SYSTEM_ROLES, request_text, write_chat
from tutelage.data.templates import TEMPLATES, check_template
from tutelage.errors import ConfigError, DataError, did_you_mean
from tutelage.placeholders import fill, placeholders
from tutelage.types import Example

# The prompt of Stanford Alpaca, word for word: the models and the evaluation files of the white-box
# distillation papers (MiniLLM, DistiLLM, POCL, CPD) were made with it.
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further"
    " context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes"
    " the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class Rendered:
    """An example as text.

    Attributes:
        prompt: everything that a model reads before it answers, without a beginning-of-sequence
            token unless a chat template writes one.
        completion: the answer as the example gives it, without an end-of-turn token.
    """

    prompt: str
    completion: str


def template_name(
    example: Example, template: str, tokenizer: PreTrainedTokenizerBase | None
) -> str:
    """What ``template`` means for this example and tokenizer.

    Args:
        example: the example to render.
        template: a name or a string with placeholders.
        tokenizer: the tokenizer whose chat template ``auto`` may choose; None for no tokenizer.

    Returns:
        ``"plain"``, ``"alpaca"``, ``"chat"`` or ``"custom"``.

    Raises:
        ConfigError: the template is unknown or names no field.
    """
    check_template(template)
    if template not in TEMPLATES:
        return "custom"
    if template != "auto":
        return template
    if example.messages or (tokenizer is not None and tokenizer.chat_template):
        return "chat"
    return "alpaca" if "instruction" in example.fields else "plain"


def render(
    example: Example,
    template: str = "auto",
    tokenizer: PreTrainedTokenizerBase | None = None,
    system: str | None = None,
) -> Rendered:
    """The prompt and the answer of an example as text.

    ``plain`` leaves a prompt as it is; after a question or an instruction, which end like prose, it
    puts one line break. A system text begins the conversation of a chat template, unless the
    conversation has its own; elsewhere it stands before the prompt, with an empty line between. In
    a chat the prompt is what precedes the answer in the finished conversation: the template's own
    generation prompt, and what the template writes between that and the answer.

    Args:
        example: the example to render.
        template: ``auto``, ``plain``, ``alpaca``, ``chat``, or a string with ``{field}``
            placeholders.
        tokenizer: needed for ``chat``.
        system: a system text for every example whose source has none of its own.

    Returns:
        The text before the answer, and the answer.

    Raises:
        ConfigError: an unknown template or placeholder, or ``chat`` without a chat template.
        DataError: the example does not fit the template.

    Examples:
        >>> example = Example(id="a", fields={"question": "2 + 2?"}, completion="4")
        >>> render(example, "Q: {question} A: ").prompt
        'Q: 2 + 2? A: '
    """
    name = template_name(example, template, tokenizer)
    if name == "chat":
        return Rendered(write_chat(example, system, tokenizer).prompt, example.completion)
    prompt = _RENDERERS[name](example, template)
    system = _own_system(example) or example.system_or(system)
    return Rendered(f"{system}\n\n{prompt}" if system else prompt, example.completion)


def _custom(example: Example, template: str) -> str:
    """The user's own template with the example's fields filled in."""
    fields = _one_turn(example).fields
    for name in placeholders(template):
        if name not in fields:
            raise ConfigError(
                f"The template names the field '{name}', which these examples do not have."
                f"{did_you_mean(name, fields)} Known: {', '.join(fields)}. The answer needs no"
                " field: it follows the template."
            )
    return fill(template, fields)


def _plain(example: Example, template: str) -> str:
    """The request alone."""
    request = request_text(_one_turn(example))
    return request if "prompt" in example.fields else f"{request}\n"


def _alpaca(example: Example, template: str) -> str:
    """The Alpaca prompt; a prompt or a question is taken as an instruction without input."""
    fields = _one_turn(example).fields
    instruction = fields.get("instruction") or request_text(example)
    return alpaca_prompt(instruction, fields.get("input", ""))


def alpaca_prompt(instruction: str, given: str = "") -> str:
    """The prompt of Stanford Alpaca for an instruction, with what it is given or without."""
    return (_ALPACA_WITH_INPUT if given else _ALPACA).format(instruction=instruction, input=given)


_RENDERERS = {"custom": _custom, "plain": _plain, "alpaca": _alpaca}


def _own_system(example: Example) -> str:
    """The system text that the example's conversation begins with; empty when it has none."""
    first = example.messages[:1]
    return first[0].content if first and first[0].role in SYSTEM_ROLES else ""


def _one_turn(example: Example) -> Example:
    """The example, if a template without turns can say all of it."""
    roles = [turn.role for turn in example.messages if turn.role not in SYSTEM_ROLES]
    if example.messages and roles != ["user", "assistant"]:
        raise DataError(
            f"Example '{example.id}' is a conversation of {len(roles)} turns"
            f" ({', '.join(roles[:6])}), which only a chat template can write. Choose the template"
            " 'chat', or keep conversations of one question and one answer."
        )
    more = [name for turn in example.messages for name in turn.extra if name in SPOKEN]
    if more or example.tools:
        raise DataError(
            f"Example '{example.id}' has '{(more or ['tools'])[0]}', which only a chat template can"
            " write. Choose the template 'chat', write it into the content, or remove it."
        )
    return example

"""From an example to the text that a model reads.

A template is one of ``auto``, ``plain``, ``alpaca``, ``chat``, or a string of the user's own with
``{field}`` placeholders. ``auto`` becomes, in this order:

- ``chat`` for conversations, and for every example when the tokenizer has a chat template;
- ``alpaca`` for instruction rows;
- ``plain`` for prompt and question rows.
"""

import string
from dataclasses import dataclass

import jinja2
from transformers import PreTrainedTokenizerBase

from tutelage.errors import ConfigError, DataError, did_you_mean, unknown_name
from tutelage.types import Example, Message

TEMPLATES = ("auto", "plain", "alpaca", "chat")

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
_SYSTEM_ROLES = ("system", "developer")


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


def check_template(template: str) -> None:
    """Raise a ``ConfigError`` unless ``template`` is a known name or a string with placeholders."""
    if template in TEMPLATES:
        return
    if "{" not in template:
        # A misspelt name would otherwise become the same constant prompt for every example.
        error = unknown_name("template", template, TEMPLATES)
        raise ConfigError(f"{error} A template of your own needs a {{field}} placeholder.")
    if not _placeholders(template):
        raise ConfigError(
            f"The template {template!r} names no field, so every example would have the same"
            " prompt. Put a {field} placeholder where the example's text belongs."
        )


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
    conversation has its own; elsewhere it stands before the prompt, with an empty line between.

    Args:
        example: the example to render.
        template: ``auto``, ``plain``, ``alpaca``, ``chat``, or a string with ``{field}``
            placeholders.
        tokenizer: needed for ``chat``.
        system: a system text for every example.

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
        turns = chat_messages(example, system)[:-1]
        prompt = render_chat(example, turns, tokenizer, answer_next=True)
        return Rendered(prompt, example.completion)
    prompt = _RENDERERS[name](example, template)
    system = _own_system(example) or system
    return Rendered(f"{system}\n\n{prompt}" if system else prompt, example.completion)


def chat_messages(example: Example, system: str | None) -> list[Message]:
    """The example as a conversation that ends with the answer."""
    if example.messages:
        turns = list(example.messages)
    else:
        turns = [Message("user", request_text(example)), Message("assistant", example.completion)]
    if system and turns[0].role not in _SYSTEM_ROLES:
        turns.insert(0, Message("system", system))
    return turns


def render_chat(
    example: Example,
    turns: list[Message],
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    answer_next: bool,
) -> str:
    """Some turns of the example's conversation in the tokenizer's chat format.

    Args:
        example: the example, for messages.
        turns: the turns to render.
        tokenizer: the tokenizer with the chat template.
        answer_next: end with what opens the assistant's turn.

    Raises:
        ConfigError: there is no chat template.
        DataError: the chat template refuses the conversation.
    """
    if tokenizer is None or not tokenizer.chat_template:
        raise ConfigError(
            "The chat format was asked for, or the rows are conversations, but the tokenizer has no"
            " chat template. Use a tokenizer that has one, set `tokenizer.chat_template`, or choose"
            " the template 'plain', which takes conversations of one question and one answer."
        )
    conversation = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=answer_next
        )
    except (jinja2.TemplateError, TypeError) as error:
        roles = ", ".join(turn.role for turn in turns)
        raise DataError(
            f"Example '{example.id}': the tokenizer's chat template refuses a conversation of"
            f" {roles}: {error}. Mend the conversation (and leave out the system text if the"
            " template knows none), or choose another template."
        ) from error
    assert isinstance(text, str)
    return text


def _placeholders(template: str) -> list[str]:
    """The names between braces, in order."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"The template {template!r} is malformed: {error}. Write a field as {{name}}, and a"
            " brace that is meant literally twice."
        ) from error
    if any(part[2] or part[3] for part in parts):
        raise ConfigError(
            f"The template {template!r} formats a field with ':' or '!'. Fields are text: write"
            " {name} alone, and a brace that is meant literally twice."
        )
    return [part[1] for part in parts if part[1] is not None]


def _custom(example: Example, template: str) -> str:
    """The user's own template with the example's fields filled in."""
    fields = _one_turn(example).fields
    for name in _placeholders(template):
        if name not in fields:
            raise ConfigError(
                f"The template names the field '{name}', which these examples do not have."
                f"{did_you_mean(name, fields)} Known: {', '.join(fields)}. The answer needs no"
                " field: it follows the template."
            )
    return template.format_map(fields)


def _plain(example: Example, template: str) -> str:
    """The request alone."""
    request = request_text(_one_turn(example))
    return request if "prompt" in example.fields else f"{request}\n"


def _alpaca(example: Example, template: str) -> str:
    """The Alpaca prompt; a prompt or a question is taken as an instruction without input."""
    fields = _one_turn(example).fields
    instruction = fields.get("instruction") or request_text(example)
    given = fields.get("input", "")
    return (_ALPACA_WITH_INPUT if given else _ALPACA).format(instruction=instruction, input=given)


_RENDERERS = {"custom": _custom, "plain": _plain, "alpaca": _alpaca}


def request_text(example: Example) -> str:
    """What the example asks: its prompt, its question, or its instruction followed by its input."""
    fields = example.fields
    parts = [fields[name] for name in ("prompt", "question", "instruction") if fields.get(name)][:1]
    if not parts:
        raise DataError(
            f"Example '{example.id}' has no prompt, question or instruction among its fields"
            f" ({', '.join(fields) or 'none'}). Add one, or name the fields in a template."
        )
    return "\n\n".join([*parts, *filter(None, [fields.get("input")])])


def _own_system(example: Example) -> str:
    """The system text that the example's conversation begins with; empty when it has none."""
    first = example.messages[:1]
    return first[0].content if first and first[0].role in _SYSTEM_ROLES else ""


def _one_turn(example: Example) -> Example:
    """The example, if a template without turns can say all of it."""
    roles = [turn.role for turn in example.messages if turn.role not in _SYSTEM_ROLES]
    if example.messages and roles != ["user", "assistant"]:
        raise DataError(
            f"Example '{example.id}' is a conversation of {len(roles)} turns"
            f" ({', '.join(roles[:6])}), which only a chat template can write. Choose the template"
            " 'chat', or keep conversations of one question and one answer."
        )
    return example

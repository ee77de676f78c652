"""What a teacher is asked."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from tutelage.data.chat import request_text
from tutelage.data.encode import tokenize_prompts
from tutelage.data.format import render, template_name
from tutelage.data.templates import check_style
from tutelage.errors import ConfigError, DataError
from tutelage.types import Example, check_unique

LONGEST_PROMPT = 4096
"""Tokens of the longest prompt that a teacher is asked, unless told otherwise."""

# CLPD's prompt is known by this much: explain step by step, then end exactly with the answer.
_STEP_BY_STEP = (
    "Explain your reasoning step by step. Then end exactly with the final answer, in this form:\n"
)
_ANSWER = "<final answer>"


def teacher_prompt(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    *,
    style: str = "plain",
    answer_format: str = "The answer is {answer}",
    template: str = "auto",
    system: str | None = None,
) -> tuple[str, bool]:
    r"""What a teacher is asked, as text.

    ``plain`` asks what the data ask, in ``template``, as the student is asked. The other styles
    put what the data ask into an instruction. It goes to a teacher that has a chat template in that
    one, whatever the student's template is, because such a teacher was tuned to follow
    instructions so. Other teachers get it in ``template`` if that is ``alpaca``, else as text.

    Args:
        example: the example.
        tokenizer: the TEACHER's tokenizer.
        style: ``plain``; ``step_by_step``, which asks to explain the reasoning and to end exactly
            with the final answer, as CLPD does; or a text with ``{prompt}``, for what the data ask,
            and the fields of the data. In a conversation it replaces the last turn of the user.
        answer_format: how a ``step_by_step`` answer must end. ``{answer}`` stands for the answer;
            so does ``{}``, which keeps its braces, as in ``\boxed{}``.
        template: the student's template, as for ``tokenize_examples``.
        system: a system text.

    Returns:
        The text, and whether a chat template wrote it.

    Raises:
        ConfigError: an unknown style, or a placeholder that these data do not fill.
        DataError: the example does not fit the template.

    References:
        Cao et al., Curriculum Learning-Guided Progressive Distillation, arXiv:2605.11260.

    Examples:
        >>> example = Example(id="a", fields={"question": "2 + 2?"}, completion="4")
        >>> teacher_prompt(example, tokenizer, style="Q: {question}\nA:")  # doctest: +SKIP
        ('Q: 2 + 2?\nA:', False)
    """
    check_style(style, answer_format)
    if style != "plain":
        example = _asked(example, style, answer_format)
        fallback = "alpaca" if template == "alpaca" else "plain"
        template = "chat" if tokenizer.chat_template else fallback
    in_chat = template_name(example, template, tokenizer) == "chat"
    return render(example, template, tokenizer, system).prompt, in_chat


def _asked(example: Example, style: str, answer_format: str) -> Example:
    """The example with an instruction around what it asks."""
    turns = [turn.role for turn in example.messages]
    last = len(turns) - 1 - turns[::-1].index("user") if "user" in turns else None
    request = request_text(example) if last is None else example.messages[last].content
    if style == "step_by_step":
        # A replacement, not a format: both texts may hold braces of their own.
        blank = ("{answer}", _ANSWER) if "{answer}" in answer_format else ("{}", f"{{{_ANSWER}}}")
        text = f"{request}\n\n{_STEP_BY_STEP}{answer_format.replace(*blank)}"
        # As an instruction it ends its line in templates that are not chats.
        fields = {"instruction": text}
    else:
        filled = replace(example, fields={**example.fields, "prompt": request}, messages=())
        try:
            text = render(filled, style).prompt
        except ConfigError as error:
            raise ConfigError(f"The teacher's prompt does not fit the data. {error}") from error
        fields = {"prompt": text}
    messages = tuple(
        replace(turn, content=text) if place == last else turn
        for place, turn in enumerate(example.messages)
    )
    return replace(example, fields=fields, messages=messages)


def teacher_prompts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    style: str = "plain",
    answer_format: str = "The answer is {answer}",
    template: str = "auto",
    system: str | None = None,
    max_length: int = LONGEST_PROMPT,
) -> dict[str, list[int]]:
    """Tokens of what a teacher is asked, by example id; see ``teacher_prompt``.

    Args:
        examples: the examples.
        tokenizer: the TEACHER's tokenizer.
        style: how the teacher is asked.
        answer_format: how a ``step_by_step`` answer must end.
        template: the student's template.
        system: a system text.
        max_length: longer prompts are left out.

    Raises:
        ConfigError: an unknown style, or a placeholder that these data do not fill.
        DataError: ids repeat, an example does not fit the template, or no prompt is short enough.
    """
    check_unique([example.id for example in examples])
    asked = {
        example.id: teacher_prompt(
            example,
            tokenizer,
            style=style,
            answer_format=answer_format,
            template=template,
            system=system,
        )
        for example in examples
    }
    prompts: dict[str, list[int]] = {}
    for in_chat in (False, True):
        texts = {i: text for i, (text, by_chat) in asked.items() if by_chat == in_chat}
        ids = tokenize_prompts(list(texts.values()), tokenizer, in_chat=in_chat)
        prompts.update(zip(texts, ids, strict=True))
    kept = {i: prompts[i] for i in asked if len(prompts[i]) <= max_length}
    if asked and not kept:
        shortest = min(map(len, prompts.values()))
        raise DataError(
            f"All {len(asked)} prompts have more than {max_length} tokens (the shortest has"
            f" {shortest}), so the teacher is asked nothing. Raise the limit, or ask in"
            " fewer words."
        )
    return kept

"""What a teacher is asked, and an example with the teacher's answer in place of the data's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tutelage.data.format import request_text
from tutelage.data.tokenize import tokenize_examples
from tutelage.errors import ConfigError
from tutelage.types import Example

STYLES = ("plain", "step_by_step")

_STEP_BY_STEP = (
    "{prompt}\n\nExplain your reasoning step by step. Then end exactly with the final answer, in"
    " this form:\n{form}"
)


def teacher_prompts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    style: str = "plain",
    answer_format: str = "The answer is {answer}",
    template: str = "auto",
    system: str | None = None,
    max_length: int = 4096,
) -> dict[str, list[int]]:
    """Tokens of what a teacher is asked, by example id.

    Args:
        examples: the examples.
        tokenizer: the TEACHER's tokenizer; its chat template is used where it has one and the
            template is ``auto``.
        style: ``plain`` asks what the data ask; ``step_by_step`` also asks to explain the reasoning
            and to end with the final answer, as CLPD does; or a text with ``{prompt}`` and the
            fields of the data.
        answer_format: how a ``step_by_step`` answer must end.
        template: as for ``tokenize_examples``.
        system: a system text.
        max_length: longer prompts are left out.

    Raises:
        ConfigError: a style that is no known name and has no placeholder.
    """
    asked = [_asked(example, style, answer_format) for example in examples]
    rows = tokenize_examples(
        asked,
        tokenizer,
        template=template,
        system=system,
        max_length=10**9,
        max_prompt_length=max_length,
    ).dataset
    return {row["id"]: row["input_ids"][: row["num_prompt_tokens"]] for row in rows}  # type: ignore[index]


def _asked(example: Example, style: str, answer_format: str) -> Example:
    if style == "plain":
        return example
    wrapper = style
    form = answer_format.replace("{answer}", "<final answer>")
    if style == "step_by_step":
        wrapper = _STEP_BY_STEP
    elif "{" not in style:
        raise ConfigError(
            f"Unknown prompt style '{style}'. Known: {', '.join(STYLES)}; or write a text with the"
            " placeholder {prompt}."
        )
    fields: Mapping[str, Any] = {**example.fields, "prompt": request_text(example), "form": form}
    try:
        text = wrapper.format_map(fields)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"The prompt of supervision does not fit the data: {error}. Fields:"
            f" {', '.join(sorted(fields))}. Write {{{{ and }}}} for plain braces."
        ) from error
    return replace(example, fields={"prompt": text}, messages=())


def with_completion(example: Example, text: str) -> Example:
    """The example with another answer to learn; what it is judged by stays."""
    messages = example.messages
    if messages:
        messages = (*messages[:-1], replace(messages[-1], content=text))
    references = example.references or (example.completion,)
    return replace(example, completion=text, references=references, messages=messages)

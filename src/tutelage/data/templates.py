"""The names of templates and of ways to ask a teacher, and what a text of one's own may hold."""

from tutelage.errors import ConfigError, unknown_name
from tutelage.placeholders import placeholders, shorten

TEMPLATES = ("auto", "plain", "alpaca", "chat")
STYLES = ("plain", "step_by_step")


def check_template(template: str) -> None:
    """Raise a ``ConfigError`` unless ``template`` is a known name or a string with placeholders."""
    if template in TEMPLATES:
        return
    if "{" not in template:
        # A misspelt name would otherwise become the same constant prompt for every example.
        error = unknown_name("template", template, TEMPLATES)
        raise ConfigError(f"{error} A template of your own needs a {{field}} placeholder.")
    if not placeholders(template):
        raise ConfigError(
            f"The template {shorten(template)} names no field, so every example would have the same"
            " prompt. Put a {field} placeholder where the example's text belongs."
        )


def check_style(style: str, answer_format: str = "{answer}") -> None:
    """Raise a ``ConfigError`` unless a teacher can be asked in this way.

    Args:
        style: ``plain``, ``step_by_step``, or a text with placeholders.
        answer_format: how a ``step_by_step`` answer must end, such as ``#### {answer}``.
    """
    if style not in STYLES:
        if "{" not in style:
            error = unknown_name("prompt style", style, STYLES)
            raise ConfigError(f"{error} A text of your own needs a {{prompt}} placeholder.")
        check_template(style)
    if style == "step_by_step" and not ("{answer}" in answer_format or "{}" in answer_format):
        raise ConfigError(
            f"The answer format {shorten(answer_format)} does not say where the answer belongs."
            " Write {answer} in its place, as in '#### {answer}' or '\\boxed{{answer}}'."
        )

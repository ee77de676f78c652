"""Docstrings as Markdown: their maths as MathML, and the few roles that they use as code."""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

_BLOCK = re.compile(r"^( *)\.\. math:: (.+(?:\n(?:\1 +).+)*)", re.MULTILINE)
_INLINE = re.compile(r":math:`([^`]+)`")
_ROLE = re.compile(r":(?:func|class|mod|meth|attr):`~?([^`]+)`")
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
_LITERAL = re.compile(r"::(?=\n\n? {4})")


class Docstrings(griffe.Extension):
    """Turn the reStructuredText of a docstring into what MkDocs reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of each object once it is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring's text with its maths and roles written for Markdown."""
    text = _BLOCK.sub(lambda m: m[1] + _mathml(" ".join(m[2].split()), "block"), text)
    text = _INLINE.sub(lambda m: _mathml(" ".join(m[1].split()), "inline"), text)
    text = _EXAMPLE.sub(r"\1Examples:", text)  # as Google's sections are called
    return _LITERAL.sub(":\n", _ROLE.sub(r"`\1`", text))


def _mathml(latex: str, display: str) -> str:
    return convert(latex, display=display)

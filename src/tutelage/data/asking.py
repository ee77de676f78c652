"""How a person's words become what a model reads: the format that it was trained with.

A student that learned ``Question: {question}`` is another model when it is asked without it. So
what a run did with its data is a value that a conversation, and an exported folder, can carry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tutelage.data.chat import request_chat, request_text
from tutelage.data.encode import tokenize_prompts
from tutelage.data.format import render, template_name
from tutelage.data.openings import Opening
from tutelage.data.pieces import token_ids
from tutelage.data.templates import TEMPLATES
from tutelage.errors import ConfigError, DataError, unknown_name
from tutelage.placeholders import placeholders, shorten
from tutelage.types import Example, Message

_MAIN = ("prompt", "question", "instruction")
_NAME = "the conversation"


@dataclass(frozen=True)
class PromptFormat:
    """What is made of a person's words before a model reads them.

    Attributes:
        template: as in a recipe: ``auto``, ``plain``, ``alpaca``, ``chat``, or a text with
            ``{field}`` placeholders.
        main: the field that holds the words.
        others: further fields that a template of one's own names; each needs a value.
        values: values of further fields, by name.
        system: a system text for every prompt; None for none.
        opening: how an answer in a chat is opened, where that is not the chat template's own
            generation prompt.
    """

    template: str = "auto"
    main: str = "prompt"
    others: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None
    opening: Opening = field(default_factory=Opening)

    @classmethod
    def of_data(
        cls,
        example: Example,
        *,
        template: str = "auto",
        system: str | None = None,
        opening: Opening | None = None,
    ) -> "PromptFormat":
        """The format of data.

        Args:
            example: one of the examples, for the names of its fields and its source's system text.
            template: of the data.
            system: of the data.
            opening: the one that most training answers have; None for the template's own.

        Raises:
            ConfigError: the template names several fields, and none of them is what is asked.
        """
        named = placeholders(template) if template not in TEMPLATES else ()
        known = [name for name in example.fields if not named or name in named]
        main = next((name for name in _MAIN if name in known), None)
        if main is None and len(set(named)) > 1:
            raise ConfigError(
                f"The template of this run names the fields {', '.join(named)}, and none of them is"
                f" called {', '.join(_MAIN[:2])} or {_MAIN[2]}, so nothing says which one holds"
                " what you write. Ask the model in your own code."
            )
        main = main or (named[0] if named else "prompt")
        others = tuple(dict.fromkeys(name for name in named if name != main))
        system = example.system_or(system) or None
        return cls(template, main, others, {}, system, opening or Opening())

    def in_chat(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether the tokenizer's chat template writes the prompts, so that turns can follow."""
        return template_name(self._example("x"), self.template, tokenizer) == "chat"

    def with_values(self, values: Mapping[str, str]) -> "PromptFormat":
        """The format with values of further fields.

        Raises:
            ConfigError: there is no such field.
        """
        known = (*self.others, *(("input",) if self.main == "instruction" else ()))
        for name in values:
            if name not in known:
                raise unknown_name("field of the prompt", name, known)
        return replace(self, values={**self.values, **values})

    def text(self, turns: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
        """What a model reads before it answers.

        Args:
            turns: of the user and the assistant; the last one is the user's. Outside of chats there
                is no other.
            tokenizer: the model's.

        Raises:
            DataError: the format cannot write them.
            ConfigError: a further field has no value, or there is no chat template.
        """
        if not self.in_chat(tokenizer):
            if len(turns) != 1:
                raise DataError(
                    "This model was trained on single questions in a format that has no turns, so"
                    " nothing can follow an answer. Ask each question alone."
                )
            example = self.example(turns[0].content)
            return render(example, self.template, tokenizer, self.system).prompt
        said = [*turns[:-1], replace(turns[-1], content=self._request(turns[-1].content))]
        if self.system:
            said.insert(0, Message("system", self.system))
        opened = request_chat(said, tokenizer, _NAME)
        return self.opening.after(opened) or opened

    def tokens(self, turns: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The same as token ids, as data are tokenized.

        Raises:
            DataError: the tokenizer knows nothing of what is asked.
        """
        words = turns[-1].content
        unknown: Any = tokenizer.unk_token_id
        if words.strip() and {unknown}.issuperset(token_ids([words], tokenizer)[0]):
            raise DataError(
                f"The tokenizer knows no character of {shorten(words)}, so the model would be asked"
                " nothing. Ask in the characters of the data that it was trained on."
            )
        text = self.text(turns, tokenizer)
        return tokenize_prompts([text], tokenizer, in_chat=self.in_chat(tokenizer))[0]

    def example(self, words: str) -> Example:
        """What is asked, as a row of the data without an answer."""
        missing = [name for name in self.others if name not in self.values]
        if missing:
            raise ConfigError(
                f"The template that this model was trained with also names '{missing[0]}'. Give its"
                f" value: --field {missing[0]}=TEXT."
            )
        return self._example(words)

    def _example(self, words: str) -> Example:
        return Example(id=_NAME, fields={self.main: words, **self.values}, completion="")

    def _request(self, words: str) -> str:
        return request_text(self._example(words)) if self.values else words

    def as_json(self) -> dict[str, Any]:
        """Plain values, as :meth:`from_json` reads them."""
        return {
            "template": self.template,
            "field": self.main,
            "other_fields": list(self.others),
            "system": self.system,
            "opening": {"less": self.opening.less, "more": self.opening.more},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PromptFormat":
        """What :meth:`as_json` wrote."""
        return cls(
            str(value["template"]),
            str(value["field"]),
            tuple(value["other_fields"]),
            {},
            value["system"],
            Opening(**value["opening"]),
        )

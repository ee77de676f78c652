"""What opens an answer in a chat: the template's generation prompt, or something else in its place.

A template of a reasoning model may open an answer in two ways, one for an answer with thoughts and
one for an answer without. What a student learns after, what it is asked after and what a teacher is
asked after must be one, so an opening is a value that can be compared and used again.
"""

from dataclasses import dataclass

from tutelage.data.pieces import common_length

_LONGEST = 80  # characters; what is longer holds a user's text


@dataclass(frozen=True)
class Opening:
    """How what precedes an answer differs from the chat template's own generation prompt.

    Attributes:
        less: the end of the generation prompt that is not there.
        more: what is there in its place.
    """

    less: str = ""
    more: str = ""

    @classmethod
    def between(cls, generation_prompt: str, before: str) -> "Opening":
        """The opening of an answer, from the text before it."""
        common = common_length(generation_prompt, before)
        return cls(generation_prompt[common:], before[common:])

    @property
    def usual(self) -> bool:
        """Whether it says how an answer is opened, and holds no text of a conversation."""
        return max(len(self.less), len(self.more)) <= _LONGEST

    @property
    def words(self) -> str:
        """The difference in words; empty when there is none."""
        less, more = self.less, self.more
        if not self.usual:
            return "with another text before the answer"
        if more:
            return f"with {more!r} in place of its {less!r}" if less else f"with {more!r} after it"
        return f"without its {less!r}" if less else ""

    def after(self, generation_prompt: str) -> str | None:
        """The text before an answer that is opened so; None where it cannot be."""
        if not self.usual or not generation_prompt.endswith(self.less):
            return None
        return generation_prompt.removesuffix(self.less) + self.more

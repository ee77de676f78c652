"""Whether the distributions of two models are over the same tokens."""

from collections.abc import Mapping
from typing import Protocol

from tutelage.errors import ModelError

_LONGEST = 60
"""Characters of a token that a message shows."""


class Tokenizer(Protocol):
    """What two tokenizers are compared by; those of transformers have it."""

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """Its id."""
        ...

    def get_vocab(self) -> Mapping[str, int]:
        """All tokens and their ids."""
        ...


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """The number of real tokens: the highest id plus one."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def check_same_tokenizer(
    teacher: Tokenizer,
    student: Tokenizer,
    *,
    teacher_head: int | None = None,
    student_head: int | None = None,
    ends_alike: bool = False,
) -> int:
    """Check that both tokenizers give every token the same id; return the real vocabulary size.

    Models of one family pad their heads to different sizes (151,936 and 152,064 rows for one and
    the same tokenizer). Rows past the real size mean nothing: slice both heads to the number that
    this returns.

    Args:
        teacher: the teacher's tokenizer.
        student: the student's tokenizer.
        teacher_head: rows of the teacher's output head; None to leave it unchecked.
        student_head: rows of the student's output head; None to leave it unchecked.
        ends_alike: whether answers end with a token that ends them for both, though texts end with
            different ones: base and instruct models of one family, in chats.

    Returns:
        See ``vocabulary_size``.

    Raises:
        ModelError: the vocabularies or the end-of-sequence tokens differ, or a head is too small.
    """
    vocabularies = teacher.get_vocab(), student.get_vocab()
    if vocabularies[0] != vocabularies[1]:
        _refuse_added_tokens(*vocabularies)
        raise ModelError(
            "Teacher and student have different tokenizers, so their next-token distributions"
            f" cannot be compared: {_vocabulary_difference(*vocabularies)}. Choose a pair of one"
            " family, or use text-level supervision: the teacher writes answers, and the student is"
            " fine-tuned on them."
        )
    if teacher.eos_token_id != student.eos_token_id and not ends_alike:
        raise ModelError(
            "Teacher and student end a text with different tokens:"
            f" '{teacher.eos_token}' ({teacher.eos_token_id}) and"
            f" '{student.eos_token}' ({student.eos_token_id}). All other tokens agree, so copy the"
            " teacher's tokenizer files into the student's folder, or set the student's"
            " `eos_token` to the teacher's. (In chats they may differ where the student's chat"
            " template ends a turn as the teacher does.)"
        )
    size = vocabulary_size(teacher)
    for owner, head in (("teacher", teacher_head), ("student", student_head)):
        if head is not None and head < size:
            raise ModelError(
                f"The {owner}'s output head has {head:,} rows for a tokenizer of {size:,} tokens,"
                " so some tokens have no probability. Name the tokenizer that belongs to the model,"
                " or resize its embeddings with `model.resize_token_embeddings`."
            )
    return size


def _refuse_added_tokens(teacher: Mapping[str, int], student: Mapping[str, int]) -> None:
    """Say so where one tokenizer is the other one with some tokens added, such as a padding."""
    pairs = ("student", "teacher", student, teacher), ("teacher", "student", teacher, student)
    for larger, smaller, more, fewer in pairs:
        if fewer.items() <= more.items():
            added = sorted(more.keys() - fewer.keys(), key=more.__getitem__)
            shown = ", ".join(f"{_short(token)} ({more[token]})" for token in added[:3])
            raise ModelError(
                f"The {larger}'s tokenizer is the {smaller}'s with {_tokens(len(added))} added:"
                f" {shown}. All others agree, so copy the {smaller}'s tokenizer files into the"
                f" {larger}'s folder (padding needs no token of its own here); or, if the data use"
                f" them, add them to the {smaller} too, with `tokenizer.add_tokens` and"
                " `model.resize_token_embeddings`."
            )


def _short(token: str) -> str:
    return repr(token if len(token) <= _LONGEST else f"{token[:_LONGEST]}...")


def _tokens(count: int) -> str:
    return f"{count:,} token" + ("s" if count != 1 else "")


def _vocabulary_difference(teacher: Mapping[str, int], student: Mapping[str, int]) -> str:
    """How two vocabularies differ: their sizes, and the first three tokens that do."""
    differing = [token for token in teacher if student.get(token) != teacher[token]]
    differing += [token for token in student if token not in teacher]
    differing.sort(key=lambda token: (teacher.get(token, student.get(token, 0)), token))
    shown = ", ".join(
        f"{_short(token)} is {teacher.get(token, 'missing')} in the teacher's and"
        f" {student.get(token, 'missing')} in the student's"
        for token in differing[:3]
    )
    return (
        f"the teacher's has {len(teacher):,} tokens, the student's {len(student):,}, and"
        f" {len(differing):,} tokens differ ({shown})"
    )

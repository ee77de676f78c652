"""Ask a judge about pairs of answers, once for each thing that it has not said yet."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import DataError, SpendingLimitError
from tutelage.evaluation.judge.cost import Estimate, affordable, estimate, prompt_tokens
from tutelage.evaluation.judge.prompt import VERSION, judge_prompt, read_verdict
from tutelage.evaluation.judge.report import JudgeReport, Used, report_of
from tutelage.evaluation.judge.values import JudgeSettings, Pair, Verdict
from tutelage.generation.engine import Answer, Chat, Engine
from tutelage.generation.store import TextStore, WrittenText
from tutelage.proofs import fingerprint
from tutelage.types import check_unique

_KEEP_EVERY = 0.5
"""Seconds that a verdict waits at most for others to be written with."""


@dataclass(frozen=True)
class _Asked:
    """One pair in one order.

    Attributes:
        pair: what is judged.
        swapped: whether the second answer is shown first.
        prompt: what the judge reads.
        key: by which its verdict is kept.
    """

    pair: Pair
    swapped: bool
    prompt: Chat
    key: str


def kept_verdicts(folder: str | Path) -> TextStore:
    """The folder in which verdicts are kept by content; several judges may share it.

    Raises:
        RunFolderError: it holds something else, or a damaged line.
    """
    return TextStore(folder, {"kind": "verdicts"})


def judge_pairs(
    engine: Engine,
    pairs: Sequence[Pair],
    settings: JudgeSettings,
    cache: TextStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> JudgeReport:
    """Let a judge say which of two answers is better, for every pair.

    Pairs whose answers read the same are ties, and nobody is asked about them. The same question
    with the same two answers is asked once: what the same judge said under the same settings is
    taken from the cache.

    Args:
        engine: answers with the judge.
        pairs: with ids of their own.
        settings: who judges, orders, lengths, prices, the limit.
        cache: where verdicts are kept as they come; None keeps none.
        progress: called with (verdicts there, verdicts in all), equal ones once.

    Raises:
        DataError: no pairs, or ids that repeat.
        SpendingLimitError: the next question could pass the limit; what was said is kept.
        ServerError: the judge is away; what was said is kept.
    """
    _check(pairs)
    asked = _asked(pairs, settings)
    said: dict[str, Answer] = {} if cache is None else _kept(asked, cache)
    kept, distinct = len(said), {one.key: one for one in asked}
    todo = [one for key, one in distinct.items() if key not in said]

    def tell(new: int) -> None:
        if progress is not None:
            progress(kept + new, len(distinct))

    used = _ask(engine, todo, settings, said, cache, tell)
    verdicts = [
        Verdict(pair.id, swapped, "tie", "")
        for pair in pairs
        if pair.alike
        for swapped in settings.orders
    ]
    for one in asked:
        answer = said[one.key]
        winner = read_verdict(answer.text, swapped=one.swapped, truncated=answer.truncated)
        verdicts.append(Verdict(one.pair.id, one.swapped, winner, answer.text))
    return report_of(pairs, verdicts, settings, used)


def estimate_pairs(
    pairs: Sequence[Pair],
    settings: JudgeSettings,
    cache: TextStore | None = None,
    *,
    concurrency: int = 1,
) -> Estimate:
    """What :func:`judge_pairs` would ask and what that takes at most; nobody is asked.

    Args:
        pairs: as there.
        settings: as there.
        cache: as there.
        concurrency: questions that the judge answers at once.

    Raises:
        DataError: as there.
    """
    _check(pairs)
    asked = _asked(pairs, settings)
    said = {} if cache is None else _kept(asked, cache)
    todo = {one.key: one.prompt for one in asked if one.key not in said}
    return estimate(list(todo.values()), settings, kept=len(said), concurrency=concurrency)


def _check(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise DataError(
            "There is no pair of answers to judge. Give two models that answered the same"
            " questions."
        )
    check_unique([pair.id for pair in pairs])


def _asked(pairs: Sequence[Pair], settings: JudgeSettings) -> list[_Asked]:
    """What the judge is to be asked: every pair whose answers differ, in every order."""
    how = [
        VERSION,
        settings.judge,
        settings.max_new_tokens,
        settings.sampling_temperature,
        *([] if settings.generation.greedy else [settings.seed]),
    ]
    found = []
    for pair in pairs:
        for swapped in settings.orders if not pair.alike else ():
            prompt = judge_prompt(pair, swapped=swapped)
            texts = [turn.content for turn in prompt.messages]
            found.append(_Asked(pair, swapped, prompt, fingerprint([how, texts])))
    return found


def _kept(asked: Sequence[_Asked], cache: TextStore) -> dict[str, Answer]:
    cache.read_on()
    found = {one.key: cache.get(one.key) for one in asked}
    return {
        key: Answer(text.text, text.num_tokens, "length" if text.truncated else "stop")
        for key, text in found.items()
        if text is not None
    }


def _ask(
    engine: Engine,
    todo: Sequence[_Asked],
    settings: JudgeSettings,
    said: dict[str, Answer],
    cache: TextStore | None,
    tell: Callable[[int], None],
) -> Used:
    """Ask what is to be asked, as much at once as can be paid for whatever it costs."""
    spent, rest, done = 0.0, list(todo), 0
    tokens_in = tokens_out = 0
    tell(0)
    while rest:
        count = affordable([one.prompt for one in rest], settings, spent)
        if not count:
            raise _limit_error(settings, spent, len(said), len(rest), cache)
        part, rest = rest[:count], rest[count:]
        _ask_part(engine, part, settings, said, cache, lambda new, before=done: tell(before + new))
        tokens_in += sum(prompt_tokens(one.prompt) for one in part)
        tokens_out += sum(said[one.key].num_tokens for one in part)
        spent = settings.price(tokens_in, tokens_out)
        done += len(part)
    return Used(len(todo), tokens_in, tokens_out, spent)


def _ask_part(
    engine: Engine,
    part: Sequence[_Asked],
    settings: JudgeSettings,
    said: dict[str, Answer],
    cache: TextStore | None,
    tell: Callable[[int], None],
) -> None:
    waiting: list[WrittenText] = []
    since = 0.0

    def keep(place: int, answer: Answer) -> None:
        nonlocal since
        since = since if waiting else time.monotonic()
        waiting.append(_written(part[place], answer, settings))
        if time.monotonic() - since > _KEEP_EVERY:
            flush()

    def flush() -> None:
        if cache is not None and waiting:
            cache.add(waiting)
        waiting.clear()

    chats = [one.prompt for one in part]
    prompts = chats if engine.chats else [_as_text(chat) for chat in chats]
    try:
        answers = engine.answer(
            prompts,
            settings.generation,
            seed=settings.seed,
            progress=lambda done, _: tell(done),
            on_answer=None if cache is None else keep,
        )
    finally:
        flush()
    said.update({one.key: answer for one, answer in zip(part, answers, strict=True)})


def _as_text(chat: Chat) -> str:
    """What a judge without a chat template is asked."""
    return "\n\n".join(turn.content for turn in chat.messages) + "\n\n"


def _written(one: _Asked, answer: Answer, settings: JudgeSettings) -> WrittenText:
    return WrittenText(
        id=one.key,
        sample=0,
        text=answer.text,
        writer=settings.judge,
        num_tokens=answer.num_tokens,
        truncated=answer.truncated,
        score=None,
        seed=settings.seed,
        sampling_temperature=settings.sampling_temperature,
    )


def _limit_error(
    settings: JudgeSettings, spent: float, there: int, rest: int, cache: TextStore | None
) -> SpendingLimitError:
    kept = (
        f"{there} verdicts are there and kept in '{cache.path}': they are not paid for again."
        if cache is not None
        else f"{there} verdicts were there and are lost, because no cache was given."
    )
    return SpendingLimitError(
        f"The next question to the judge could pass the spending limit of"
        f" {settings.spending_limit:g}: {spent:.4g} is spent, counting a token for every three"
        f" bytes of a prompt, and {rest} questions are left. {kept} Raise the limit, or judge fewer"
        " pairs."
    )

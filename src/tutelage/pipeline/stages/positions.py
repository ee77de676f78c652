"""Whether texts are as short as the models of a run can read, found before anything is trained."""

from collections.abc import Iterator, Sequence

from tutelage.errors import ConfigError
from tutelage.files import read_json
from tutelage.models import load_config
from tutelage.models.positions import Positions, positions_of
from tutelage.pipeline.context.models import loading
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_of


def check_positions(session: Session) -> None:
    """Refuse, or say, what is longer than the student or a teacher can read.

    Raises:
        ConfigError: an example is longer than a model with learned positions can read, or a prompt
            leaves no position for an answer.
    """
    summaries = read_json(session.part("data") / "summary.json")
    longest = max(summary["max_total_tokens"] for summary in summaries.values())
    for who, positions in _readers(session):
        check_length(session, who, positions, longest, "the longest example")
    suites = [*session.suites.values()]
    if session.recipe.selection.metric is not None:
        suites.append(session.validation_suite)
    for suite in suites:
        # Other questions are tokenized when they are asked, by each model as it reads them.
        rows = None if suite.read is not None else rows_of(session, suite.split)
        prompts = [] if rows is None else rows["num_prompt_tokens"][: suite.limit]
        longest = suite.generation.max_new_tokens
        for who, positions in _readers(session) if len(prompts) else ():
            check_room(session, f"{suite.name}: {who}", positions, prompts, longest)


def student_positions(session: Session) -> Positions:
    """The positions of the student."""
    models = session.models
    return positions_of(load_config(models.student_source, **models.student_loading))


def teacher_positions(session: Session, name: str) -> Positions:
    """The positions of a teacher."""
    options = loading(session.recipe.ladder[name])
    return positions_of(load_config(session.models.base_teacher(name), **options))


def _readers(session: Session) -> Iterator[tuple[str, Positions]]:
    """The models that read the tokenized data."""
    yield "the student", student_positions(session)
    for name in session.recipe.ladder:
        if session.models.shares_tokenizer(name):
            yield session.recipe.teacher_title(name), teacher_positions(session, name)


def check_length(session: Session, who: str, positions: Positions, longest: int, what: str) -> None:
    """Refuse texts beyond learned positions; say it of others.

    Args:
        session: the run.
        who: the model, for messages.
        positions: its positions.
        longest: tokens of the longest text that it reads.
        what: that text, for messages.

    Raises:
        ConfigError: the model has no position for the text's last tokens.
    """
    limit = positions.limit
    if limit is None or longest <= limit:
        return
    if positions.fixed:
        raise ConfigError(
            f"{what[0].upper()}{what[1:]} has {longest:,} tokens, and {who} has {limit:,} positions"
            f" and can read no more. Set data.max_length to {limit} or less (and"
            " data.long_prompts to cut), or choose another model."
        )
    session.display.note(
        f"warning: {what} has {longest:,} tokens, and {who} was made for {limit:,} positions;"
        f" beyond them it gets worse. data.max_length={limit} leaves such examples out."
    )


def check_room(
    session: Session, who: str, positions: Positions, prompts: Sequence[int], max_new_tokens: int
) -> None:
    """Refuse prompts that leave no position for an answer; say how many leave too few.

    Args:
        session: the run.
        who: the model that answers, for messages.
        positions: its positions, at which answers end whatever their kind.
        prompts: tokens of each prompt.
        max_new_tokens: longest answer.

    Raises:
        ConfigError: a prompt fills all positions.
    """
    limit = positions.limit
    if limit is None or max(prompts) + max_new_tokens <= limit:
        return
    full = sum(length >= limit for length in prompts)
    if full:
        raise ConfigError(
            f"{who} has {limit:,} positions, and {full} prompts fill all of them (the longest has"
            f" {max(prompts):,} tokens), so there is no room for an answer. Set"
            f" data.max_prompt_length below {limit}, with data.long_prompts at cut."
        )
    short = sum(length + max_new_tokens > limit for length in prompts)
    session.display.note(
        f"warning: {who} has {limit:,} positions: {short} of {len(prompts)} prompts leave room for"
        f" less than an answer of {max_new_tokens} tokens, which ends there"
    )

"""Signs that a student's own answers go wrong, said in words.

Everything is read from the records of a training, so what was raised before a kill is not raised
again after it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.settings import check_settings, setting

PREFIX = "alarm_"
"""Of the keys in a record under which alarms stand in words."""

_FIRST = 3
"""So many records say how the answers were at first."""

_IN_A_ROW = 2
"""So many records in a row show a sign before it is an alarm: one may be chance."""


@dataclass(frozen=True)
class Alarms:
    """When the student's own answers are said to go wrong; None switches an alarm off.

    An alarm is words, once for each kind in a training, and stops nothing. Those that are on by
    default mean harm in every task:

    - Answers that go in circles are no text of any task.
    - Answers that ended by themselves and do not any more: those that a short horizon cuts on
      purpose are cut from the first on.
    - Length is held against the data's answers to the same prompts, under the same limit. So a
      curriculum that goes on to longer answers, a horizon and a given prefix raise nothing, and
      neither does a student that learns to stop: it has to be ``length_ratio`` times away from
      both the data and what it was at first.
    - A student that is pulled to its teacher agrees with it more and more. If it agrees much less
      than at first, its text has become one on which the teacher cannot be followed.

    Entropy is off: it depends on the task. Where there is one right answer, a good student has
    almost none.

    Attributes:
        repetition: share of 4-grams that stood in the same answer before.
        ended: answers that ended by themselves, as a share of what it was at first.
        length_ratio: how many times longer or shorter answers became.
        entropy: of the student's distributions, in nats per token.
        agreement: agreement on the likeliest token, as a share of what it was at first.

    Raises:
        ConfigError: a value out of its range.
    """

    repetition: float | None = setting(
        0.5, "Above this share of 4-grams that stood in the same answer before.", ge=0, le=1
    )
    ended: float | None = setting(
        0.25, "Below this part of the answers that ended by themselves at first.", ge=0, le=1
    )
    length_ratio: float | None = setting(
        4.0, "So many times longer or shorter than at first, and than the data's answers.", gt=1
    )
    entropy: float | None = setting(None, "Below so many nats per token.", ge=0)
    agreement: float | None = setting(
        0.5, "Below this part of the agreement with the teacher at first.", ge=0, le=1
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class _Sign:
    """Something that may be wrong.

    Attributes:
        key: of a record.
        shows: whether a value shows it, from what it was at first and the threshold.
        words: what is said, with places for ``now``, ``first`` and ``limit``.
    """

    key: str
    shows: Callable[[float, float, float], bool]
    words: str


def _far_away(now: float, first: float, limit: float) -> bool:
    """Whether answers are much longer or shorter than the data's, and than they were at first."""
    return now > limit * max(first, 1.0) or now < min(first, 1.0) / limit


_SIGNS = {
    "repetition": _Sign(
        "own_repetition",
        lambda now, first, limit: now > limit,
        "the student repeats itself: {now:.0%} of the 4-grams in its own answers stood in the same"
        " answer before (alarm above {limit:.0%}). Off-policy steps in between"
        " (on_policy.fraction), a shorter on_policy.horizon or a lower learning rate help.",
    ),
    "ended": _Sign(
        "own_ended",
        lambda now, first, limit: now < limit * first,
        "{now:.0%} of the student's own answers ended by themselves and not at the length limit, at"
        " first {first:.0%} (alarm below {limit:.0%} of that). If they are not cut on purpose,"
        " raise on_policy.max_new_tokens, or train on the data's answers in between"
        " (on_policy.fraction).",
    ),
    "length_ratio": _Sign(
        "own_relative_length",
        _far_away,
        "the length of the student's own answers ran away: they are {now:.2g} times as long as the"
        " data's answers to the same prompts, at first {first:.2g} times (alarm at {limit:g} times"
        " longer or shorter). Look whether they still end, and train on the data's answers in"
        " between (on_policy.fraction).",
    ),
    "entropy": _Sign(
        "own_entropy",
        lambda now, first, limit: now < limit,
        "the student hardly varies its own answers any more: {now:.2g} nats per token, at first"
        " {first:.2g} (alarm below {limit:g}). A divergence that covers more (forward_kl, jsd), or"
        " a lower learning rate keeps more variety.",
    ),
    "agreement": _Sign(
        "own_agreement",
        lambda now, first, limit: now < limit * first,
        "on the student's own answers it agrees with the teacher at {now:.0%} of the tokens, at"
        " first at {first:.0%} (alarm below {limit:.0%} of that). Off-policy steps in between"
        " (on_policy.fraction), a longer on_policy.prefix or a lower learning rate help.",
    ),
}


def raised(
    history: Sequence[Mapping[str, Any]], record: Mapping[str, Any], alarms: Alarms
) -> dict[str, str]:
    """The alarms that a new record raises, by their key in it.

    Args:
        history: all records so far, ascending by step, with what they raised.
        record: the new one.
        alarms: the thresholds.
    """
    found = {}
    for kind, sign in _SIGNS.items():
        limit, key = getattr(alarms, kind), PREFIX + kind
        if limit is None or sign.key not in record or any(key in row for row in history):
            continue
        values = [float(row[sign.key]) for row in (*history, record) if sign.key in row]
        at_first = values[:_FIRST]
        first = sum(at_first) / len(at_first)
        last = values[-_IN_A_ROW:]
        if len(last) == _IN_A_ROW and all(sign.shows(now, first, limit) for now in last):
            found[key] = sign.words.format(now=values[-1], first=first, limit=limit)
    return found

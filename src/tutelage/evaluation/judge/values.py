"""What is judged, how, and what a judge says."""

from dataclasses import dataclass
from typing import Literal

from tutelage.errors import ConfigError
from tutelage.generation.settings import HOTTEST, GenerationSettings, check_temperature
from tutelage.settings import check_settings, count, setting

Winner = Literal["first", "second", "tie"]
_SCORES: dict[Winner, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class Pair:
    """Two answers to one question.

    Attributes:
        id: of the question.
        question: its text.
        first: the answer of the model whose win rate is wanted.
        second: the answer of the model that it is held against.
        cluster: questions that depend on each other share one; empty: its own.
    """

    id: str
    question: str
    first: str
    second: str
    cluster: str = ""

    @property
    def alike(self) -> bool:
        """Whether both answers read the same, white space at their ends aside: then it is a tie."""
        return self.first.strip() == self.second.strip()


@dataclass(frozen=True)
class Verdict:
    """What the judge said of one pair in one order.

    Attributes:
        id: of the pair.
        swapped: whether the second answer was shown first.
        winner: who is better; None when the verdict could not be read.
        said: what the judge wrote; empty where nobody was asked, because the answers are alike.
    """

    id: str
    swapped: bool
    winner: Winner | None
    said: str

    @property
    def score(self) -> float | None:
        """1 when the first answer wins, 0 when the second does, a half for a tie."""
        return None if self.winner is None else _SCORES[self.winner]

    @property
    def for_shown_first(self) -> float | None:
        """The same for the answer that was shown first, whichever it is."""
        score = self.score
        return 1.0 - score if self.swapped and score is not None else score


@dataclass(frozen=True)
class JudgeSettings:
    """How pairs are judged.

    Attributes:
        judge: who judges, in words that tell it from other judges: a verdict that is kept counts
            for this judge alone.
        both_orders: show each pair twice, with either answer first.
        max_new_tokens: longest reasoning and verdict of the judge; a cut one cannot be read.
        sampling_temperature: of the judge; 0 is greedy.
        seed: of the sampling.
        price_in: of a million tokens that the judge reads, in any currency.
        price_out: of a million tokens that it writes.
        spending_limit: most that may be spent in one call, in the same currency; None: no limit.
        tokens_per_second: that the judge writes for one answer, for estimates of time alone.

    Raises:
        ConfigError: a value out of its range, or a limit without prices.
    """

    judge: str = setting("", "Who judges.")
    both_orders: bool = setting(True, "Each pair in either order.")
    max_new_tokens: int = count(1024, "Longest reasoning and verdict.")
    sampling_temperature: float = setting(
        0.0, "0 is greedy.", ge=0.0, le=HOTTEST, check=check_temperature
    )
    seed: int = setting(0, "Of the sampling.", ge=0)
    price_in: float = setting(0.0, "Of a million tokens read.", ge=0.0)
    price_out: float = setting(0.0, "Of a million tokens written.", ge=0.0)
    spending_limit: float | None = setting(None, "Most that may be spent.", ge=0.0)
    tokens_per_second: float = setting(50.0, "Written for one answer, for estimates.", gt=0.0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.spending_limit is not None and not self.price_in + self.price_out:
            raise ConfigError(
                "`spending_limit` needs prices to be kept. Give `price_in` and `price_out`, of a"
                " million tokens each."
            )

    @property
    def generation(self) -> GenerationSettings:
        """How the judge writes."""
        return GenerationSettings(
            max_new_tokens=self.max_new_tokens, sampling_temperature=self.sampling_temperature
        )

    @property
    def orders(self) -> tuple[bool, ...]:
        """Whether answers are swapped, for each time that a pair is shown."""
        return (False, True) if self.both_orders else (False,)

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

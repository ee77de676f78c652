"""Several sources of one data set: what each is, and how many examples it gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tutelage.errors import ConfigError, DataError


@dataclass(frozen=True)
class Source:
    """One of the sources that a data set is made of.

    Attributes:
        path: see :func:`tutelage.data.load_examples`.
        weight: its part of the data set, beside the weights of the others; None takes all rows.
        group: group of the rows that name none themselves.
        split: the split to read; the one that is asked for when empty.
        name: the config of a hub data set, or of a folder that is laid out as one.
        revision: branch, tag or commit of a hub data set.
        first: read so many rows, the first ones; None for all.
        columns: our names of columns to the file's; None: as for the other sources.
        system: a system text for its rows, empty for none; None: as for the other sources.
    """

    path: str
    weight: float | None = None
    group: str = ""
    split: str = ""
    name: str = ""
    revision: str = ""
    first: int | None = None
    columns: Mapping[str, str] | None = None
    system: str | None = None

    @property
    def title(self) -> str:
        """What to call it."""
        version = f"@{self.revision}" if self.revision else ""
        config = f":{self.name}" if self.name else ""
        split = f" ({self.split})" if self.split else ""
        return f"{self.path}{version}{config}{split}"


@dataclass(frozen=True)
class SourceRows:
    """Where the rows of a source are among those of all.

    Attributes:
        source: the source.
        had: how many examples it has, copies of earlier rows left out.
        start: its first row.
        stop: the row after its last.
    """

    source: Source
    had: int
    start: int
    stop: int


def check_sources(sources: Sequence[Source]) -> None:
    """Refuse sources that make no data set together.

    Raises:
        ConfigError: there are none, one is named twice or has two configs, or weights are not
            positive numbers or not those of all.
    """
    if not sources:
        raise ConfigError("there is no source in the list. Name a file, a folder or a hub name.")
    seen = set()
    for one in sources:
        if one.title in seen:
            raise ConfigError(
                f"the source '{one.title}' is named twice, and no row is taken twice. Name it once;"
                " a weight says how much of the data it is to be."
            )
        seen.add(one.title)
        if one.first is not None and one.first < 1:
            raise ConfigError(
                f"`first` of '{one.title}' must be at least 1, not {one.first}. Leave it out to"
                " read all rows."
            )
        if one.weight is not None and not (math.isfinite(one.weight) and one.weight > 0):
            raise ConfigError(
                f"the weight of '{one.title}' must be greater than 0, not {one.weight}. Leave a"
                " source out that is to give nothing."
            )
    with_one = [one for one in sources if one.weight is not None]
    if with_one and len(with_one) < len(sources):
        without = next(one for one in sources if one.weight is None)
        raise ConfigError(
            f"'{with_one[0].title}' has a weight and '{without.title}' has none. Give each source"
            " one, or none of them: then all rows are taken."
        )


def are_drawn(sources: Sequence[Source]) -> bool:
    """Whether weights say how many examples each source gives; one source alone gives all."""
    return len(sources) > 1 and sources[0].weight is not None


def shares(sources: Sequence[Source], counts: Sequence[int]) -> list[int]:
    r"""How many examples each source gives: the most in these proportions, none of them twice.

    With :math:`N_j` examples and weight :math:`w_j` of source j, source i gives
    :math:`\lfloor w_i \min_j N_j / w_j \rfloor`, computed without rounding.

    Args:
        sources: each with a weight.
        counts: how many examples each has.

    Raises:
        DataError: one of them would give nothing.

    Examples:
        >>> shares([Source("a", weight=3), Source("b", weight=1)], [1000, 200])
        [600, 200]
    """
    for one, count in zip(sources, counts, strict=True):
        if not count:
            raise DataError(
                f"'{one.title}' has no example that is not in a source before it, so that nothing"
                " has its weight. Leave it out, or name it first."
            )
    # The text of a weight is what was meant: 0.1 is a tenth, and not the nearest binary number.
    weights = [Fraction(str(one.weight)) for one in sources]
    ratios = [count / weight for count, weight in zip(counts, weights, strict=True)]
    given = [math.floor(weight * min(ratios)) for weight in weights]
    for one, count, gives in zip(sources, counts, given, strict=True):
        if not gives:
            fewest = ratios.index(min(ratios))
            raise DataError(
                f"With these weights none of the {count:,} examples of '{one.title}' would be"
                f" taken: '{sources[fewest].title}' has {counts[fewest]:,} for the weight"
                f" {sources[fewest].weight:g}, and '{one.title}' the weight {one.weight:g}. Give it"
                " a greater weight, or leave it out."
            )
    return given

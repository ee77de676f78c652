"""Which progress the k-th of n stages (or steps) has."""

from tutelage.errors import unknown_name

GRIDS = {
    "span": "(k - 1) / (n - 1): the first has 0, the last has 1; 0 when there is only one",
    "start": "(k - 1) / n: the progress when it begins",
    "end": "k / n: the progress when it is done",
    "behind": "(k - 2) / n, and 0 for the first: one behind `start`, as a value that is set after a"
    " step from the count before it (TAID's released code)",
}
"""What progress over n stages or steps means, by name; k counts from 1."""


def progress_at(number: int, total: int, grid: str = "span") -> float:
    """Progress of number ``number`` out of ``total``, in [0, 1].

    Args:
        number: from 1 to ``total``.
        total: how many there are.
        grid: one of ``GRIDS``. CPD's temperature uses ``span`` and its student share ``end``
            (as printed) or ``start`` (the shift that keeps the teacher to the last stage).

    Raises:
        ConfigError: the grid is unknown.
    """
    assert 1 <= number <= total
    if grid == "span":
        return (number - 1) / (total - 1) if total > 1 else 0.0
    if grid == "start":
        return (number - 1) / total
    if grid == "end":
        return number / total
    if grid == "behind":
        return max(number - 2, 0) / total
    raise unknown_name("schedule grid", grid, GRIDS)

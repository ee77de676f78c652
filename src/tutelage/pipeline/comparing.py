"""Profiles side by side: do two difficulties order the data alike (CPD Table 3)?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tutelage.curriculum import CURRICULA
from tutelage.difficulty import DIFFICULTIES, compare_profiles, load_profile
from tutelage.errors import ConfigError, unknown_name
from tutelage.pipeline.measuring import measure_difficulty
from tutelage.pipeline.plans import plan_arguments
from tutelage.pipeline.session import Session
from tutelage.recipe.sections import Difficulty
from tutelage.types import DifficultyProfile


def compare_with(session: Session, others: Sequence[str]) -> dict[str, Any]:
    """Compare the recipe's profile with others, and these with each other.

    Args:
        session: a run whose profile is measured.
        others: names of difficulties, or files of scores.

    Returns:
        ``sizes`` of the subsets that are compared, and ``pairs``.
    """
    recipe = session.recipe
    main = measure_difficulty(session, recipe)
    profiles = {recipe.difficulty.kind: main}
    for name in others:
        label = Path(name).parent.parent.name if Path(name).is_file() else name
        label = label if label not in profiles else f"{label} ({len(profiles) + 1})"
        profiles[label] = _other(session, name)
    options = plan_arguments(recipe)["curriculum"]
    grows = CURRICULA[options.kind].subset.__name__ == "prefix"
    sizes = options.sizes(main, recipe.training.batch_size).tolist() if grows else []
    # A fifth, two fifths ... where the curriculum has no prefixes to compare.
    sizes = sizes or [len(main) * part // 5 for part in range(1, 6)]
    shown = sorted({sizes[round(k * (len(sizes) - 1) / 4)] for k in range(5)})
    pairs = [pair.as_dict() for pair in compare_profiles(profiles, shown)]
    return {"sizes": shown, "pairs": pairs}


def _other(session: Session, name: str) -> DifficultyProfile:
    if Path(name).is_file():
        return load_profile(name)
    if name not in DIFFICULTIES:
        error = unknown_name("difficulty", name, DIFFICULTIES)
        raise ConfigError(f"{error} A file of scores will do too.")
    try:
        section = Difficulty(kind=name)
    except ValidationError as error:
        raise ConfigError(
            f"The difficulty '{name}' needs options. Measure it in a recipe of its own (--set"
            f" difficulty...), and compare with its file profile.parquet."
        ) from error
    return measure_difficulty(session, session.recipe.model_copy(update={"difficulty": section}))


def comparison_lines(comparison: dict[str, Any]) -> list[str]:
    """The comparison for a person."""
    if not comparison:
        return []
    lines = ["rank correlation (Spearman), and overlap of the easiest examples:"]
    for pair in comparison["pairs"]:
        overlaps = ", ".join(
            f"{size:,}: {share:.0%}"
            for size, share in zip(comparison["sizes"], pair["overlaps"], strict=True)
        )
        lines.append(f"  {pair['first']} - {pair['second']}: {pair['spearman']:.3f}; {overlaps}")
    return lines

"""The four files of the studies on SmolLM2 (``studies/base/smollm2.yaml``), drawn from one.

python benchmarks/instruct_files.py TRAIN.jsonl TEST.jsonl [--output instruct]

TRAIN.jsonl holds instructions with answers. Drawn from it, without overlap: ``heal.jsonl``, which
makes the cut student a language model again; ``train.jsonl``, which is distilled on; and
``validation.jsonl``, for decisions. ``test.jsonl`` is TEST.jsonl as it is.
"""

import argparse
import random
import shutil
from pathlib import Path

HEAL, VALIDATION, SEED = 750, 150, 0


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--output", type=Path, default=Path("instruct"))
    options = parser.parse_args()
    rows = [row for row in options.train.read_text(encoding="utf-8").split("\n") if row.strip()]
    if len(rows) <= HEAL + VALIDATION:
        raise SystemExit(
            f"{options.train} has {len(rows)} rows; more than {HEAL + VALIDATION} are needed"
        )
    random.Random(SEED).shuffle(rows)
    options.output.mkdir(parents=True, exist_ok=True)
    parts = {
        "heal": rows[:HEAL],
        "validation": rows[HEAL : HEAL + VALIDATION],
        "train": rows[HEAL + VALIDATION :],
    }
    for name, part in parts.items():
        (options.output / f"{name}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
    shutil.copyfile(options.test, options.output / "test.jsonl")


if __name__ == "__main__":
    main()

"""What a model card says beyond the tables: results for the hub, licences, checksums, time.

Nothing is guessed: what is not known is a field to fill in, and is marked as one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.proofs import MANIFEST, read_sealed
from tutelage.report.comparison import shown_as
from tutelage.report.quantities import count, duration
from tutelage.report.run import Arm, Evaluated, Run

TO_FILL_IN = "TO FILL IN"
"""Marks what only the person who publishes can say."""

WARNING = "Warning:"
"""What a sentence about a licence begins with where it may bind students."""

_METRIC_IDS = {"rouge_l": "rouge"}
"""Our names of metrics to the hub's, where they differ."""

_RESTRICTED = (
    (
        ("llama2", "llama3"),
        "does not let outputs of the model improve any other language model. Do not publish the"
        " student before you have read it",
    ),
    (
        ("llama3.1", "llama3.2", "llama3.3", "llama4"),
        "asks that a model made with its outputs has 'Llama' at the beginning of its name, and that"
        " its terms are passed on",
    ),
    (
        ("gemma",),
        "counts a model that was distilled from it as a derivative: its terms and its list of"
        " prohibited uses must be passed on",
    ),
    (("cc-by-nc", "cc-by-nc-sa", "cc-by-nc-nd"), "allows no commercial use"),
    (("openrail", "bigscience", "creativeml"), "restricts uses, and these terms must be passed on"),
    (("other", "unknown"), "is one of its own: read it before you publish the student"),
)
"""Beginnings of licences, as the hub names them, that say something of students; the longest that
fits counts. What they say is a reminder to read them, no advice on law."""


def licence_warning(part: str, licence: str) -> str:
    """What to look at before a student is published; empty where a licence is known and open.

    Args:
        part: whose licence it is, in words.
        licence: its name on the hub; empty when it is not known.
    """
    if not licence:
        return (
            f"{WARNING} the licence of {part} is not known. Find it before you publish the student."
        )
    said = [
        (len(start), words)
        for starts, words in _RESTRICTED
        for start in starts
        if licence.lower().startswith(start)
    ]
    return f"{WARNING} the licence of {part} ({licence}) {max(said)[1]}." if said else ""


def model_index(
    title: str, results: Mapping[str, Evaluated], data: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The student's scores as the hub's ``model-index``.

    Values are as they were measured, shares between 0 and 1; their intervals stand in the names.

    Args:
        title: of the model.
        results: its evaluations by suite, the test data's first.
        data: hub name of the data of a suite, where it has one.

    Returns:
        One entry with all results; empty without results.
    """
    entries = [
        {
            "task": {"type": "text-generation", "name": "Text generation"},
            "dataset": {
                "name": f"{suite} ({count(found.num_examples)} examples)",
                "type": data.get(suite) or suite,
            },
            "metrics": [
                {
                    "type": _METRIC_IDS.get(name, name),
                    "name": _metric_name(name, score),
                    "value": round(float(score["mean"]), 6),
                }
                for name, score in found.scores.items()
            ],
        }
        for suite, found in results.items()
        if found.scores
    ]
    return [{"name": title, "results": entries}] if entries else []


def _metric_name(name: str, score: Mapping[str, Any]) -> str:
    metric = shown_as(name, [float(score["mean"])])
    ends = score.get("interval")
    interval = f", 95 % interval {ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
    return f"{metric.words}{interval}"


def evaluations_of(run: Run, arm: Arm) -> dict[str, Evaluated]:
    """The evaluations of an arm's student by suite, that on the first suite first."""
    further = run.further.get(f"arms/{arm.name}/evaluation", {})
    names = [str(name) for name in run.info.get("suites") or ["test"]]
    first = next((name for name in names if name not in further), "test")
    found = {} if arm.evaluation is None else {first: arm.evaluation}
    return {**found, **further}


def weight_checksums(folder: Path) -> list[tuple[str, str]]:
    """Name, and size with CRC-32, of each weight file of a student, as its manifest has them."""
    files = (read_sealed(folder / MANIFEST) or {}).get("files") or {}
    return [
        (name, f"{count(size)} bytes, CRC-32 {checksum:08x}")
        for name, (size, checksum) in sorted(files.items())
        if name.endswith(".safetensors") and "/" not in name
    ]


def cost_rows(run: Run, arm: Arm) -> list[tuple[str, str]]:
    """What the student cost in time: its own training, and what came before it."""
    seconds = {str(k): float(v) for k, v in (run.info.get("seconds") or {}).items()}
    own = seconds.pop(f"training {arm.name}", None)
    before = [k for k in seconds if not k.startswith(("training ", "evaluation"))]
    rows = [] if own is None else [("time of its training", duration(own))]
    if before:
        total = duration(sum(seconds[k] for k in before))
        rows.append((f"time before it ({', '.join(before)})", total))
    machine = _machine(run.versions)
    if machine:
        rows.append(("machine", machine))
    return [*rows, ("energy", "not measured")] if rows else []


def _machine(versions: Mapping[str, Any]) -> str:
    found = [str(versions[key]) for key in ("device", "gpu", "cpu") if versions.get(key)]
    cpus = f"{versions['cpus']} CPUs" if versions.get("cpus") else ""
    return ", ".join(dict.fromkeys([*found, *([cpus] if cpus else [])]))


def limits(run: Run, arm: Arm) -> Sequence[str]:
    """What the student was made for, and what nobody knows of it, from what the run measured."""
    results = evaluations_of(run, arm)
    asked = ", ".join(f"{suite} ({count(e.num_examples)} examples)" for suite, e in results.items())
    said = [
        "It was trained to answer prompts like those of its training data, in their form (see how"
        " to use it), and nothing else was asked of it.",
        f"It was evaluated on {asked} and on nothing else: not for safety, for bias, or in another"
        " language."
        if asked
        else "It was not evaluated.",
        "What its teacher, its data or what it started from have of errors and biases, it may have"
        " too. A small model that sounds like a large one knows less.",
    ]
    cut = arm.evaluation.truncated if arm.evaluation else None
    if cut:
        said.append(f"{100 * cut:.1f} % of its test answers did not end within the limit.")
    return said

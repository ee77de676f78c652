"""The table of checks. To add one: a function from a patient to findings, and a row here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tutelage.doctor import data, machine, teaching, template, tokens, versions
from tutelage.doctor.finding import Finding
from tutelage.doctor.patient import Patient


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    Attributes:
        name: what findings and ``--json`` call it: its group and its own name.
        run: looks, and yields what it finds.
    """

    name: str
    run: Callable[[Patient], Iterator[Finding]]


def recipe(patient: Patient) -> Iterator[Finding]:
    """What ``tutelage validate`` finds."""
    for found in patient.looked.found:
        yield Finding("error", found.text, numbers={"key": found.key})
    for key, why in patient.looked.not_seen.items():
        yield Finding("note", f"not looked at without loading: {key}: {why}")
    if not patient.looked.found:
        arms = ", ".join(patient.loaded.arms)
        yield Finding("ok", f"valid; arms: {arms}")


CHECKS: tuple[Check, ...] = (
    Check("recipe.valid", recipe),
    Check("versions.faults", versions.versions),
    Check("tokens.special", tokens.special_tokens),
    Check("tokens.loaded_as_stored", tokens.loaded_as_stored),
    Check("tokens.split_alike", tokens.split_alike),
    Check("tokens.vocabulary", tokens.vocabulary),
    Check("tokens.lossless", tokens.lossless),
    Check("tokens.control_texts", tokens.control_texts),
    Check("template.which", template.which),
    Check("template.of_teachers", template.other_templates),
    Check("template.system", template.system_role),
    Check("template.spaces", template.spaces),
    Check("template.learned_end", template.learned_end),
    Check("template.stops", template.stops_agree),
    Check("template.prompts", template.prompts),
    Check("template.labels", template.labels),
    Check("data.sizes", data.sizes),
    Check("data.dropped", data.dropped),
    Check("data.lengths", data.lengths),
    Check("data.positions", data.positions),
    Check("data.duplicates", data.duplicates),
    Check("data.contamination", data.contamination),
    Check("data.answers", data.answers),
    Check("data.metric", data.metric),
    Check("teaching.weights_as_stored", teaching.weights_as_stored),
    Check("teaching.causal", teaching.causal),
    Check("teaching.teacher_is_better", teaching.teacher_is_better),
    Check("teaching.labels_agree", teaching.labels_agree),
    Check("teaching.other_tokens", teaching.text_teachers),
    Check("machine.processor", machine.processor),
    Check("machine.precision", machine.precision),
    Check("machine.memory", machine.memory),
    Check("machine.disk", machine.disk),
    Check("machine.time", machine.time_needed),
)

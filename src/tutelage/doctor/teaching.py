"""Whether there is anything to teach: both models, loaded, on examples that are right."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tutelage.data.collate import padding_id
from tutelage.difficulty import example_losses
from tutelage.doctor.comparison import Compared, compare
from tutelage.doctor.finding import Finding
from tutelage.doctor.patient import Patient
from tutelage.doctor.room import why_not_loaded
from tutelage.models.gate import stored_tensors
from tutelage.models.places import local_place
from tutelage.pipeline.stages.data import tokenize_as
from tutelage.statistics import bootstrap, paired_difference

_NOTHING_LEFT = 0.01
"""Nats per token of divergence below which a student has next to nothing to learn."""

_FOREIGN = 0.35
"""Share of labels that are the teacher's first choice, below which data or template are foreign.
Teachers of a family agree with half to two thirds of the tokens of plain text."""


def skipped(patient: Patient) -> str | None:
    """Why the models are not compared; None where they can be."""
    if not patient.sample:
        return "no weights are loaded (--sample 0)"
    if not patient.recipe.ladder:
        return "the recipe has no teacher"
    if not patient.comparable:
        return "no teacher with the student's tokens is on this machine"
    return why_not_loaded(patient)


def compared(patient: Patient, split: str) -> Compared:
    """Student and teacher on some rows of a split, measured once."""
    known = patient.__dict__.setdefault("compared", {})
    if split not in known:
        rows = patient.some_rows(split)
        with patient.display.task(f"Comparing both models on {split} data") as report:
            known[split] = compare(
                patient.student,
                patient.teacher,
                rows,
                vocab_size=patient.models.vocab_size,
                pad_token_id=padding_id(patient.tokenizer),
                progress=report,
            )
        patient.seconds["student forward"] = known[split].student_seconds
        patient.seconds["teacher forward"] = known[split].teacher_seconds
    return known[split]


def teacher_is_better(patient: Patient) -> Iterator[Finding]:
    """The likelihood of right answers under both models, in pairs."""
    if why := skipped(patient):
        yield Finding("note", f"teacher and student are not compared: {why}")
        return
    split = patient.judged_split
    found = compared(patient, split)
    student, teacher = found.by_id(found.student_logp), found.by_id(found.teacher_logp)
    difference = paired_difference(teacher, student)
    assert difference is not None, "both are of the same rows"
    gap, kl = difference.interval, bootstrap(found.forward_kl)
    text = (
        f"on {len(found.ids)} {split} examples the teacher gives right answers"
        f" {np.mean(found.teacher_logp):.3f} nats a token, the student"
        f" {np.mean(found.student_logp):.3f}: {gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f},"
        f" 95 % interval of pairs); divergence {kl.mean:.3f} nats a token"
    )
    numbers = {
        "examples": len(found.ids),
        "teacher": float(np.mean(found.teacher_logp)),
        "student": float(np.mean(found.student_logp)),
        "difference": [gap.mean, gap.low, gap.high],
        "forward_kl": [kl.mean, kl.low, kl.high],
    }
    tuned = any(teacher.finetune for teacher in patient.recipe.ladder.values())
    if kl.mean < _NOTHING_LEFT:
        yield Finding(
            "error" if kl.mean < 1e-6 else "warning",
            f"{text}. The student says nearly what the teacher says already, so there is nothing"
            " to learn from it",
            "look whether both names mean the same model; take a smaller student or a better"
            " teacher",
            numbers,
        )
    elif gap.high < 0:
        yield Finding(
            "note" if tuned else "error",
            f"{text}. The teacher is worse than its student"
            + (
                ", before the recipe fine-tunes it"
                if tuned
                else ": what it teaches makes the student worse at these answers"
            ),
            ""
            if tuned
            else "fine-tune it first (teacher.finetune={epochs: 1}), look whether the"
            " template is its own, take another teacher, or learn from the labels (extends: sft)",
            numbers,
        )
    elif not gap.low > 0:
        yield Finding(
            "warning",
            f"{text}. They cannot be told apart on so few",
            f"--sample {4 * len(found.ids)} looks at more; teacher.finetune makes a better one",
            numbers,
        )
    else:
        yield Finding("ok", text, numbers=numbers)


def labels_agree(patient: Patient) -> Iterator[Finding]:
    """How often the label is what the teacher would say: wrong labels, or a foreign template."""
    if skipped(patient):
        return
    parts = {}
    for split in dict.fromkeys(("train", patient.judged_split)):
        found = compared(patient, split)
        parts[split] = (found, bootstrap(found.agrees))
    train, share = parts["train"]
    said = f"{share.mean:.0%} of the training labels are the teacher's first choice" + (
        f" ({share.low:.0%} to {share.high:.0%})" if share.known else ""
    )
    numbers = {split: part.mean for split, (_, part) in parts.items()}
    tuned = any(teacher.finetune for teacher in patient.recipe.ladder.values())
    if share.mean < _FOREIGN and not tuned:
        yield Finding(
            "warning",
            f"{said}, which is little: labels are wrong, or the template is foreign to the teacher",
            "look at the examples below; ask the teacher some with `tutelage eval`; try"
            " data.template, or let the teacher write the answers (supervision.kind=text)",
            numbers,
        )
        return
    other, judged = parts[patient.judged_split]
    worse = np.hypot(_error(train.agrees), _error(other.agrees))
    if patient.judged_split != "train" and judged.mean - share.mean > max(2 * worse, 0.005):
        yield Finding(
            "warning",
            f"{said}, and {judged.mean:.0%} of the {patient.judged_split} labels: some training"
            " labels may be wrong",
            "leave the labels out of the loss (loss.ce_weight=0, which forward KL has), or learn"
            " them only where the teacher agrees (extends: kld_agree)",
            numbers,
        )
    else:
        yield Finding("ok", said, numbers=numbers)


def _error(values: Any) -> float:
    return float(np.std(values) / np.sqrt(max(len(values), 1)))


def text_teachers(patient: Patient) -> Iterator[Finding]:
    """Teachers of other tokens, by letters of right answers, each in its own tokens."""
    names = [
        name
        for name in patient.recipe.ladder
        if not patient.loaded.is_only_asked(name) and name not in patient.comparable
    ]
    if not names or not patient.sample or why_not_loaded(patient):
        return
    examples = patient.drawn[patient.judged_split][: patient.sample]
    name = names[-1]
    tokenizer = patient.models.tokenizer_of(name)
    scores = {}
    with patient.display.task("Comparing models of different tokens"):
        for who, model, own in (
            ("student", lambda: patient.student, patient.tokenizer),
            ("teacher", lambda: patient.models.load_teacher(name), tokenizer),
        ):
            rows = tokenize_as(patient.recipe, own, examples, long_prompts="keep").dataset
            losses = example_losses(
                model(), rows, vocab_size=len(own), pad_token_id=padding_id(own)
            )
            texts = [max(len(text), 1) for text in rows["completion"]]
            scores[who] = dict(zip(rows["id"], -losses.loss_sums / np.array(texts), strict=True))
    difference = paired_difference(scores["teacher"], scores["student"])
    if difference is None:
        return
    gap = difference.interval
    yield Finding(
        "ok" if gap.low > 0 else "warning",
        f"{patient.title(name)} has other tokens; on {difference.num_examples} examples it gives"
        f" right answers {gap.mean:+.3f} nats a letter more than the student ({gap.low:+.3f} to"
        f" {gap.high:+.3f})",
        ""
        if gap.low > 0
        else "take a better teacher: what counts here is what it writes, which"
        " `tutelage eval` scores",
        {"difference": [gap.mean, gap.low, gap.high]},
    )


def causal(patient: Patient) -> Iterator[Finding]:
    """Whether a later token changes what a model says before it: some kernels have leaked."""
    if skipped(patient):
        return
    for name, model in (("student", patient.student), ("teacher", patient.teacher)):
        device = next(model.parameters()).device
        size = min(patient.models.vocab_size, 1000)
        ids = (torch.arange(24, device=device) * 7 % size)[None]
        other = ids.clone()
        other[0, -1] = (other[0, -1] + 1) % size
        with torch.no_grad():
            first, second = (model(i, use_cache=False).logits[0, :-1].float() for i in (ids, other))
        moved = float((first - second).abs().max())
        if moved > 1e-2 * float(first.abs().max()):
            yield Finding(
                "error",
                f"{name}: a later token changes what is said before it (by up to {moved:.2g}), so"
                " it sees the answer while it is asked for it",
                "another version of transformers, or another model (as in"
                " https://github.com/huggingface/transformers/pull/48770)",
                {"moved": moved},
            )
        else:
            yield Finding("ok", f"{name}: no later token changes what is said before it")


def weights_as_stored(patient: Patient) -> Iterator[Finding]:
    """Whether weights in memory are those of the files, which loading has got wrong before."""
    if skipped(patient):
        return
    from safetensors import safe_open

    student, name = patient.recipe.student_section, patient.comparable[-1]
    cut = {"student": student.layers, "teacher": patient.recipe.ladder[name].layers}
    places = {
        "student": patient.models.student_source,
        "teacher": patient.models.base_teacher(name),
    }
    for who, model in (("student", patient.student), ("teacher", patient.teacher)):
        folder = local_place(places[who])
        if cut[who] is not None or folder is None or not folder.is_dir():
            continue
        own = dict(model.named_parameters(remove_duplicate=False))
        wrong, looked = [], 0
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(str(file), framework="pt") as opened:
                for key in sorted(set(opened.keys()) & set(own))[:40]:
                    there = opened.get_tensor(key)[:8]
                    here = own[key].detach()[:8].cpu().to(there.dtype)
                    looked += 1
                    if here.shape != there.shape or not torch.equal(here, there):
                        wrong.append(key)
        if wrong:
            yield Finding(
                "error",
                f"{who}: {len(wrong)} of {looked} weights that were looked at are not those of its"
                f" files, such as '{wrong[0]}'",
                "save the model again with the installed transformers, or install another version"
                " (as in https://github.com/huggingface/transformers/issues/46620)",
                {"wrong": wrong[:5], "looked_at": looked},
            )
        elif looked:
            total = len(stored_tensors(folder))
            yield Finding(
                "ok", f"{who}: {looked} of {total} weights compared are those of its files"
            )

"""What the template makes of examples: what is read, what is learned, and where it ends."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tutelage.data.chat import chat_template_of, request_chat
from tutelage.data.collate import IGNORED
from tutelage.data.ending import MARK, stop_ids, turn_end
from tutelage.data.pieces import token_ids
from tutelage.doctor.finding import Finding, Piece, Shown
from tutelage.doctor.patient import Patient
from tutelage.errors import TutelageError
from tutelage.pipeline.context.inputs import SPLITS
from tutelage.placeholders import shorten
from tutelage.types import Message

_LOOKED_AT = 500
_LONG = 20
"""Letters of prose before the user's text that are more than the name of a role."""

_DATE = re.compile(r"strftime_now|datetime\.now|date_string")


def in_chats(patient: Patient) -> bool:
    """Whether examples are written by the tokenizer's chat template."""
    return "chat" in patient.tokenized["train"].summary["template"]


def which(patient: Patient) -> Iterator[Finding]:
    """Which template is used, and what it puts around a question and an answer."""
    summary = patient.tokenized["train"].summary
    name = summary["template"]
    if not in_chats(patient):
        yield Finding("ok", f"examples are written by the template '{name}'")
        if patient.tokenizer.chat_template:
            yield Finding(
                "note",
                "the tokenizer has a chat template, which is not used: a teacher that was trained"
                " on chats is asked in a way that it does not know",
                "data.template=chat",
            )
        return
    end = turn_end(patient.tokenizer)
    yield Finding(
        "ok",
        f"examples are written by the chat template; it ends an answer with {shorten(end.text)}",
        numbers={"end": end.name, "token": end.token},
    )
    yield from _prose(patient)
    if _DATE.search(chat_template_of(patient.tokenizer)):
        yield Finding(
            "warning",
            "the chat template may write today's date into each prompt, so that the same data are"
            " other tokens tomorrow, and stored teachers are asked anew",
            "give data.system a text of its own, or take the date out of the template and save the"
            " tokenizer",
        )


def _prose(patient: Patient) -> Iterator[Finding]:
    """Text that the template adds by itself before a conversation."""
    turns = [Message("user", MARK)]
    before = request_chat(turns, patient.tokenizer, "doctor").partition(MARK)[0]
    for token in patient.tokenizer.all_special_tokens:
        before = before.replace(token, "")
    if sum(letter.isalpha() for letter in before) > _LONG:
        yield Finding(
            "note",
            f"without a system text of the data the template adds its own: {shorten(before)}",
            "data.system sets another one",
            {"text": before},
        )


def other_templates(patient: Patient) -> Iterator[Finding]:
    """Teachers whose own template writes another text than the student's."""
    if not in_chats(patient):
        return
    turns = [Message("user", MARK)]
    ours = request_chat(turns, patient.tokenizer, "doctor")
    for name, tokenizer in list(patient.tokenizers.items())[1:]:
        if not tokenizer.chat_template:
            yield Finding(
                "warning",
                f"{name}: its tokenizer has no chat template, so it may be a base model that was"
                " never trained on chats; it reads the student's",
                "take the instruction-tuned teacher, or fine-tune it first (teacher.finetune)",
            )
            continue
        theirs = request_chat(turns, tokenizer, "doctor")
        if theirs != ours:
            yield Finding(
                "warning",
                f"{name}: its own template writes {shorten(theirs.replace(MARK, '...'))}, and it"
                f" reads the student's, {shorten(ours.replace(MARK, '...'))}",
                "copy the teacher's chat template into the student's tokenizer, unless the student"
                " is to keep its own",
                {"teacher": theirs, "student": ours},
            )
        else:
            yield Finding("ok", f"{name}: its chat template opens a conversation as the student's")


def system_role(patient: Patient) -> Iterator[Finding]:
    """Whether the template takes a system turn, as Gemma's does not."""
    if not in_chats(patient):
        return
    data = patient.recipe.data_section
    wanted = bool(getattr(data, "system", None))
    if data.kind == "files":
        wanted = wanted or any(one.system for split in SPLITS for one in data.sources(split))
    turns = [Message("system", f"s{MARK}"), Message("user", "u")]
    try:
        written = request_chat(turns, patient.tokenizer, "doctor")
    except TutelageError as error:
        yield Finding(
            "error" if wanted else "note",
            f"the chat template refuses a system text: {error}",
            "leave data.system out and put such a text before the question"
            if wanted
            else "keep system turns out of the data",
        )
        return
    if MARK not in written:
        yield Finding(
            "error" if wanted else "note",
            "the chat template drops a system text without a word",
            "put such a text before the question",
        )


def learned_end(patient: Patient) -> Iterator[Finding]:
    """Whether what is learned ends with a token at which generation stops."""
    tokenizer, rows = patient.tokenizer, patient.some_rows("train", _LOOKED_AT)
    stops = stops_of(patient)["student"]
    last = Counter(
        next(label for label in reversed(labels) if label != IGNORED) for labels in rows["labels"]
    )
    good = sum(count for token, count in last.items() if token in stops)
    ends = ", ".join(f"{shorten(_token(tokenizer, t))} ({t})" for t, _ in last.most_common(3))
    if good == len(rows):
        yield Finding(
            "ok",
            f"all {len(rows)} answers that were looked at end with a learned token at which the"
            f" student stops: {ends}",
            numbers={"rows": len(rows), "stops": stops},
        )
    else:
        yield Finding(
            "error" if good < len(rows) / 2 else "warning",
            f"{len(rows) - good} of {len(rows)} answers end with no token at which the student"
            f" stops (ends: {ends}; it stops at {stops}), so it would not learn to stop",
            "end turns in the chat template with the eos token, or set tokenizer.eos_token to what"
            " ends them, and save the tokenizer",
            {"rows": len(rows), "good": good, "stops": stops},
        )
    usual = last.most_common(1)[0][0]
    for name, own in list(stops_of(patient).items())[1:]:
        if usual not in own and patient.title(patient.models.strongest) == name:
            yield Finding(
                "warning",
                f"{name}: it stops at {own}, and answers here end with"
                f" {shorten(_token(tokenizer, usual))} ({usual}), which it may never write: what it"
                " says of the end of an answer is a guess",
                "name the token in its generation_config.json (eos_token_id), or take the template"
                " that it was trained with",
                {"stops": own, "end": usual},
            )


def stops_of(patient: Patient) -> dict[str, list[int]]:
    """Ids at which each model's generation stops: its tokenizer's, template's, and config's."""
    from transformers import GenerationConfig

    found = {}
    for name, tokenizer in patient.tokenizers.items():
        own: Any = None
        folder = patient.folders.get(name)
        if folder is not None and (folder / "generation_config.json").is_file():
            try:
                own = GenerationConfig.from_pretrained(folder).eos_token_id
            except (OSError, ValueError, TypeError):
                own = None
        own = [] if own is None else [own] if isinstance(own, int) else list(own)
        found[name] = sorted({*own, *stop_ids(tokenizer)})
    return found


def stops_agree(patient: Patient) -> Iterator[Finding]:
    """Where a tokenizer, its template and its generation config name other ends."""
    for name, tokenizer in patient.tokenizers.items():
        stops, eos = stops_of(patient)[name], tokenizer.eos_token_id
        turn = turn_end(tokenizer).token if tokenizer.chat_template else eos
        if len(stops) <= 1:
            continue
        named = ", ".join(f"{shorten(_token(tokenizer, t))} ({t})" for t in stops)
        parts = f"tokenizer {eos}, end of a turn {turn}"
        yield Finding(
            "note",
            f"{name}: generation stops at any of {named} ({parts}); the saved student names them"
            " all in its generation_config",
            numbers={"stops": stops, "eos": eos, "turn": turn},
        )


def prompts(patient: Patient) -> Iterator[Finding]:
    """Whether what a model is asked is a beginning of what it learned, with one BOS."""
    rows, tokenizer = patient.some_rows("train", _LOOKED_AT), patient.tokenizer
    asked = token_ids(list(rows["prompt"]), tokenizer)
    bos, twice, foreign = tokenizer.bos_token_id, 0, 0
    for ids, count, alone in zip(rows["input_ids"], rows["num_prompt_tokens"], asked, strict=True):
        lead = count - len(alone)
        foreign += lead < 0 or lead > 2 or ids[lead:count] != alone
        twice += bos is not None and ids[:2] == [bos, bos]
    if foreign:
        yield Finding(
            "error",
            f"{foreign} of {len(rows)} prompts alone are other tokens than at the beginning of"
            " their example, so that models would be asked what they did not learn",
            "this should not be: please report it with the tokenizer's name",
            {"rows": len(rows), "foreign": foreign},
        )
    else:
        yield Finding("ok", f"each of {len(rows)} prompts is a beginning of its example, by tokens")
    if twice:
        yield Finding(
            "warning",
            f"{twice} of {len(rows)} examples begin with {tokenizer.bos_token} twice: the data hold"
            " one, and the template or the tokenizer writes another",
            f"remove {tokenizer.bos_token} from the beginning of the texts or of data.template",
            {"rows": len(rows), "twice": twice},
        )
    elif bos is not None:
        begins = sum(ids[0] == bos for ids in rows["input_ids"])
        by_itself: Any = tokenizer("x", verbose=False)["input_ids"]
        if not begins and by_itself[0] == bos:
            yield Finding(
                "warning",
                f"no example begins with {tokenizer.bos_token}, which this tokenizer puts before"
                " any other text: the chat template does not write it",
                "write {{ bos_token }} at the beginning of the chat template and save the"
                " tokenizer; models of that kind are much worse without it",
            )
        elif begins:
            yield Finding("ok", f"{begins} of {len(rows)} examples begin with one BOS")


def labels(patient: Patient) -> Iterator[Finding]:
    """How much of the data is learned, and what of it is not."""
    summary = patient.tokenized["train"].summary
    total, learned = summary["total_tokens"], summary["response_tokens"]
    yield Finding(
        "ok",
        f"{learned:,} of {total:,} tokens are learned ({learned / max(total, 1):.0%}): answers and"
        " what ends them; prompts are not",
        numbers={"tokens": total, "learned": learned},
    )
    for what, count in summary["not_learned"].items():
        yield Finding("note", f"{count} {what} are not learned")
    for how, count in summary["openings"].items():
        yield Finding(
            "note",
            f"{count} of {summary['kept']} prompts are the template's generation prompt {how} (as"
            " thinking blocks are): ask the student in the same way",
        )


def spaces(patient: Patient) -> Iterator[Finding]:
    """White space around texts that the template drops or adds."""
    if not in_chats(patient):
        return
    inner = f" \n{MARK}\n "
    written = request_chat([Message("user", inner)], patient.tokenizer, "doctor")
    examples = patient.drawn["train"][:_LOOKED_AT]
    padded = sum(e.completion != e.completion.strip() for e in examples)
    if inner not in written:
        yield Finding(
            "warning" if padded else "note",
            f"the template strips white space around texts; {padded} of {len(examples)} answers"
            " have some, which is not learned",
            "strip the answers in the data, so that references say what is learned"
            if padded
            else "",
            {"padded": padded},
        )


def shown_examples(patient: Patient, count: int = 2) -> tuple[Shown, ...]:
    """Some training examples, with what is learned of them.

    Args:
        patient: the recipe.
        count: how many.
    """
    rows = patient.some_rows("train", count)
    stops = set(stops_of(patient)["student"])
    return tuple(
        Shown(row["id"], _pieces(patient.tokenizer, row["input_ids"], row["labels"], stops))
        for row in rows
    )


def _pieces(
    tokenizer: Any, ids: Sequence[int], targets: Sequence[int], stops: set[int]
) -> tuple[Piece, ...]:
    kinds = [
        "prompt" if label == IGNORED else "end" if label in stops else "learned"
        for label in targets
    ]
    pieces: list[Piece] = []
    start = 0
    for place in range(1, len(ids) + 1):
        if place == len(ids) or kinds[place] != kinds[start]:
            # What stands before is decoded too: some tokenizers drop a space at a beginning.
            before = _text(tokenizer, ids[max(start - 1, 0) : start])
            whole = _text(tokenizer, ids[max(start - 1, 0) : place])
            text = whole[len(before) :] if whole.startswith(before) else whole
            kind: Any = kinds[start]
            pieces.append(Piece(text, kind, place - start))
            start = place
    return tuple(pieces)


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    if not ids:
        return ""
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


def _token(tokenizer: Any, number: int) -> str:
    return _text(tokenizer, [number])

"""Tokenizers: what files say against what is loaded, special tokens, heads, and what gets lost."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.chat import request_text
from tutelage.data.pieces import common_length, token_ids
from tutelage.doctor.finding import Finding
from tutelage.doctor.patient import Patient
from tutelage.errors import DataError
from tutelage.models.gate import stored_tensors
from tutelage.models.same_tokenizer import vocabulary_size
from tutelage.placeholders import shorten

_TEXTS = 200
"""Texts of the data on which tokenizers are compared."""

_PROBES = (
    "Hello world, it's 2023: 650841823 things!",
    "def f(x):\n    return x != 1\n\n\n",
    "  two spaces, a tab\tand caf\u00e9 \u4f60\u597d",
)
"""Texts on which tokenizers that only seem alike are known to differ."""


def special_tokens(patient: Patient) -> Iterator[Finding]:
    """Which tokens begin, end and fill texts, for each model."""
    for name, tokenizer in patient.tokenizers.items():
        said = ", ".join(_said(tokenizer, kind) for kind in ("bos", "eos", "pad", "unk"))
        ids = {k: getattr(tokenizer, f"{k}_token_id") for k in ("bos", "eos", "pad", "unk")}
        yield Finding("ok", f"{name}: {said}", numbers={"model": name, **ids})
        if ids["eos"] is None:
            yield Finding(
                "error",
                f"{name}: the tokenizer has no end-of-sequence token, so outside of chats nothing"
                " ends an answer",
                'set one that it knows (tokenizer.eos_token = "</s>") and save the tokenizer beside'
                " the weights",
            )
        elif ids["pad"] == ids["eos"] and name == "student":
            yield Finding(
                "note",
                f"{name}: pad and eos are one token ({tokenizer.eos_token!r}). That is harmless"
                " here, where labels go by place. A trainer that hides every pad id from the loss"
                " would hide the end of each answer, and the model would never learn to stop",
                "for other trainers give the tokenizer a padding token of its own",
            )


def _said(tokenizer: Any, kind: str) -> str:
    token, number = getattr(tokenizer, f"{kind}_token"), getattr(tokenizer, f"{kind}_token_id")
    return f"{kind} none" if token is None else f"{kind} {shorten(token)} ({number})"


def loaded_as_stored(patient: Patient) -> Iterator[Finding]:
    """Whether the loaded tokenizer gives a text the ids that its own file gives it.

    transformers 5 builds some tokenizers anew from a class and forgets how their file splits texts:
    the vocabulary is the same, the ids are not, and a model reads what it was never trained on.
    """
    from tokenizers import Tokenizer

    texts = sample_texts(patient)
    for name, folder in patient.folders.items():
        file = folder / "tokenizer.json"
        if not file.is_file() or name not in patient.tokenizers:
            continue
        tokenizer, raw = patient.tokenizers[name], Tokenizer.from_file(str(file))
        raw.no_padding()
        raw.no_truncation()

        def stored(some: Sequence[str], raw: Any = raw) -> list[list[int]]:
            return [one.ids for one in raw.encode_batch(list(some), add_special_tokens=False)]

        found = _first_difference(texts, token_ids(list(texts), tokenizer), stored(texts))
        where = "the data"
        if found is None:
            found = _first_difference(_PROBES, token_ids(list(_PROBES), tokenizer), stored(_PROBES))
            where = "texts made for trying, though not on the data"
        if found is None:
            yield Finding(
                "ok",
                f"{name}: loaded as {type(tokenizer).__name__}, it gives {len(texts)} texts of the"
                " data the ids that its tokenizer.json gives them",
                numbers={"texts": len(texts)},
            )
            continue
        text, ids, wanted = found
        yield Finding(
            "error" if where == "the data" else "warning",
            f"{name}: the tokenizer is loaded as {type(tokenizer).__name__} and splits {where}"
            f" otherwise than its own tokenizer.json: {shorten(text)} becomes"
            f" {_tokens(tokenizer, ids)}, and by the file {_tokens(tokenizer, wanted)}. Such a"
            " model reads what it was never trained on",
            f'write "tokenizer_class": "PreTrainedTokenizerFast" into'
            f" '{folder / 'tokenizer_config.json'}', or install a newer transformers"
            " (https://github.com/huggingface/transformers/issues/45920)",
            {"loaded": ids[:20], "stored": wanted[:20]},
        )


def split_alike(patient: Patient) -> Iterator[Finding]:
    """Whether teachers split the data into the tokens that the student splits them into."""
    texts = sample_texts(patient)
    ours = token_ids(list(texts), patient.tokenizer)
    for teacher in patient.loaded.compared_teachers:
        if patient.models.is_student_source(teacher) or teacher not in patient.comparable:
            continue
        title = patient.title(teacher)
        theirs = token_ids(list(texts), patient.tokenizers[title])
        found = _first_difference(texts, ours, theirs)
        total = sum(map(len, theirs))
        if found is None:
            yield Finding(
                "ok",
                f"{title}: the same vocabulary of {vocabulary_size(patient.tokenizer):,} tokens,"
                f" and the same {total:,} tokens in {len(texts)} texts of the data",
                numbers={"tokens": total},
            )
            continue
        differ = sum(a != b for a, b in zip(ours, theirs, strict=True))
        text, _, wanted = found
        yield Finding(
            "warning",
            f"{title}: the vocabulary is the student's, but {differ} of {len(texts)} texts are"
            f" split otherwise: {shorten(text)} is {_tokens(patient.tokenizer, wanted)} there. It"
            " reads the student's tokens, so it is asked about what it never saw",
            "take the tokenizer files of the teacher for the student too, when the student is to"
            " be trained anew; or use supervision.kind=text",
            {"texts": len(texts), "differ": differ},
        )


def vocabulary(patient: Patient) -> Iterator[Finding]:
    """Rows of the heads against tokens: padding rows, and tokens that a model has no row for."""
    size = vocabulary_size(patient.tokenizer)
    sizes = {}
    for name, config in patient.configs.items():
        text = config.get_text_config()
        rows, own = _rows(patient.folders.get(name), text.vocab_size), size
        if name in patient.tokenizers:
            own = vocabulary_size(patient.tokenizers[name])
        sizes[name] = rows
        tied = "tied to the embedding" if text.tie_word_embeddings else "a head of its own"
        numbers = {"model": name, "rows": rows, "tokens": own}
        if rows < own:
            missing = [t for t, i in patient.tokenizers[name].get_vocab().items() if i >= rows]
            yield Finding(
                "error",
                f"{name}: {rows:,} rows in the head for {own:,} tokens: {len(missing)} have none,"
                f" such as {shorten(min(missing))}",
                "model.resize_token_embeddings(len(tokenizer)), then train them; or take the"
                " tokenizer that belongs to the model",
                numbers,
            )
        else:
            spare = f", {rows - own:,} of them padding that is left out" if rows > own else ""
            yield Finding(
                "ok", f"{name}: {rows:,} rows{spare}, {own:,} tokens, {tied}", numbers=numbers
            )
    if len(set(sizes.values())) > 1 and patient.comparable:
        yield Finding(
            "ok",
            "the heads differ in size by padding alone; both are cut to"
            f" {size:,} tokens before anything is compared",
            numbers=sizes,
        )


def _rows(folder: Path | None, configured: int) -> int:
    """Rows of the stored embedding or head, whichever has fewer; else what the config says."""
    if folder is None or not any(folder.glob("*.safetensors")):
        return configured
    shapes = [
        tensor.shape[0]
        for key, tensor in stored_tensors(folder).items()
        if key.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight", "lm_head.weight"))
        and "per_layer" not in key
        and len(tensor.shape) == 2
    ]
    return min([configured, *shapes])


def lossless(patient: Patient) -> Iterator[Finding]:
    """Whether texts come back from their tokens, and none is unknown to the tokenizer."""
    tokenizer, texts = patient.tokenizer, sample_texts(patient)
    ids = token_ids(list(texts), tokenizer)
    unknown = tokenizer.unk_token_id
    total = sum(map(len, ids))
    lost = 0 if unknown is None else sum(row.count(unknown) for row in ids)
    if lost:
        text = next(t for t, row in zip(texts, ids, strict=True) if unknown in row)
        yield Finding(
            "error" if lost > total / 20 else "warning",
            f"{lost:,} of {total:,} tokens of the data are unknown to the tokenizer"
            f" ({tokenizer.unk_token}), for example in {shorten(text)}: nobody can learn to write"
            " them",
            "replace these characters in the data, or take models whose tokenizer has them",
            {"unknown": lost, "tokens": total},
        )
    changed = [
        (text, back)
        for text, row in zip(texts, ids, strict=True)
        if (back := _decoded(tokenizer, row)).split() != text.split() and unknown not in row
    ]
    if changed:
        text, back = changed[0]
        at = common_length(text, back)
        yield Finding(
            "error" if len(changed) > len(texts) / 10 else "warning",
            f"{len(changed)} of {len(texts)} texts do not come back from their tokens:"
            f" {shorten(text[max(at - 20, 0) :])} comes back as"
            f" {shorten(back[max(at - 20, 0) :])}, so that a right answer would be scored wrong",
            "the tokenizer does not fit these texts, or is loaded wrongly: see"
            " tokens.loaded_as_stored",
            {"texts": len(texts), "changed": len(changed)},
        )
    if not lost and not changed:
        yield Finding("ok", f"{len(texts)} texts of the data come back whole from their tokens")


def control_texts(patient: Patient) -> Iterator[Finding]:
    """Special tokens that stand in the data as text: they end turns where nobody meant it."""
    tokenizer = patient.tokenizer
    special = [t for t in tokenizer.all_special_tokens if len(t) > 2]
    special += [
        str(t) for t in tokenizer.added_tokens_decoder.values() if t.special and len(str(t)) > 2
    ]
    counts: dict[str, int] = {}
    example = ""
    for row in patient.drawn["train"]:
        said = [*row.fields.values(), row.completion, *(m.content for m in row.messages)]
        for token in set(special):
            if any(token in text for text in said):
                counts[token] = counts.get(token, 0) + 1
                example = example or row.id
    if counts:
        named = ", ".join(f"{token} in {count}" for token, count in sorted(counts.items()))
        yield Finding(
            "warning",
            f"special tokens stand in the texts of the data: {named} of"
            f" {len(patient.drawn['train'])} examples (for example {example}). They become what"
            " begins and ends turns, beside those that the template writes",
            "remove them from the data: the template writes them",
            counts,
        )
    else:
        yield Finding("ok", "no special token stands in the texts of the data")


def sample_texts(patient: Patient) -> tuple[str, ...]:
    """Some texts of the training data: questions and answers."""
    texts: list[str] = []
    for example in itertools.islice(patient.drawn["train"], _TEXTS // 2):
        turns = [turn.content for turn in example.messages if turn.content]
        try:
            texts += turns or [request_text(example), example.completion]
        except DataError:
            texts += [*example.fields.values(), example.completion]
    return tuple(text for text in texts if text)[:_TEXTS]


def _first_difference(
    texts: Sequence[str], first: Sequence[list[int]], second: Sequence[list[int]]
) -> tuple[str, list[int], list[int]] | None:
    """The first text with two sets of ids, cut to where they part."""
    for text, a, b in zip(texts, first, second, strict=True):
        if a != b:
            at = common_length(a, b)
            return text, a[max(at - 2, 0) : at + 6], b[max(at - 2, 0) : at + 6]
    return None


def _tokens(tokenizer: Any, ids: Sequence[int]) -> str:
    return " ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(list(ids)))


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

"""What continuing prompts costs beside ``generate``: ``python generation.py --data train.jsonl``.

A real model answers the prompts of a file in its chat format, with a limit and real ends. All
contenders ask the same model object in one process and in turn, forwards and backwards (A B C,
C B A, ...). Texts differ where rounding decides, and where tokens are drawn, so tokens are counted.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import common

PLAIN, SAME_ROWS, SAME_MEMORY = "plain", "rows", "memory"
CONTENDERS = {
    PLAIN: "transformers generate, batches in the order of the prompts",
    SAME_ROWS: "Tutelage, as many rows at a time",
    SAME_MEMORY: "Tutelage, as many tokens at a time",
}


def prompts_of(options: argparse.Namespace) -> tuple[list[list[int]], Any]:
    """The tokens of each prompt, and the tokenizer."""
    rows, tokenizer = common.load_rows(options.data, options, options.prompts)
    prompts = []
    for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        first = next(place for place, label in enumerate(labels) if label != -100)
        prompts.append(ids[:first])
    return prompts, tokenizer


def plain(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], options: argparse.Namespace
) -> list[int]:
    """Tokens of each answer; batches of ``--batch-size`` answers, padded on the left."""
    import torch

    from tutelage.generation.stopping import Stops

    torch.manual_seed(options.seed)
    stops = Stops.of(tokenizer, model)
    drawing: dict[str, Any] = {"do_sample": False}
    if options.temperature:
        drawing = {"do_sample": True, "temperature": options.temperature}
        drawing |= {"top_k": 0, "top_p": 1.0}
    counts = []
    size = options.batch_size // options.samples
    for start in range(0, len(prompts), size):
        batch = tokenizer.pad(
            {"input_ids": prompts[start : start + size]}, padding_side="left", return_tensors="pt"
        )
        output = model.generate(
            **batch,
            max_new_tokens=options.max_new_tokens,
            eos_token_id=list(stops.tokens),
            pad_token_id=tokenizer.pad_token_id,
            num_return_sequences=options.samples,
            **drawing,
        )
        for row in output[:, batch["input_ids"].shape[1] :].tolist():
            counts.append(stops.read([], row).num_tokens)
    return counts


def ours(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], options: argparse.Namespace
) -> list[int]:
    """Tokens of each answer."""
    from tutelage.generation import GenerationSettings, LocalEngine

    settings = GenerationSettings(
        max_new_tokens=options.max_new_tokens,
        sampling_temperature=options.temperature,
        batch_tokens=options.batch_size * (max(map(len, prompts)) + options.max_new_tokens),
    )
    asked = [prompt for prompt in prompts for _ in range(options.samples)]
    seeds = range(options.seed, options.seed + len(asked))
    answers = LocalEngine(model, tokenizer).answer(asked, settings, seed=seeds)
    return [answer.num_tokens for answer in answers]


@contextlib.contextmanager
def rows_at_a_time(most: int) -> Iterator[None]:
    """Bound the rows by their number, not by their tokens."""
    from tutelage.generation import refill

    room = refill.room_for

    def by_number(number: int, width: int, budget: int) -> bool:
        return number <= most

    refill.room_for = by_number
    try:
        yield
    finally:
        refill.room_for = room


def timed(work: Callable[[], list[int]]) -> dict[str, float]:
    """What asking for all answers takes."""
    start, start_cpu = time.perf_counter(), common.cpu_seconds()
    counts = work()
    seconds, cpu = time.perf_counter() - start, common.cpu_seconds() - start_cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "tokens": sum(counts),
        "samples_per_second": len(counts) / seconds,
        "samples_per_cpu_second": len(counts) / cpu,
        "tokens_per_second": sum(counts) / seconds,
        "tokens_per_cpu_second": sum(counts) / cpu,
    }


def one_case(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders on the prompts of the file."""
    from tutelage.models import load_model
    from tutelage.models.places import find_model

    common.prepare(options.threads)
    options.tokenizer = find_model(options.model)
    prompts, tokenizer = prompts_of(options)
    model = load_model(find_model(options.model), dtype=options.precision).eval()

    def measure(name: str) -> dict[str, float]:
        if name == PLAIN:
            return timed(lambda: plain(model, tokenizer, prompts, options))
        rows = rows_at_a_time(options.batch_size)
        with rows if name == SAME_ROWS else contextlib.nullcontext():
            return timed(lambda: ours(model, tokenizer, prompts, options))

    for name in options.contenders:  # libraries are loaded at the first call
        few = argparse.Namespace(**{**vars(options), "max_new_tokens": 2, "samples": 1})
        (plain if name == PLAIN else ours)(model, tokenizer, prompts[:2], few)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in options.contenders}
    for number in range(options.rounds):
        order = options.contenders[:: 1 if number % 2 == 0 else -1]
        for name, found in common.in_turn(order, 1, measure).items():
            runs[name] += found
    lengths = [len(prompt) for prompt in prompts]
    return {
        "data": Path(options.data).parent.name,
        "model": options.model,
        "precision": options.precision,
        "prompts": len(prompts),
        "samples": options.samples,
        "temperature": options.temperature,
        "batch_size": options.batch_size,
        "max_new_tokens": options.max_new_tokens,
        "prompt_tokens": {"mean": sum(lengths) / len(lengths), "most": max(lengths)},
        "runs": {
            name: {key: common.spread(run[key] for run in found) for key in found[0]}
            for name, found in runs.items()
        },
        "over_plain": {
            name: {
                key: common.paired_ratio([r[key] for r in found], [r[key] for r in runs[PLAIN]])
                for key in found[0]
            }
            for name, found in runs.items()
            if name != PLAIN and PLAIN in runs
        },
    }


def show(record: dict[str, Any]) -> str:
    """The case as a table."""
    shown = common.shown
    lines = []
    for name, run in record["runs"].items():
        over = record["over_plain"].get(name)
        ratios = ["samples_per_second", "samples_per_cpu_second", "tokens_per_cpu_second"]
        lines.append(
            (
                CONTENDERS[name],
                shown(run["seconds"], 0),
                shown(run["cpu_seconds"], 0),
                shown(run["tokens"], 0),
                *(shown(over[key]) if over else "" for key in ratios),
            )
        )
    title = (
        f"\n{record['data']}, {record['prompts']} prompts of {record['prompt_tokens']['mean']:.0f}"
        f" tokens, {record['samples']} answers each of at most {record['max_new_tokens']},"
        f" temperature {record['temperature']:g}, {record['batch_size']} at a time,"
        f" {record['model']}, {record['precision']}\n\n"
    )
    header = (
        "contender", "s", "CPU s", "tokens written",
        "answers/s over generate", "the same in CPU s", "tokens/CPU s over generate",
    )  # fmt: skip
    return title + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    parser.add_argument("--data", required=True, help="file of examples whose prompts are asked")
    parser.add_argument("--model", default="smollm2:instruct")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--samples", type=int, default=1, help="answers to each prompt")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--batch-size", type=int, default=16, help="answers at a time")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    options = parser.parse_args()
    if options.batch_size % options.samples:
        parser.error("--batch-size must be a multiple of --samples")
    if options.samples > 1 and not options.temperature:
        parser.error("several greedy answers are the same one: give a --temperature")
    common.run_cases("generation", options, [()], one_case, show)


if __name__ == "__main__":
    main()

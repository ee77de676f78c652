"""What the benchmarks share: models, data, time and memory, child processes, results.

A benchmark measures everything it compares in one invocation, each contender in a fresh process
and in turn (A B C A B C ...), and reports medians with the range over the rounds.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SMOLLM2_VOCABULARY, QWEN_VOCABULARY = 49_152, 151_936

# Llama models in the shapes of SmolLM2 (tied embeddings, three query heads to one for keys where
# that divides): hidden width, feed-forward width, layers, heads, heads for keys.
SHAPES = {
    "1m": (16, 64, 2, 2, 1),  # to try the scripts with
    "12m": (192, 512, 6, 3, 3),
    "64m": (576, 1536, 10, 9, 3),
    "135m": (576, 1536, 30, 9, 3),
    # Of Qwen2.5, for accelerators.
    "0.5b": (896, 4864, 24, 14, 2),
    "1.5b": (1536, 8960, 28, 12, 2),
    "7b": (3584, 18944, 28, 28, 4),
}


def arguments(doc: str) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3, help="times each contender is measured")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="name of the results file, without its ending")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with Liger")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def data_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of benchmarks that train on rows of text."""
    parser.add_argument("--data", nargs="*", help="files of examples; without, lengths are made up")
    parser.add_argument("--tokenizer", help="where it is; by default that of SmolLM2")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8)


# ---- models -------------------------------------------------------------------------------------


def build_model(
    shape: str | tuple[int, ...],
    vocabulary: int,
    seed: int,
    device: str = "cpu",
    dtype: str = "float32",
) -> Any:
    """A Llama with random weights; time does not depend on their values."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, inner, layers, heads, key_heads = SHAPES[shape] if isinstance(shape, str) else shape
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rope_theta=100_000.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        return LlamaForCausalLM(config).to(getattr(torch, dtype))


def pair_of(task: dict[str, Any], *, with_teacher: bool = True) -> tuple[Any, Any]:
    """Student and teacher of a child's task; the teacher in 16 bits where it is on a GPU."""
    device = device_of(task)
    vocabulary = task.get("vocabulary", SMOLLM2_VOCABULARY)
    student = build_model(task["student"], vocabulary, task["seed"], device)
    if not with_teacher:
        return student, None
    dtype = "float32" if device == "cpu" else task["precision"]
    return student, build_model(task["teacher"], vocabulary, task["seed"] + 1, device, dtype)


def parameters(model: Any) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


# ---- data ---------------------------------------------------------------------------------------


def load_rows(source: str | None, options: argparse.Namespace, limit: int) -> tuple[Any, Any]:
    """Rows with ids, tokens and labels, and the tokenizer.

    Without a source, tokens are random and lengths are drawn as those of worked answers are: about
    90 tokens of prompt and 125 of answer, log-normal.
    """
    from tutelage.models import load_tokenizer

    if source is None:
        place = options.tokenizer or "embedded:arithmetic-student"
        return _made_up(options, limit), load_tokenizer(place)
    from tutelage.data import load_examples, tokenize_examples
    from tutelage.models.places import find_model

    tokenizer = load_tokenizer(options.tokenizer or find_model("smollm2:instruct"))
    examples = load_examples(source, limit=2 * limit, seed=options.seed)
    split = tokenize_examples(examples, tokenizer, max_length=options.max_length)
    rows = split.dataset.select_columns(["id", "input_ids", "labels"])
    return rows.select(range(min(limit, len(rows)))), tokenizer


def _made_up(options: argparse.Namespace, limit: int) -> Any:
    import datasets
    import numpy as np

    rng = np.random.default_rng(options.seed)
    columns: dict[str, list] = {"id": [], "input_ids": [], "labels": []}
    for number in range(limit):
        prompt, answer = rng.lognormal((4.4, 4.75), (0.4, 0.45)).astype(int) + 2
        answer = min(answer, max(2, options.max_length - prompt))
        tokens = rng.integers(3, SMOLLM2_VOCABULARY, prompt + answer).tolist()
        columns["id"].append(str(number))
        columns["input_ids"].append(tokens)
        columns["labels"].append([-100] * prompt + tokens[prompt:])
    return datasets.Dataset.from_dict(columns)


def describe_rows(rows: Any, batch_size: int) -> dict[str, float]:
    """Tokens of a step, as they are and as a padded batch, and how many are learned."""
    lengths = [len(tokens) for tokens in rows["input_ids"]]
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    learned = sum(sum(label != -100 for label in row[1:]) for row in rows["labels"])
    return {
        "steps": len(batches),
        "tokens": sum(lengths) / len(batches),
        "padded_tokens": sum(max(b) * len(b) for b in batches) / len(batches),
        "response_tokens": learned / len(batches),
    }


def user_turn(row: Any, tokenizer: Any) -> str:
    """What the prompt of a row says; of a conversation in ChatML the user's last turn alone."""
    start = next(i for i, label in enumerate(row["labels"]) if label != -100)
    text = tokenizer.decode(row["input_ids"][:start])
    # Without a template nothing stands around it.
    return text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0]


# ---- children -----------------------------------------------------------------------------------


def device_of(task: dict[str, Any]) -> str:
    """Where a child works: on the CPU unless its task says otherwise."""
    return task.get("device", "cpu")


def finish(device: str) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device != "cpu":
        torch.accelerator.synchronize()


def prepare(threads: int) -> None:
    """Settings of a child process, before torch is used."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class ChildFailedError(Exception):
    """What a process of its own said when it ended without an answer."""


def run_child(script: str, task: dict[str, Any], threads: int, python: str | None = None) -> Any:
    """Run a script's ``child(task)`` in a new process and return what it gave; stop if it fails."""
    try:
        return ask_child(script, task, {"OMP_NUM_THREADS": str(threads)}, python=python)
    except ChildFailedError as error:
        raise SystemExit(f"{task}\n{error}") from error


def ask_child(
    script: str,
    task: dict[str, Any],
    environment: Mapping[str, str],
    *,
    seconds: float | None = None,
    python: str | None = None,
) -> Any:
    """Run a script's ``child(task)`` in a new process and return what it gave.

    Args:
        script: path of the script.
        task: as JSON.
        environment: variables beside those of this process.
        seconds: how long it may take.
        python: another interpreter.

    Raises:
        ChildFailedError: it ended without an answer, or took longer.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "task.json"
        place.write_text(json.dumps(task))
        try:
            done = subprocess.run(
                [python or sys.executable, script, "--child", str(place)],
                capture_output=True,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise ChildFailedError(f"took longer than {seconds:.0f} s") from error
        answer = Path(folder) / "answer.json"
        if done.returncode or not answer.exists():
            raise ChildFailedError(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}".strip())
        return json.loads(answer.read_text())


def be_child(place: str, child: Callable[[dict[str, Any]], Any]) -> None:
    """The other side of ``run_child``."""
    task = json.loads(Path(place).read_text())
    prepare(task["threads"])
    answer = child(task)
    (Path(place).parent / "answer.json").write_text(json.dumps(answer))


def in_turn(
    names: Sequence[str], rounds: int, measure: Callable[[str], Any]
) -> dict[str, list[Any]]:
    """Measure every contender once in each round, in the same order; say so as it goes on."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            start = time.perf_counter()
            found[name].append(measure(name))
            took = time.perf_counter() - start
            print(f"  round {number + 1}/{rounds} {name}: {took:.0f} s", file=sys.stderr)
    return found


def task_of(
    folder: str, rows: Any, tokenizer: Any, options: argparse.Namespace, **more: Any
) -> dict[str, Any]:
    """What the contenders of a case share, with the rows and the tokenizer on disk.

    Args:
        folder: where they are written; it must stay until the last contender has run.
        rows: a data set.
        tokenizer: whose tokens they are.
        options: from the command line.
        more: further values, as JSON has them.
    """
    rows.save_to_disk(f"{folder}/rows")
    tokenizer.save_pretrained(f"{folder}/tokenizer")
    shared = {k: getattr(options, k) for k in ("precision", "threads", "batch_size", "seed")}
    return {**shared, "rows": f"{folder}/rows", "tokenizer": f"{folder}/tokenizer", **more}


def rows_of(task: dict[str, Any]) -> tuple[Any, Any]:
    """Rows and tokenizer of a task, in a child."""
    import datasets
    from transformers import AutoTokenizer

    rows = datasets.load_from_disk(task["rows"])
    return rows, AutoTokenizer.from_pretrained(task["tokenizer"])


def compared(
    script: str, task: dict[str, Any], options: argparse.Namespace
) -> dict[str, list[Any]]:
    """What the contenders of the command line gave, each in a child, in turn."""

    def one(name: str) -> Any:
        return run_child(script, {**task, "contender": name}, options.threads)

    return in_turn(options.contenders, options.rounds, one)


# ---- memory -------------------------------------------------------------------------------------


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field)) * 1024


def peak_since_last() -> int:
    """Most bytes that were resident since the last call; counting starts anew (Linux)."""
    peak = _status("VmHWM:")
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def peak_above(work: Callable[[], Any], device: str = "cpu") -> tuple[Any, int]:
    """What ``work`` gives, and by how many bytes memory rose above its start.

    On the CPU resident memory (Linux), on a GPU what torch has given out there.
    """
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        return work(), torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is held now
    before = _status("VmRSS:")
    result = work()
    return result, max(0, _status("VmHWM:") - before)


def free_memory() -> int:
    """Bytes that could be taken without swapping."""
    text = Path("/proc/meminfo").read_text()
    return int(next(x for x in text.splitlines() if x.startswith("MemAvailable")).split()[1]) * 1024


def cpu_seconds() -> float:
    """Processor time over all threads; says more than the wall clock when others run too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ---- results ------------------------------------------------------------------------------------


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and greatest."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, round by round."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True))


def shown(numbers: dict[str, float], digits: int = 2) -> str:
    """``median (min to max)``."""
    middle, low, high = (f"{numbers[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{middle} ({low} to {high})"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _processor() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {"model": platform.processor(), "flags": []}
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    lines = {key.strip(): value.strip() for key, value in lines.items()}
    flags = lines.get("flags", "").split()
    kept = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "model": lines.get("model name", ""),
        "flags": [flag for flag in kept if flag in flags],
        "bf16": any("bf16" in flag for flag in flags),
    }


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Versions, processor, settings and the command line, without paths."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "trl", "liger-kernel", "accelerate", "tutelage"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    words = [Path(word).name if os.sep in word else word for word in sys.argv]
    return {
        "versions": versions,
        "processor": _processor(),
        "threads": options.threads,
        "seed": options.seed,
        "load_average_at_end": os.getloadavg()[0],
        "command": " ".join(words),
    }


def run_cases(
    name: str,
    options: argparse.Namespace,
    cases: Iterable[Sequence[Any]],
    measure: Callable[..., dict[str, Any]],
    show: Callable[[dict[str, Any]], str],
) -> None:
    """Measure one case after another; print each, and write all of them so far.

    Args:
        name: of the benchmark.
        options: from the command line; ``measure`` gets them after a case's own arguments.
        cases: the arguments of each case.
        measure: gives the record of a case.
        show: makes it a table.
    """
    records = []
    for case in cases:
        records.append(measure(*case, options))
        print(show(records[-1]), flush=True)
        write_results(name, options, records)


def write_results(name: str, options: argparse.Namespace, records: list[dict[str, Any]]) -> Path:
    """Write the records with what is needed to judge them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.name or f'{name}_{options.precision}'}.json"
    path.write_text(json.dumps({**environment(options), "records": records}, indent=1) + "\n")
    return path

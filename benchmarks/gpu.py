"""Everything that wants a GPU, in one command: ``python gpu.py``, under ten minutes on an H100.

Needs no network. Shapes are Qwen2.5's, weights random, products in bfloat16. Each part is a process
of its own with a time limit, so that one that fails takes nothing else with it; results are written
after each. ``--tiny --device cpu`` tries the script where there is no GPU.
"""

import argparse
import collections
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import kd_step
import loss_memory_time
import on_policy

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense products in bfloat16, from the vendor's data sheets."""

FULL = {
    "student": "0.5b", "teacher": "1.5b", "wide_teacher": "7b", "rows": 32, "steps": 16, "skip": 4,
    "vocabulary": common.QWEN_VOCABULARY, "tokens": (2048, 8192), "new_tokens": 128, "asked": 16,
}  # fmt: skip
TINY = {
    "student": "1m", "teacher": "1m", "wide_teacher": "12m", "rows": 4, "steps": 4, "skip": 1,
    "vocabulary": common.SMOLLM2_VOCABULARY, "tokens": (64,), "new_tokens": 4, "asked": 2,
}  # fmt: skip
STEP = {
    "plain": {"contender": "plain"},
    "stored": {"contender": "stored"},
    "stored, compiled": {"contender": "stored", "compiled": True},
    "live, compiled": {"contender": "live", "compiled": True},
    "stored, padded": {"contender": "stored", "padding_free": False},
    "live": {"contender": "live"},
    "live, padded": {"contender": "live", "padding_free": False},
    "stored, states matched": {"contender": "stored", "state_weight": 3.0},
    # GKDTrainer needs more than 80 GB for 32 rows of such a vocabulary.
    "stored, 8 rows": {"contender": "stored", "batch_size": 8},
    "trl_gkd, 8 rows": {"contender": "trl_gkd", "batch_size": 8},
}
WATCHED = ("plain", "stored, compiled", "live", "stored, states matched")
LOSSES = {
    "tutelage": {},
    "tutelage, compiled": {"compiled": True},
    # What a padded head leaves: the real tokens are rarely a multiple of anything.
    "tutelage, compiled, odd vocabulary": {"compiled": True, "vocabulary": -1},
    "dense": {},
    "liger": {},
    "trl": {},
}


# ---- the parts, each in a process of its own ----------------------------------------------------


def step(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step of one contender, and how much of the GPU's products the student uses."""
    _compile_if_asked(task)
    waited = collections.Counter[str]()
    if task["device"] == "cuda":
        _with_callback(_waits_of_a_step(task["skip"] - 2, waited))
    run = kd_step.child(task)
    seconds = kd_step.kept(run, "steps", task["skip"])
    found = {"seconds": seconds, "store": run["store"], "loss": run["losses"][-1:]}
    found |= {"waits": sum(waited.values()), "waits_by_place": dict(waited)}
    return found | _use_of(task, seconds)


def _compile_if_asked(task: dict[str, Any]) -> None:
    """Short as these trainings are, run their losses as a long one would."""
    from tutelage.training import fused

    fused.FEWEST_STEPS = 0 if task.get("compiled") else 1 << 30


def _use_of(task: dict[str, Any], seconds: float) -> dict[str, float]:
    """Floating-point operations of the student's products a second, of those the card can make."""
    import torch

    rows, _ = common.rows_of(task)
    counts = common.describe_rows(rows, task["batch_size"])
    width = common.SHAPES[task["student"]][0]
    model = common.build_model(task["student"], task["vocabulary"], 0, "meta")
    head = width * task["vocabulary"]
    body = common.parameters(model) - head
    everywhere = task["contender"] in ("plain", "trl_gkd")
    for_head = counts["padded_tokens"] if everywhere else counts["response_tokens"]
    padded = everywhere or task.get("padding_free") is False
    tokens = counts["padded_tokens"] if padded else counts["tokens"]
    operations = 6 * (body * tokens + head * for_head)
    name = torch.cuda.get_device_name() if task["device"] == "cuda" else ""
    peak = next((flops for card, flops in PEAK_FLOPS.items() if card in name), None)
    rate = operations / seconds
    return {"flops": rate, "use": rate / peak if peak else float("nan")}


def _with_callback(callback: Any) -> None:
    """Have every trainer of this process call it."""
    from transformers import Trainer

    made = Trainer.__init__

    def with_it(self: Any, *arguments: Any, **keywords: Any) -> None:
        made(self, *arguments, **keywords)
        self.add_callback(callback)

    Trainer.__init__ = with_it  # type: ignore[method-assign]


def _waits_of_a_step(step: int, places: collections.Counter[str]) -> Any:
    """A callback that counts, by place, how often the host waits for the device in one step."""
    import torch
    from transformers import TrainerCallback

    def noted(message: Any, category: Any, filename: str, line: int, *unused: Any) -> None:
        if "synchroniz" in str(message):
            places[f"{'/'.join(Path(filename).parts[-3:])}:{line}"] += 1

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, *unused: Any, **keywords: Any) -> None:
            if state.global_step == step:
                warnings.simplefilter("always")
                warnings.showwarning = noted
            if state.global_step in (step, step + 1):
                mode = "warn" if state.global_step == step else "default"
                torch.cuda.set_sync_debug_mode(mode)

    return Watch()


def kernels(task: dict[str, Any]) -> dict[str, Any]:
    """How long kernels run in a step, beside the clock's time, and which."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import TrainerCallback

    _compile_if_asked(task)
    clock: list[float] = []
    profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, *unused: Any, **keywords: Any) -> None:
            if state.global_step == task["skip"]:
                torch.cuda.synchronize()
                profiler.start()
                clock.append(time.perf_counter())
            if state.global_step == task["steps"]:
                torch.cuda.synchronize()
                clock.append(time.perf_counter())
                profiler.stop()

    _with_callback(Watch())
    kd_step.child(task)
    counted = task["steps"] - task["skip"]
    events = profiler.key_averages()
    # An operation of torch has the time of its kernels as well.
    run = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    run.sort(key=lambda event: -event.self_device_time_total)
    busy = sum(event.self_device_time_total for event in run) / 1e6
    return {
        "seconds": (clock[1] - clock[0]) / counted,
        "kernel_seconds": busy / counted,
        "launches": sum(e.count for e in events if e.key.startswith("cudaLaunchKernel")) / counted,
        "kernels": {
            f"{e.key[:110]} x{e.count // counted}": round(
                e.self_device_time_total / 1e6 / counted, 5
            )
            for e in run[:30]
        },
    }


def loss(task: dict[str, Any]) -> dict[str, Any]:
    """Memory and time of one contender's loss and gradients."""
    return loss_memory_time.child(task)


def maps(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of what hidden states need beside their products: the maps of one step."""
    import torch

    from tutelage.training.state_maps import Moments, best_maps

    device = torch.device(task["device"])
    generator = torch.Generator(device).manual_seed(task["seed"])
    width, wider = task["hidden"]
    count = 8 * wider
    x = torch.randn(count, width, generator=generator, device=device)
    y = torch.randn(count, wider, generator=generator, device=device)
    moments = []
    for left, right in ((x, x), (x, y), (y, y)):
        none = Moments.none(left.shape[1], right.shape[1], device)
        moments.append(none.with_sums(none.sums(left, right), 16.0 * wider))
    seconds = []
    for _ in range(5):
        common.finish(task["device"])
        start = time.perf_counter()
        best_maps(*moments, floor=0.01)
        common.finish(task["device"])
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "first": seconds[0]}


def own_answers(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step of one contender on the student's own answers."""
    run = on_policy.child(task)
    return {"seconds": kd_step.kept(run, "steps", task["skip"])}


def store(task: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of filling a store, and of the teacher's forward pass over the same rows."""
    import torch
    from stored import stored_signal

    rows, _ = common.rows_of(task)
    device, vocabulary = task["device"], task["vocabulary"]
    teacher = common.build_model(task["teacher"], vocabulary, 0, device, task["precision"]).eval()
    tokens = sum(map(len, rows["input_ids"]))
    longest = max(map(len, rows["input_ids"]))
    packed = torch.randint(vocabulary, (tokens // longest + 1, longest), device=device)

    def forward() -> None:
        with torch.no_grad():
            for batch in packed.split(max(1, 16384 // longest)):
                teacher.model(input_ids=batch, use_cache=False)
        common.finish(device)

    forward()
    start = time.perf_counter()
    forward()
    alone = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        kind = getattr(torch, task["precision"])
        _, seconds = stored_signal(teacher, rows, vocabulary, kind, Path(folder) / "s", 16384)
    return {"tokens": tokens, "rate": tokens / seconds, "forward_rate": packed.numel() / alone}


def tests(task: dict[str, Any]) -> dict[str, Any]:
    """The contract tests and the recipes' two steps on the device."""
    root = Path(__file__).parent.parent
    where = [str(root / "tests" / name) for name in ("contract", "recipes")]
    few = ["-k", "kld or forward_kl" if task["tiny"] else "not server and not vllm"]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-m", "not slow", "-rfE"]
    command += ["--tb=line", "-n", str(task["workers"]), *where, *few]
    environment = {"TUTELAGE_TEST_DEVICE": task["device"]}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env={**common.os.environ, **environment}
    )
    lines = done.stdout.strip().splitlines()
    failed = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"result": lines[-1] if lines else done.stderr[-500:], "failed": failed[:60]}


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "step": step,
    "kernels": kernels,
    "loss": loss,
    "maps": maps,
    "own_answers": own_answers,
    "store": store,
    "tests": tests,
}


# ---- the whole ----------------------------------------------------------------------------------


def tasks(options: Any, folder: str) -> dict[str, dict[str, Any]]:
    """What is to be done, by name: the part and what it is told."""
    sizes = TINY if options.tiny else FULL
    taken = argparse.Namespace(**vars(options), batch_size=sizes["rows"], max_length=512)
    rows, tokenizer = common.load_rows(None, taken, sizes["steps"] * sizes["rows"])
    shared = common.task_of(folder, rows, tokenizer, taken, passes=1)
    shared |= {k: sizes[k] for k in ("student", "teacher", "vocabulary", "steps", "skip")}
    shared |= {"device": options.device, "tiny": options.tiny, "workers": options.workers}
    found: dict[str, dict[str, Any]] = {}
    for name, own in STEP.items():
        found[f"step: {name}"] = {**shared, "part": "step", **own}
    wide = {"teacher": sizes["wide_teacher"]}
    found["step: stored, wide teacher"] = {**found["step: stored"], **wide}
    if options.device == "cuda":
        few = {"part": "kernels", "steps": sizes["skip"] + 4}
        for name in WATCHED:
            found[f"kernels: {name}"] = {**shared, **STEP[name], **few}
    width, wider = (common.SHAPES[sizes[key]][0] for key in ("student", "wide_teacher"))
    for tokens in sizes["tokens"]:
        for name, own in LOSSES.items():
            one = {"part": "loss", "contender": name.split(",")[0], "tokens": tokens, **own}
            one["vocabulary"] = sizes["vocabulary"] + one.get("vocabulary", 0)
            found[f"loss of {tokens}: {name}"] = {**shared, **one, "hidden": [width, wider]}
    found["maps"] = {**shared, "part": "maps", "hidden": [width, wider]}
    found["store"] = {**shared, "part": "store"}
    if not options.tokenizer:
        print("own answers: left out; --tokenizer FOLDER names a tokenizer with a chat template")
        found["tests"] = {**shared, "part": "tests"}
        return found
    asked = rows.map(lambda row: _asked(row, tokenizer)).select(
        range(sizes["asked"] * (sizes["steps"] // 2))
    )
    asked.save_to_disk(f"{folder}/asked")
    for name in on_policy.CONTENDERS:
        own = {"rows": f"{folder}/asked", "batch_size": sizes["asked"], "contender": name}
        own |= {"part": "own_answers", "new_tokens": sizes["new_tokens"]}
        own |= {"skip": sizes["skip"] // 2, "vocabulary": common.SMOLLM2_VOCABULARY}
        found[f"own answers: {name}"] = {**shared, **own, "steps": sizes["steps"] // 2}
    found["tests"] = {**shared, "part": "tests"}
    return found


def _asked(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """A conversation for the peers, with about as many tokens as the row has."""
    count = sum(label == -100 for label in row["labels"])
    user = {"role": "user", "content": "1+" * (count // 2)}
    return {"prompt": [user], "messages": [user, {"role": "assistant", "content": "2"}]}


def limited(task: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Carry out a task in a process of its own; what went wrong is an answer too."""
    try:
        return common.ask_child(__file__, task, {}, seconds=seconds)
    except common.ChildFailedError as error:
        return {"failed": str(error)[-1500:]}


def line_of(name: str, found: dict[str, Any]) -> str:
    """One result, in a line."""
    if "failed" in found and isinstance(found["failed"], str):
        return f"{name}: failed: {found['failed'].splitlines()[-1][:200]}"
    short = {k: v for k, v in found.items() if isinstance(v, (int, float, str))}
    shown = ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in short.items()
    )
    return f"{name}: {shown}"


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    parser.set_defaults(precision="bfloat16")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="to try the script")
    parser.add_argument("--tokenizer", help="folder of SmolLM2's; the peers' own answers want one")
    parser.add_argument("--only", nargs="+", help="names of the results begin so")
    parser.add_argument("--workers", type=int, default=8, help="processes of the tests")
    parser.add_argument("--limit", type=float, default=120, help="seconds for each task")
    parser.add_argument("--minutes", type=float, default=9, help="no task begins after these")
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, lambda task: PARTS[task["part"]](task))
    start, records = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for name, task in tasks(options, folder).items():
            if options.only and not name.startswith(tuple(options.only)):
                continue
            left = options.minutes * 60 - (time.perf_counter() - start)
            if left < 5:
                records.append({"name": name, "failed": "no time was left"})
                continue
            began = time.perf_counter()
            found = limited(task, min(options.limit, left))
            took = time.perf_counter() - began
            records.append({"name": name, "took": round(took, 1), **found})
            print(f"[{took:.0f} s] {line_of(name, found)}", flush=True)
            common.write_results("gpu", options, records)


if __name__ == "__main__":
    main()

"""Peak memory and time of one loss, value and gradient: ``python loss_memory_time.py``.

Half cross-entropy, half forward KL to a teacher (TRL's kernel has the KL alone), from last hidden
states of N response tokens and both output heads to the gradients of the student's hidden states
and head. Each measurement is a process of its own; memory is the rise of resident memory above
what it was with parameters and inputs in place, so the gradients that must remain are part of it.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import common

CONTENDERS = {
    "dense": "dense float32",
    "tutelage": "Tutelage",
    "trl": "TRL chunked divergence (no CE)",
    "liger": "Liger chunked JSD, beta 0",
}
HIDDEN = {common.SMOLLM2_VOCABULARY: (576, 576), common.QWEN_VOCABULARY: (896, 896)}
DENSE_ARRAYS = 7
"""Float32 arrays of tokens times vocabulary that the dense loss was seen to hold, rounded up."""

Loss = Callable[[], Any]


def _dense(student: Any, teacher: Any, hidden: Any, teacher_hidden: Any, targets: Any) -> Loss:
    import torch.nn.functional as F

    def loss() -> Any:
        logits = (hidden @ student.T).float()
        with_teacher = (teacher_hidden @ teacher.T).float()
        logq, logp = logits.log_softmax(-1), with_teacher.log_softmax(-1)
        divergence = F.kl_div(logq, logp, reduction="sum", log_target=True)
        total = 0.5 * F.nll_loss(logq, targets, reduction="sum") + 0.5 * divergence
        total.backward()
        return total

    return loss


def _tutelage(
    student: Any,
    teacher: Any,
    hidden: Any,
    teacher_hidden: Any,
    targets: Any,
    *,
    compiled: bool = False,
) -> Loss:
    from tutelage.components import bind
    from tutelage.divergences import DIVERGENCES
    from tutelage.targets import TARGETS
    from tutelage.teachers import LiveTeacher
    from tutelage.training.loss import DistillLoss, StepValues

    vocabulary = student.shape[0]
    loss_of = DistillLoss(
        bind(DIVERGENCES, "divergence", "forward_kl", {}),
        bind(TARGETS, "target", "probability_mix", {}),
        vocabulary,
        autocast_dtype=hidden.dtype if hidden.dtype != student.dtype else None,
        compiled=compiled,
    )
    model = _with_head(student)
    signal = LiveTeacher(_with_head(teacher), vocabulary, loss_of.autocast_dtype)

    def loss() -> Any:
        sums = loss_of(model, hidden, targets, StepValues(0.0, 1.0, 0.5), signal, teacher_hidden)
        sums.total.backward()
        return sums.total

    return loss


def _with_head(weight: Any) -> Any:
    """A causal language model without layers whose head is this weight."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary, width = weight.shape
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=0, num_attention_heads=1
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.lm_head.weight = weight
    # Embeddings are never read; they only have to be somewhere.
    model.model.embed_tokens.weight = torch.nn.Parameter(torch.zeros(1, 1))
    model.model.norm.weight = torch.nn.Parameter(torch.zeros(1))
    return model


def _trl(student: Any, teacher: Any, hidden: Any, teacher_hidden: Any, targets: Any) -> Loss:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def loss() -> Any:
        # With hidden states in 16 bits it rounds the heads itself, and multiplies in 32 on a CPU.
        divergence, _ = ChunkedDivergenceFunction.apply(
            hidden, student, None, teacher_hidden, teacher, None, 0.0
        )
        total = divergence.sum()
        total.backward()
        return total

    return loss


def _liger(student: Any, teacher: Any, hidden: Any, teacher_hidden: Any, targets: Any) -> Loss:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    module = LigerFusedLinearJSDLoss(0.5, 0.5, beta=0.0, compiled=False)
    # It multiplies without a cast, so heads are given in the type of the hidden states.
    student_head, teacher_head = student.to(hidden.dtype), teacher.to(hidden.dtype)

    def loss() -> Any:
        total = module(hidden, student_head, teacher_hidden, teacher_head, targets)
        total.backward()
        return total.detach() * len(targets)

    return loss


MAKE = {"dense": _dense, "tutelage": _tutelage, "trl": _trl, "liger": _liger}


def _loss_at(task: dict[str, Any], tokens: int, vocabulary: int) -> tuple[Loss, list[Any]]:
    """A contender's loss with inputs of this shape, and what gets gradients."""
    import torch

    width, teacher_width = task["hidden"]
    generator = torch.Generator().manual_seed(task["seed"])

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    student = torch.nn.Parameter(normal(vocabulary, width, scale=width**-0.5))
    teacher = torch.nn.Parameter(
        normal(vocabulary, teacher_width, scale=2 * teacher_width**-0.5), requires_grad=False
    )
    hidden, teacher_hidden = normal(tokens, width), normal(tokens, teacher_width)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    device = common.device_of(task)
    student.data, teacher.data = student.data.to(device), teacher.data.to(device)
    hidden, teacher_hidden, targets = (one.to(device) for one in (hidden, teacher_hidden, targets))
    half = task["precision"] == "bfloat16"
    if half and task["contender"] != "dense":
        hidden, teacher_hidden = hidden.bfloat16(), teacher_hidden.bfloat16()
    hidden.requires_grad_()
    own = {"compiled": True} if task.get("compiled") else {}
    loss = MAKE[task["contender"]](student, teacher, hidden, teacher_hidden, targets, **own)
    return loss, [student, hidden]


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One contender at one shape: the value, the peak of a first call, the seconds of a second."""
    warm_up, _ = _loss_at(task, 32, 512)
    warm_up()
    loss, differentiated = _loss_at(task, task["tokens"], task["vocabulary"])
    device = common.device_of(task)
    common.finish(device)
    total, peak = common.peak_above(loss, device)
    for tensor in differentiated:
        tensor.grad = None
    common.finish(device)
    start, start_cpu = time.perf_counter(), common.cpu_seconds()
    loss()
    common.finish(device)
    return {
        "nats_per_token": float(total) / task["tokens"],
        "peak": peak,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": common.cpu_seconds() - start_cpu,
    }


def one_shape(vocabulary: int, tokens: int, options: Any) -> dict[str, Any]:
    """All contenders at one shape."""
    hidden = options.hidden or HIDDEN.get(vocabulary, (576, 576))
    needed = DENSE_ARRAYS * 4 * tokens * vocabulary
    names = list(options.contenders)
    if "dense" in names and needed > 0.8 * common.free_memory():
        names.remove("dense")
    task = {
        "tokens": tokens,
        "vocabulary": vocabulary,
        "hidden": list(hidden),
        **{k: getattr(options, k) for k in ("precision", "threads", "seed")},
    }
    runs = common.in_turn(
        names,
        options.rounds,
        lambda name: common.run_child(
            __file__,
            {**task, "contender": name},
            options.threads,
            options.peer_python if name == "liger" else None,
        ),
    )
    measured = {
        name: {
            key: common.spread(run[key] for run in runs[name])
            for key in ("peak", "seconds", "cpu_seconds", "nats_per_token")
        }
        for name in names
    }
    over = {
        name: {
            key: common.paired_ratio(
                [run[key] for run in runs["tutelage"]], [run[key] for run in runs[name]]
            )
            for key in ("peak", "seconds", "cpu_seconds")
        }
        for name in names
        if name != "tutelage"
    }
    gradients = 4 * (vocabulary + tokens) * hidden[0]
    return {**task, "gradient_bytes": gradients, "measured": measured, "tutelage_over": over}


def show(record: dict[str, Any]) -> str:
    """One shape as a table; the peak over the dense one also without the gradients."""
    lines = []
    for name, found in record["measured"].items():
        over = record["tutelage_over"].get(name)
        lines.append(
            (
                CONTENDERS[name],
                f"{found['peak']['median'] / 2**20:.0f}",
                f"{max(0, found['peak']['median'] - record['gradient_bytes']) / 2**20:.0f}",
                common.shown(found["seconds"]),
                common.shown(found["cpu_seconds"]),
                f"{found['nats_per_token']['median']:.4f}",
                f"1/{1 / over['peak']['median']:.1f}" if over else "",
                common.shown(over["seconds"]) if over else "",
            )
        )
    title = (
        f"\n{record['tokens']} tokens, V {record['vocabulary']}, hidden {record['hidden'][0]} and"
        f" {record['hidden'][1]}, {record['precision']}; gradients that remain:"
        f" {record['gradient_bytes'] / 2**20:.0f} MiB\n\n"
    )
    header = (
        "loss",
        "peak MiB",
        "above gradients",
        "s",
        "CPU s",
        "nats a token",
        "Tutelage's peak / this",
        "Tutelage's time / this",
    )
    return title + common.table(header, lines)


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument(
        "--vocabularies",
        type=int,
        nargs="+",
        default=[common.SMOLLM2_VOCABULARY, common.QWEN_VOCABULARY],
    )
    parser.add_argument("--hidden", type=int, nargs=2, help="the student's width, the teacher's")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    if options.child:
        return common.be_child(options.child, child)
    cases = itertools.product(options.vocabularies, options.tokens)
    common.run_cases("loss_memory_time", options, cases, one_shape, show)


if __name__ == "__main__":
    main()

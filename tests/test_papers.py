"""PAPERS.md says what the program does: every number in it is worked out here."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tutelage.difficulty.scores import TEACHER_FLOOR
from tutelage.evaluation.judge import length
from tutelage.pipeline.stages.plan import compile_recipe
from tutelage.recipe import load_recipe
from tutelage.schedules import TEXT_CONTROLLERS, TextState
from tutelage.training.share import AdaptiveShare
from tutelage.types import DifficultyProfile

PAPERS = " ".join((Path(__file__).parents[1] / "PAPERS.md").read_text().split())
N = 11_435  # the size that CPD's printed iteration counts imply


def recipe(name, *overrides):
    return load_recipe(name, overrides, partial=True).recipe


@cache
def plan(name, *overrides, size=N):
    scores = np.random.default_rng(0).gamma(4, 0.6, size)
    profile = DifficultyProfile(tuple(f"id{i:05d}" for i in range(size)), scores)
    return compile_recipe(recipe(name, *overrides), profile)


def steps(name, *overrides):
    return plan(name, "training.batch_size=8", *overrides).total_steps


def options(name, part):
    return getattr(recipe(name).loss, part).options


def clpd(name):
    """How many of 1,000 examples the strong teacher has, where bands share them 3 to 7."""
    ladder = [{"name": n, "model": n} for n in ("weak", "strong")]
    more = ("curriculum.shares=[0.3, 0.7]", f"teachers={ladder}", "curriculum.passes=1")
    return int(plan(name, *more, size=1000).visit_teacher.sum())


def drift():
    loss = recipe("cpd_adaptive").loss
    whole = plan("cpd_adaptive", "training.batch_size=8", "curriculum.iteration_ratio=0.8226")
    share = AdaptiveShare(loss.adaptive.model_dump(), whole).shares_without_progress()
    half = whole.total_steps // 2
    return [whole.total_steps, share[half], whole.student_share[half]]


def taid_moves_nothing_below():
    """The rule moves alpha (1 - t) at most from where the line moves 0.6 / S."""
    loss = recipe("taid").loss
    start = 1 - loss.student_share["start"]
    return (1 - start) / (loss.adaptive.options["alpha"] * (1 - start))


def taid_end(length):
    shares = plan("taid", f"curriculum.total_steps={length}").student_share
    return length * shares[-1]


def text_rule():
    adaptive = recipe("distillm_skl").on_policy.adaptive
    return TEXT_CONTROLLERS[adaptive.kind].function(**adaptive.options)


def own_text(progress, chance, draw):
    rule = text_rule()
    full = rule.keeping(TextState(chance), [(0, place) for place in range(rule.capacity)])
    return rule.source(full, progress, draw)


# A piece of the text, and the numbers in it in their order.
CLAIMS = {
    "Both parameters have a weak penalty (0.1)": lambda: [length.PENALTY],
    "printed 82.3 % of the iterations": lambda: [100 * steps("cpd_paper") / steps("kld")],
    "(`min_examples: 1` for the formula alone)": lambda: [
        recipe("cpd_paper").curriculum.min_examples
    ],
    "(`passes: 2`)": lambda: [recipe("cpd").curriculum.passes],
    "share e/n is 1 in the last stage": lambda: [plan("cpd_paper").student_share[-1]],
    "is then identically 0; `cpd` uses (e - 1)/n": lambda: [
        1 - plan("cpd_paper").student_share[-1],
        20 * plan("cpd").stages[1].student_share,
    ],
    "Temperature 1 to 2 in a line": lambda: [
        plan("cpd").distill_temperature[0],
        plan("cpd").distill_temperature[-1],
    ],
    "in the loss; `ce_weight` 0.3.": lambda: [recipe("cpd").loss.ce_weight],
    "batch 8, 20 stages in 23,517 updates (at 11,435 examples)": lambda: [
        recipe("cpd_paper").training.batch_size,
        recipe("cpd_paper").curriculum.stages,
        plan("cpd_paper").total_steps,
        N,
    ],
    '"initialised" at 0.3': lambda: [recipe("cpd_paper").loss.ce_weight],
    # What the paper prints and nothing follows from.
    "tuned over 5e-4, 1e-4, 5e-5), the batch (8 or 16)": lambda: [5e-4, 1e-4, 5e-5, 8, 16],
    "(6 with a minus sign)": lambda: [6],
    "`cpd_fixed_share` (0.5)": lambda: [recipe("cpd_fixed_share").loss.student_share],
    "plain run's 28,588, linear growth makes 15,008, which is 52.5 %, cosine growth 24,299 or"
    " 85.0 %": lambda: [
        steps("kld"),
        steps("cpd_linear_growth"),
        100 * steps("cpd_linear_growth") / steps("kld"),
        steps("cpd_cosine_growth"),
        100 * steps("cpd_cosine_growth") / steps("kld"),
    ],
    "half a wave from 0.7 of the data to all of it makes its number, and the 0.7 is": lambda: [
        recipe("cpd_cosine_growth").curriculum.options["start"],
        plan("cpd_cosine_growth").stages[0].num_examples / N,
    ],
    "in the paper's 23,517 steps that rule drifts to a share of 0.96 half way, where the schedule"
    " has 0.75;": drift,
    "rank fusion (k = 60)": lambda: [recipe("pocl").difficulty.options["k"]],
    "At batch 64 and 11,435 examples this makes the 352 + 712 + 1,064 + 1,424 updates": lambda: [
        recipe("pocl").training.batch_size,
        N,
        *(stage.steps for stage in plan("pocl").stages),
    ],
    "Temperature 1 to 2 over the stages, cross-entropy weight 0.3 to 0, learning rate 1e-4":
    lambda: [
        *plan("pocl").distill_temperature[[0, -1]],
        *plan("pocl").ce_weight[[0, -1]],
        recipe("pocl").training.learning_rate,
    ],
    "The value of forward KL is 0 at p = q": lambda: [0],  # tests/contract
    "with shares [0.3, 0.7] gives the strong teacher 700 of 1,000 examples": lambda: [
        *recipe("clpd_30_70").curriculum.options["shares"],
        clpd("clpd_reversed"),
        1000,
    ],
    "All use `ce_weight` 0.3,": lambda: [
        *{recipe(n).loss.ce_weight for n in ("kld", "rkl", "tvd", "jsd", "skl", "srkl", "abkd")}
    ],
    "behind the published tables use 0.": lambda: [0],
    "`jsd_beta` 0.5 and 0.1 |": lambda: [
        options("jsd", "divergence")["jsd_beta"],
        options("jsd_code", "divergence")["jsd_beta"],
    ],
    "CPD's text has 0.5; the code behind the GPT-2 rows 0.1 of teacher": lambda: [
        options("jsd", "divergence")["jsd_beta"],
        2,
        options("jsd_code", "divergence")["jsd_beta"],
    ],
    "`skew` 0.1; 0.5": lambda: [
        options("skl", "divergence")["skew"],
        options("skl_half", "divergence")["skew"],
    ],
    "alpha-beta, 0.2 and 0.7": lambda: [*options("abkd", "divergence").values()],
    "`forward_weight` 0.5": lambda: [options("symmetric_kl", "divergence")["forward_weight"]],
    "has 0.1 of forward and 0.9 of reverse KL": lambda: [0.1, 0.9],
    "`on_policy.fraction` (0.5; 1), sampled at temperature 1,": lambda: [
        recipe("gkd").on_policy.fraction,
        recipe("on_policy").on_policy.fraction,
        recipe("gkd").on_policy.sampling_temperature,
    ],
    "Skewed KL (`skew` 0.1) without cross-entropy": lambda: [
        options("distillm_srkl", "divergence")["skew"]
    ],
    "The chance of own text begins at 0.": lambda: [text_rule().start().chance],
    "grown by 0.1 nats since": lambda: [text_rule().epsilon],
    "the chance rises by 0.1.": lambda: [text_rule().rise],
    "falls to 0 at the last step, or while fewer than 1,000 answers": lambda: [
        next(c for c in range(100) if own_text(1.0, chance=1.0, draw=c / 100) == "replayed"),
        text_rule().capacity,
    ],
    "their LLaMA runs begin at 0.2 and ask for 0.2 nats": lambda: [0.2, 0.2],
    "fine-tuned for 3 epochs before": lambda: [3],
    "among the teacher's 25 likeliest": lambda: [recipe("skd").on_policy.teacher_top_k],
    "same settings, at temperature 1 by default": lambda: [
        recipe("skd").on_policy.sampling_temperature
    ],
    "has 0.5 for the student, 0.2 for the teacher and a nucleus of 0.5": lambda: [0.5, 0.2, 0.5],
    "rises from 0.4 at least": lambda: [1 - recipe("taid").loss.student_share["start"]],
    "(alpha 5e-4, beta 0.99)": lambda: [
        *(recipe("taid").loss.adaptive.options[name] for name in ("alpha", "beta"))
    ],
    "`student_share` is 1 minus": lambda: [1],
    "ends at 1 - 1.2/S in S steps": lambda: [1, taid_end(300)],
    "In runs of less than 2,000 steps": lambda: [taid_moves_nothing_below()],
    "At other temperatures than 1 it sees": lambda: [1],
    "restatement: 0 to 1 in a line": lambda: [*(1 - plan("taid_linear").student_share[[0, -1]])],
    "(`bdl_lambda` 0.9)": lambda: [options("dakd", "divergence")["bdl_lambda"]],
    "so that no ratio divides by 0;": lambda: [0],
    "shows a ratio of 3,685.": lambda: [1.1055 / max(3e-4, TEACHER_FLOOR)],
    "3,570 iterations of 32 become 1,963, which is 0.55 of them; ours make 1,966 at 11,435"
    " examples": lambda: [
        plan("kld", "training.batch_size=32", "curriculum.stages=10", "curriculum.remainder=drop")
        .total_steps,
        recipe("dakd").training.batch_size,
        int(0.55 * 3570),
        np.mean([(1 + np.cos(np.pi * e / 10)) / 2 for e in range(10)]),
        plan("dakd").total_steps,
        N,
    ],
    "20 epochs, linear decay, with cross-entropy, 52.5 % of the updates": lambda: [
        recipe("dakd_linear").curriculum.stages,
        100 * plan("dakd_linear").total_steps / steps("kld"),
    ],
}  # fmt: skip
NUMBER = r"(?<![\w.])\d(?:[\d,]*\d)?(?:\.\d+)?(?:e-\d+)?"
# Years, numbers of papers, volumes, and places in papers; names in code.
REFERENCES = (
    r"`[^`]*`",
    r"arXiv:[\d.]+",
    r"PMLR \d+",
    r"\b(19|20)\d\d\b",
    r"(Tables?|Figures?|equations?) \d+[a-z]?(( and|,) \d+[a-z]?)*",
)


def numbers(text):
    return re.findall(NUMBER, text)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[:40])
def test_a_number_is_what_the_program_gives(claim):
    assert claim in PAPERS, "the text has changed: change the claim with it"
    for printed, value in zip(numbers(claim), CLAIMS[claim](), strict=True):
        plain = printed.replace(",", "")
        decimals = len(plain.partition(".")[2]) if "e" not in plain else 9
        assert round(float(value), decimals) == pytest.approx(float(plain), abs=1e-12), printed


def test_every_number_is_worked_out():
    text = PAPERS
    for claim in sorted(CLAIMS, key=len, reverse=True):
        text = text.replace(claim, "")
    for pattern in REFERENCES:
        text = re.sub(pattern, "", text)
    assert numbers(text) == []


def test_a_control_of_clpd_shares_as_clpd_does():
    assert clpd("clpd_reversed") == clpd("clpd_30_70") == 700
    assert clpd("clpd_strong_on_easy") == 300

"""What CPD's analysis of its gradients (section 4) comes to in training: ``cpd_mechanics.py``.

The embedded task is trained by CPD with the shifted student share and with the printed one. Before
the first stage and after each one every training example is looked at: gradients in the student's
logits of the mixed target, the detached one and forward KL, and the coefficient K of equation 3, by
thirds of the difficulty that the curriculum goes by. Then what profile, refresh, teacher, training
and own answers cost.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

SHARES = {"cpd": "shifted", "paper_share": "paper"}
"""Arms whose gradients are looked at: the student's share of the target."""

COSTS: dict[str, dict[str, Any]] = {
    "forward_kl": {
        "curriculum": {"kind": "random", "weights": None},
        "loss": {"student_share": 0.0, "distill_temperature": 1.0},
    },
    "cpd": {},
    "cpd_live_teacher": {"teacher": {"signal": "live"}},
    "cpd_semi_dynamic": {"difficulty": {"refresh": 2}},
    "cpd_dynamic": {"difficulty": {"refresh": 1}},
    "cpd_on_policy": {
        "loss": {"ce_weight": 0.0},
        "on_policy": {"fraction": 0.5, "sampling_temperature": 1.0, "max_new_tokens": 64},
    },
}
"""Arms whose cost is counted: what they change in CPD's recipe."""

THIRDS = ("easiest", "middle", "hardest")
FIXED = (0.25, 0.5, 0.9)


def recipe_of(output: Path, seed: int, **changes: Any) -> dict[str, Any]:
    """The embedded task as a recipe of one arm; data stay, order and own answers are drawn."""
    task = {"extends": "embedded_cpd", "controls": {}, "output": str(output)}
    return {**task, "seeds": {"student": seed}, **changes}


def logits_of(model: Any, rows: Any, vocabulary: int) -> Any:
    """Logits at the response tokens of all rows in float64, the tokens, and whose they are."""
    import torch

    from tutelage.data.collate import collate

    found, labels, places = [], [], []
    for start in range(0, len(rows), 100):
        batch = collate([rows[i] for i in range(start, min(start + 100, len(rows)))], 0)
        following = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            logits = model.eval()(**batch).logits[:, :-1, :vocabulary]
        learned = following >= 0
        found.append(logits[learned].double())
        labels.append(following[learned])
        places.append(learned.nonzero()[:, 0] + start)
    return torch.cat(found), torch.cat(labels), torch.cat(places)


def gradient(student: Any, teacher: Any, share: float, tau: float, *, detach: bool = False) -> Any:
    """Of tau squared times KL(target || student) in the student's logits, token by token."""
    import torch

    from tutelage.divergences import forward_kl
    from tutelage.targets import probability_mix

    student = student.detach().requires_grad_()
    student_logp = (student / tau).log_softmax(-1)
    target = probability_mix((teacher / tau).log_softmax(-1), student_logp, share, detach=detach)
    loss = tau**2 * forward_kl(target, student_logp).sum()
    return torch.autograd.grad(loss, student)[0]


def coefficients(student: Any, teacher: Any, share: float, tau: float) -> tuple[Any, Any]:
    """The paper's K for every label, and the student's probability of it."""
    from tutelage.targets import probability_mix

    student_logp = (student / tau).log_softmax(-1)
    teacher_logp = (teacher / tau).log_softmax(-1)
    log_ratio = probability_mix(teacher_logp, student_logp, share) - student_logp
    return share * log_ratio + share - log_ratio.exp(), student_logp.exp()


def look(student: Any, teacher: Any, labels: Any, stage: Any, third: Any, visits: Any) -> Any:
    """Gradients and coefficients at one student, with the share and temperature of a stage.

    ``student`` and ``teacher`` are logits at the response tokens, ``labels`` these tokens;
    ``third`` and ``visits``: of which third each is, and how often the stage visits it.
    """
    share, tau = stage.student_share, stage.distill_temperature
    full = gradient(student, teacher, share, tau)
    detached = gradient(student, teacher, share, tau, detach=True)
    plain = gradient(student, teacher, 0.0, tau)
    of_labels = student.softmax(-1)
    of_labels[range(len(labels)), labels] -= 1.0
    every = {"full": full, "detached": detached, "forward_kl": plain, "cross_entropy": of_labels}
    every |= {f"full_at_{t}": gradient(student, teacher, t, tau) for t in FIXED}
    norms = {kind: one.norm(dim=-1) for kind, one in every.items()}
    k, q = coefficients(student, teacher, share, tau)
    mean_k = (q * k).sum(-1, keepdim=True)
    constant = tau * q * (share - 1.0 - (q * (share - 1.0)).sum(-1, keepdim=True))
    spread = (q * (k - (share - 1.0)).abs()).sum(-1)
    thirds = {}
    for number, name in enumerate(THIRDS):
        mine = third == number
        of = {kind: norm[mine] for kind, norm in norms.items()}
        mixed = [kind for kind in of if kind.startswith("full")]
        thirds[name] = {
            "norms": {kind: norm.mean().item() for kind, norm in of.items()},
            "median_over_forward_kl": {
                kind: (of[kind] / of["forward_kl"]).median().item() for kind in mixed
            },
            "k_mean": mean_k[mine].mean().item(),
            "k_distance_from_t_minus_1": spread[mine].mean().item(),
            "k_least": k[mine].min().item(),
            "k_greatest": k[mine].max().item(),
            "tokens_with_k_below_minus_10": (k[mine] < -10).any(-1).double().mean().item(),
        }
    return {
        "share": share,
        "temperature": tau,
        "thirds": thirds,
        "of_all": {kind: shares_of(norm, third) for kind, norm in norms.items()},
        "as_visited": {kind: shares_of(norm * visits, third) for kind, norm in norms.items()},
        "detached_minus_1_t_forward_kl": (detached - (1 - share) * plain).abs().max().item(),
        "full_minus_formula_with_k": (full - tau * q * (k - mean_k)).abs().max().item(),
        "gradient_of_a_constant_k": constant.abs().max().item(),
    }


def shares_of(values: Any, groups: Any) -> list[float]:
    """What each third has of a sum."""
    sums = [float(values[groups == number].sum()) for number in range(len(THIRDS))]
    # At t = 1 nothing is left but rounding.
    return [part / sum(sums) if sum(sums) > 1e-6 else 0.0 for part in sums]


def watched(output: Path, share: str, seed: int) -> dict[str, Any]:
    """Train an arm from stage to stage, and look at it before the first and after each."""
    import torch

    from tutelage.curriculum import load_plan
    from tutelage.difficulty import load_profile
    from tutelage.models import load_model
    from tutelage.pipeline.run import carry_out_arms, prepared
    from tutelage.pipeline.stages.data import rows_of

    recipe = recipe_of(output, seed, loss={"student_share": {"kind": share}})
    folder = output / f"{share}-{seed}"
    with prepared(recipe, run_dir=folder, quiet=True, draws=False) as session:
        arm = session.part(f"arms/{session.main_arm}")
        plan, rows = load_plan(arm / "plan"), rows_of(session, "train")
        profile = load_profile(session.part("difficulty") / "profile.parquet")
        assert list(rows["id"]) == list(profile.ids) == list(plan.ids)
        third = np.empty(len(rows), dtype=np.int64)
        third[profile.order] = np.arange(len(rows)) * len(THIRDS) // len(rows)
        size = session.models.vocab_size
        teacher, labels, places = logits_of(session.models.teacher, rows, size)
        places = places.numpy()
        looks, done = [], 0
        for stage in (None, *plan.stages):
            model = session.models.student()
            if stage is not None:
                done += stage.steps
                carry_out_arms(session, until=done)
                model = load_model(str(arm / f"training/checkpoint-{done}"))
            student, _, _ = logits_of(model, rows, size)
            number, stage = (stage.stage, stage) if stage else (0, plan.stages[0])
            visits = visits_in(plan, plan.step_stage == stage.stage)
            of_tokens = (torch.from_numpy(third[places]), torch.from_numpy(visits[places]))
            found = look(student, teacher, labels, stage, *of_tokens)
            looks.append({"after_stage": number, **found})
        tokens = np.bincount(places, minlength=len(rows))
        stages = [stage_facts(plan, stage, third, tokens) for stage in plan.stages]
        return {"looks": looks, "stages": stages}


def visits_in(plan: Any, steps: Any) -> Any:
    """How often some steps visit each example."""
    chosen = np.repeat(steps, np.diff(plan.offsets))
    return np.bincount(plan.visits[chosen], minlength=plan.num_examples)


def stage_facts(plan: Any, stage: Any, third: Any, tokens: Any) -> dict[str, Any]:
    """How much of a plan one of its stages is, as shares of the whole plan."""
    of_stage = plan.step_stage == stage.stage
    mine, every = visits_in(plan, of_stage), visits_in(plan, of_stage | True)
    return {
        "share": stage.student_share,
        "temperature": stage.distill_temperature,
        "examples": stage.num_examples,
        "visits": mine.sum() / every.sum(),
        "response_tokens": (mine * tokens).sum() / (every * tokens).sum(),
        "learning_rate": plan.lr_factor[of_stage].sum() / plan.lr_factor.sum(),
        "visits_of_thirds": [mine[third == n].sum() / every[third == n].sum() for n in range(3)],
    }


def cost_of(output: Path, name: str, seed: int) -> dict[str, Any]:
    """What an arm spends by its ledger, and processor seconds of its training alone."""
    from tutelage.pipeline.run import carry_out_arms, prepared
    from tutelage.pipeline.stages.ledger import ledger_of

    recipe = recipe_of(output, seed, **COSTS[name])
    with prepared(recipe, run_dir=output / name, quiet=True, draws=False) as session:
        before, arm = common.cpu_seconds(), session.main_arm
        carry_out_arms(session, until=ledger_of(session, arm).updates)
        spent = common.cpu_seconds() - before
        return {**ledger_of(session, arm).as_dict(), "training_cpu_seconds": spent}


def rounded(records: Any) -> Any:
    """Records with their numbers to four digits."""
    return json.loads(json.dumps(records), parse_float=lambda text: float(f"{float(text):.4g}"))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", dest="seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="cpd_mechanics")
    options = parser.parse_args()
    common.prepare(options.threads)
    wall, cpu = time.perf_counter(), common.cpu_seconds()
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for seed in options.seed:
            for name, share in SHARES.items():
                record = {"arm": name, "seed": seed, **watched(Path(place), share, seed)}
                records.append(record)
        for name in COSTS:
            seed = options.seed[0]
            records.append({"cost_of": name, "seed": seed, **cost_of(Path(place), name, seed)})
    took = {"seconds": time.perf_counter() - wall, "cpu_seconds": common.cpu_seconds() - cpu}
    print(common.write_results("cpd_mechanics", options, rounded([*records, took])))


if __name__ == "__main__":
    main()

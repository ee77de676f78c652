"""The stage that compiles the plan of an arm."""

from tutelage.curriculum import (
    CurriculumOptions,
    LearningRate,
    compile_plan,
    describe_plan,
    load_plan,
    save_plan,
)
from tutelage.files import read_json
from tutelage.pipeline.pictures import plan_png
from tutelage.pipeline.session import Session, plain
from tutelage.recipe import Recipe
from tutelage.types import DifficultyProfile, Plan


def compile_recipe(
    recipe: Recipe, profile: DifficultyProfile, total_steps: int | None = None
) -> Plan:
    """The plan of a recipe.

    Args:
        recipe: the recipe of an arm.
        profile: difficulty of the training examples.
        total_steps: make exactly as many updates, whatever the recipe's own number (for controls).
    """
    options = {name: value for name, value in plain(recipe.curriculum).items() if value is not None}
    if total_steps is not None:
        for name in ("passes", "iteration_ratio", "total_steps"):
            options.pop(name, None)
        options["total_steps"] = total_steps
    training, loss = recipe.training, recipe.loss
    return compile_plan(
        profile,
        CurriculumOptions(**options),
        batch_size=training.batch_size,
        student_share=loss.student_share,
        distill_temperature=loss.distill_temperature,
        ce_weight=loss.ce_weight,
        learning_rate=LearningRate(
            training.lr_schedule, training.warmup_ratio, training.min_lr_ratio
        ),
        seed=recipe.seed,
    )


def prepare_plan(session: Session, arm: str, profile: DifficultyProfile) -> Plan:
    """Compile the plan of an arm; controls make as many updates as the main arm."""
    recipe = session.loaded.arms[arm]
    main_steps = None
    if arm != session.main_arm:
        main_steps = load_plan(session.part(f"arms/{session.main_arm}/plan")).total_steps
    inputs = {
        "difficulty": session.run.fingerprint("difficulty"),
        "curriculum": plain(recipe.curriculum),
        "loss": plain(recipe.loss),
        "training": {
            name: getattr(recipe.training, name)
            for name in ("batch_size", "lr_schedule", "warmup_ratio", "min_lr_ratio")
        },
        "seed": recipe.seed,
        "total_steps": main_steps,
    }
    name = f"arms/{arm}/plan"
    if not session.run.fresh(name, inputs):
        plan = compile_recipe(recipe, profile, main_steps)
        with session.run.making(name, inputs) as folder:
            description = describe_plan(plan, profile, recipe.name)
            save_plan(folder, plan, description)
            unit = read_json(session.part("difficulty/summary.json"))["unit"]
            plan_png(folder / "plan.png", description, plan, unit, profile.scores)
    return load_plan(session.part(name))

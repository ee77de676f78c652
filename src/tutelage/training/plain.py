"""The plan of a trainer that was given none: a plain shuffled run, as the settings say."""

from collections.abc import Sequence

from tutelage.curriculum import CurriculumOptions, PlanSettings, compile_plan
from tutelage.training.config import DistillConfig
from tutelage.types import DifficultyProfile, Plan


def plain_plan(args: DistillConfig, ids: Sequence[str]) -> Plan:
    """All examples at once, in shuffled passes, with constant scheduled values.

    Args:
        args: ``max_steps`` or ``num_train_epochs`` sets the length; the batch is what
            ``per_device_train_batch_size``, accumulation and processes make together.
        ids: example ids.
    """
    batch_size = (
        args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    )
    length = (
        CurriculumOptions("random", stages=1, total_steps=args.max_steps)
        if args.max_steps > 0
        else CurriculumOptions(
            "random", stages=1, passes=args.num_train_epochs, epochs=args.num_train_epochs
        )
    )
    return compile_plan(
        DifficultyProfile.level(ids),
        PlanSettings(
            length,
            batch_size=batch_size,
            student_share=args.student_share,
            distill_temperature=args.distill_temperature,
            ce_weight=args.ce_weight,
            second_share=args.second_share,
            token_share=args.token_share,
            seed=args.seed if args.data_seed is None else args.data_seed,
        ),
    )

"""What a run has and what it will make: said before any work, and refused where it would harm."""

from collections.abc import Iterable

from tutelage.errors import RunFolderError
from tutelage.pipeline.context.inputs import (
    Inputs,
    data_inputs,
    difficulty_inputs,
    difficulty_part,
    plan_inputs,
    training_inputs,
)
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.evaluate import (
    Tested,
    results_of,
    tested_references,
    tested_students,
)
from tutelage.pipeline.stages.plan import main_arm_steps
from tutelage.pipeline.stages.student import find_student
from tutelage.pipeline.stages.teachers import find_teacher
from tutelage.pipeline.stages.train import validation_steps


def forecast(session: Session, *, replace: bool = False, planned: bool = False) -> None:
    """Say of each part whether it is there, is taken from another run, or is made anew and why.

    What hangs on a part that is still to be made is left open: this is called again when the plans
    are there, and then nothing is open but what hangs on students.

    Args:
        session: the run.
        replace: let finished students of another recipe be replaced.
        planned: whether the plans are made.

    Raises:
        RunFolderError: finished students of another recipe would be replaced.
    """
    lost = _Walk(session, replace, planned).lost()
    if lost:
        session.put_back()
        raise RunFolderError(
            f"The run folder '{session.run.path}' was made by another recipe, and its finished"
            f" students would be trained again and replaced: {', '.join(lost)}. They were left as"
            " they are. Compare its recipe.yaml with `tutelage show`; leave --run-dir out, then"
            " each recipe gets a folder of its own and takes from the others what they share; or"
            " let them be replaced with --replace."
        )


class _Walk:
    """The parts of a run in the order of the stages, each looked at as far as it can be known."""

    def __init__(self, session: Session, replace: bool, planned: bool) -> None:
        self._session = session
        self._replace = replace
        self._planned = planned
        self._main_plan = False

    def lost(self) -> list[str]:
        """Look at every part; the arms whose finished students another recipe would replace."""
        session = self._session
        # Where plans are made the data are, and nobody reads the user's files again.
        if not self._planned and not session.ready("data", data_inputs(session)):
            return []
        found = [find_teacher(session, name) for name in session.recipe.ladder]
        if not all(found) or not find_student(session):
            return []
        self._results(tested_references(session))
        arms = [arm for arm in session.loaded.arms if self._plan_is_there(arm)]
        lost = []
        for arm in arms:
            inputs = training_inputs(session, arm, validation_steps(session))
            if self._would_replace(arm, inputs):
                lost.append(arm)
            elif session.ready(f"arms/{arm}/student", inputs):
                self._results(tested_students(session, arm))
        return lost

    def _plan_is_there(self, arm: str) -> bool:
        """Whether an arm's plan is there; written answers are known only when they are chosen."""
        if self._planned:
            return True
        session, recipe = self._session, self._session.loaded.arms[arm]
        if recipe.uses_text or session.recipe.uses_text:
            return False
        if not session.ready(difficulty_part(session, recipe), difficulty_inputs(session, recipe)):
            return False
        if arm != session.main_arm and not self._main_plan:
            return False  # controls make as many updates as the main arm
        steps = main_arm_steps(session, arm)
        there = session.ready(f"arms/{arm}/plan", plan_inputs(session, arm, steps, None))
        self._main_plan = self._main_plan or there
        return there

    def _would_replace(self, arm: str, inputs: Inputs) -> bool:
        run, student = self._session.run, f"arms/{arm}/student"
        finished = run.part(student).is_dir()
        return (
            run.of_other_recipe
            and not self._replace
            and finished
            and not run.fresh(student, inputs)
        )

    def _results(self, tested: Iterable[Tested]) -> None:
        for one in tested:
            for part, _, inputs in results_of(self._session, one):
                self._session.ready(part, inputs)

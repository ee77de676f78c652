"""What README and docs say is what the program does: commands and code run as written."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tutelage.curriculum import load_plan
from tutelage.files import read_json

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands():
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("tutelage ")]


def test_the_readme_has_the_commands():
    assert {"tutelage run quickstart", "tutelage plan quickstart"} <= set(commands())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the commands run: what one of them measured, the next ones find."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("tutelage run")])
def test_readme_commands_run_as_written(command, place, monkeypatch):
    from tutelage.cli import app

    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert result.output.strip()


def test_numbers_that_a_plan_gives(place, monkeypatch):
    """What README and the quickstart's page say of its plan and profile is what these say."""
    from tutelage.pipeline import show_plan

    monkeypatch.chdir(place)
    plan = show_plan("quickstart").description
    step = plan["exposure"][9]["first_step"]
    loaded = load_plan(Path(plan["picture"]).parent)
    share = 1 - loaded.student_share[step - 1]
    said = (
        f"The hardest tenth of the examples first comes at step {step} of {plan['total_steps']},"
        f" when the learning rate is at {100 * loaded.lr_factor[step - 1]:.0f} % of its peak and"
        f" the teacher's share of the target at {100 * share:.0f} %."
    )
    assert said in " ".join(README.split())
    assert f"All arms make {plan['total_steps']} updates" in " ".join(README.split())
    profile = read_json(Path(plan["picture"]).parents[3] / "difficulty" / "summary.json")
    quantiles = ", ".join(f"{value:.2f}" for value in profile["quantiles"].values())
    groups = ", ".join(f"{group['mean']:.2f}" for _, group in sorted(profile["groups"].items()))
    page = " ".join((ROOT / "docs/results/quickstart.md").read_text().split())
    assert f"quantiles {quantiles} at" in page and f"by number of steps {groups}." in page


@pytest.mark.parametrize("recipe", blocks("yaml"))
def test_readme_recipe_is_valid(tmp_path, recipe):
    from tutelage.recipe import load_recipe

    path = tmp_path / "mine.yaml"
    path.write_text(recipe)
    assert list(load_recipe(path).arms) in (["cpd", "sft", "kld"], ["clpd"])


def test_readme_python_runs(capsys):
    exec(blocks("python")[0], {})
    output = capsys.readouterr().out
    assert "forward_kl" in output and output.startswith("1 ")


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^\$? ?make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert link.startswith("http") or (document.parent / link).exists(), (document, link)


def test_the_recipe_reference_is_that_of_the_schema():
    from tutelage.recipe.reference import reference

    assert (ROOT / "docs" / "recipes.md").read_text() == reference()


def test_the_example_of_other_trainers_runs(capsys):
    pytest.importorskip("trl")
    example = runpy.run_path(str(ROOT / "examples" / "other_trainers.py"))
    stages = example["main"](total_steps=4)
    assert stages == sorted(stages) and set(stages) == {1, 2, 3}


def test_the_example_runs(capsys):
    example = runpy.run_path(str(ROOT / "examples" / "trainer.py"))
    assert example["main"](max_steps=4) < 10

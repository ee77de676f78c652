"""What README and docs say is what the program does; tests/documents runs their blocks."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from tutelage.curriculum import load_plan
from tutelage.difficulty import load_profile
from tutelage.files import read_json
from tutelage.recipe import list_recipes

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


def test_numbers_that_a_plan_gives(place, monkeypatch):
    """What README and the quickstart's page say of its plan and profile is what these say."""
    from tutelage.pipeline import show_plan

    monkeypatch.chdir(place)
    plan = show_plan("embedded_cpd").description
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
    difficulty = Path(plan["picture"]).parents[3] / "difficulty"
    profile = read_json(difficulty / "summary.json")
    quantiles = ", ".join(f"{value:.2f}" for value in profile["quantiles"].values())
    groups = ", ".join(f"{group['mean']:.2f}" for _, group in sorted(profile["groups"].items()))
    measured = load_profile(difficulty / "profile.parquet")
    shown = load_profile(ROOT / "docs" / "gallery" / "difficulty.csv")
    scores = dict(zip(shown.ids, shown.scores, strict=True))
    assert set(scores) == set(measured.ids)
    assert [scores[name] for name in measured.ids] == pytest.approx(measured.scores, abs=1e-3)
    page = " ".join((ROOT / "docs/results/quickstart.md").read_text().split())
    assert f"quantiles {quantiles} at" in page and f"by number of steps {groups}." in page


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert link.startswith("http") or (document.parent / link).exists(), (document, link)


PAGES_OF_STUDIES = sorted((ROOT / "docs" / "results" / "studies").glob("*.md"))


@pytest.mark.parametrize("page", PAGES_OF_STUDIES, ids=lambda path: path.stem)
def test_every_number_of_a_study_leads_to_its_recipe_and_its_seeds(page):
    behind = page.read_text().rpartition("Behind the numbers: ")[2]
    study = re.search(r"\[(\w+\.yaml)\]\(\.\./\.\./\.\./studies/(\w+\.yaml)\)", behind)
    assert study and study[1] == study[2] and (ROOT / "studies" / study[1]).is_file()
    numbers = page.with_suffix(".json")
    assert numbers.is_file() == (f"({numbers.name})" in behind)
    if numbers.is_file():
        seeds = re.search(r"seeds ([\d, ]+)\.", behind)[1].split(", ")
        found = [cell["seeds"] for cell in read_json(numbers)["cells"]]
        assert all(one == seeds for one in found if one)
        assert all(found) or "runs are missing" in page.read_text()


def test_numbers_of_recipes_are_those_that_there_are():
    names = [recipe.name for recipe in list_recipes() if recipe.name.startswith("cpd_")]
    ablations = set(names) - {"cpd_paper", "cpd_ladder", "cpd_on_policy"}
    assert f"; {len(ablations)} ablations |" in README


def test_the_recipe_reference_is_that_of_the_schema():
    from tutelage.recipe.reference import reference

    assert (ROOT / "docs" / "recipes.md").read_text() == reference()


DOCS = sorted((ROOT / "docs").glob("*.md"))
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_run_of_the_projects_studies_has_a_recipe(path):
    from tutelage.studies.load import load_study

    assert load_study(path).study.claim


def test_every_word_that_a_user_needs_stands_in_a_page():
    """What can be asked for and is in no list that the program prints."""
    pages = README + "".join(page.read_text() for page in DOCS)
    project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
    names = set(re.findall(r"^(\w+) = \[", project.split("\n\n")[0], re.M)) - {
        "test",
        "dev",
        "docs",
    }
    words = {*(f"[{name}]" for name in names), "smollm2:instruct", "embedded:arithmetic-student"}
    from tutelage.verifiers import VERIFIERS

    words |= {f"`{name}`" for name in VERIFIERS} | {"`after:"}
    assert {word for word in words if word not in pages} == set()
    index = (ROOT / "docs" / "README.md").read_text()
    assert {page.name for page in DOCS if f"({page.name})" not in index} == {"README.md"}


def test_the_example_of_other_trainers_runs(capsys):
    pytest.importorskip("trl")
    example = runpy.run_path(str(ROOT / "examples" / "other_trainers.py"))
    stages = example["main"](total_steps=4)
    assert stages == sorted(stages) and set(stages) == {1, 2, 3}


def test_the_example_runs(capsys):
    example = runpy.run_path(str(ROOT / "examples" / "trainer.py"))
    assert example["main"](max_steps=4) < 10


def test_the_reference_of_commands_is_that_of_the_program():
    from tutelage.cli.reference import reference

    assert (ROOT / "docs" / "commands.md").read_text() == reference(), (
        "run: python -m tutelage.cli.reference > docs/commands.md"
    )


def pages_of(nav):
    """Every page that the navigation of the site names."""
    for item in nav:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        yield from pages_of(value) if isinstance(value, list) else [value]


def test_the_navigation_of_the_site_names_every_page_once():
    named = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    root = {"PAPERS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    made = {"README.md": {"contents.md"}}  # docs/README.md under a name that is free
    expected = docs - set(made) | set().union(*made.values()) | root | {"index.md", "benchmarks.md"}
    assert sorted(named) == sorted(expected), "name each page of docs/ in mkdocs.yml, once"


def test_the_gallery_shows_what_plans_say():
    """Its page from its scores, and every curriculum that there is with a picture."""
    from tutelage.curriculum import CURRICULA

    gallery = runpy.run_path(str(ROOT / "benchmarks" / "gallery.py"))
    page = (ROOT / "docs" / "gallery.md").read_text()
    assert page == gallery["page"](), "run: python benchmarks/gallery.py"
    assert re.findall(r"^## (\w+)$", page, re.M) == list(gallery["SETTINGS"])
    pictures = {path.stem for path in (ROOT / "docs" / "gallery").glob("*.svg")}
    assert pictures == set(CURRICULA)

"""What README and docs say is what the program does: commands and code run as written."""

import re
import runpy
import shlex
import textwrap
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

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


@pytest.mark.parametrize("recipe", blocks("yaml"))
def test_readme_recipe_is_valid(tmp_path, recipe):
    from tutelage.recipe import load_recipe

    path = tmp_path / "mine.yaml"
    path.write_text(recipe)
    assert list(load_recipe(path).arms) in (["kld_states", "sft", "cpd"], ["clpd"])


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


def test_numbers_of_recipes_are_those_that_there_are():
    names = [recipe.name for recipe in list_recipes() if recipe.name.startswith("cpd_")]
    ablations = set(names) - {"cpd_paper", "cpd_ladder", "cpd_on_policy"}
    assert f"; {len(ablations)} ablations |" in README


def test_the_recipe_reference_is_that_of_the_schema():
    from tutelage.recipe.reference import reference

    assert (ROOT / "docs" / "recipes.md").read_text() == reference()


DOCS = sorted((ROOT / "docs").glob("*.md"))
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def plugin_context(folder):
    """What docs/plugin.md takes for granted: a model, rows, and a file of scores."""
    import datasets

    from tutelage.data.arithmetic import arithmetic_examples
    from tutelage.models import load_model, load_tokenizer

    examples = arithmetic_examples("train", 64)
    rows = [
        {"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion} for e in examples
    ]
    scores = "".join(f"{e.id},{len(e.completion)}\n" for e in examples)
    (folder / "difficulty.csv").write_text("id,score\n" + scores)
    name = "embedded:arithmetic-student"
    return {
        "rows": datasets.Dataset.from_list(rows),
        "model": load_model(name),
        "tokenizer": load_tokenizer(name),
    }


def store_context(folder):
    """What docs/store.md takes for granted: two models and tokenized rows."""
    from conftest_models import VOCAB, random_rows, tiny_model
    from tutelage import DistillConfig

    return {
        "teacher": tiny_model(seed=2, hidden=24).eval(),
        "student": tiny_model(seed=1),
        "rows": random_rows(),
        "vocab_size": VOCAB,
        "config": DistillConfig(str(folder / "out"), max_steps=2, use_cpu=True, report_to=[]),
        "plan": None,
    }


def evaluation_context(folder):
    """A model of the embedded task, a file of questions, and two arms that were asked them."""
    from tutelage.evaluation import evaluate, save_evaluation
    from tutelage.models import load_model, load_tokenizer

    name, questions = "embedded:arithmetic-student", folder / "questions.jsonl"
    questions.write_text('{"prompt": "57+36=", "completion": "39#39"}\n')
    names = {"model": load_model(name), "tokenizer": load_tokenizer(name)}
    found = evaluate(**names, suite="file", data=questions)
    for arm in ("cpd", "kld"):
        save_evaluation(folder / "runs/mine/arms" / arm / "evaluation", found)
    return names


CONTEXTS = {
    "doctor.md": lambda folder: {},
    "evaluation.md": evaluation_context,
    "plugin.md": plugin_context,
    "store.md": store_context,
}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_python_of_the_docs_runs_on_a_cpu(page, tmp_path, monkeypatch):
    snippets = [
        textwrap.dedent(block)
        for block in re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(), re.M | re.S)
    ]
    if not snippets:
        return
    if any("trl" in snippet for snippet in snippets):
        pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    names = CONTEXTS[page.name](tmp_path)
    for number, snippet in enumerate(snippets):
        if "trainer" in names and number:  # a snippet of its own, for a trainer that has these
            names["trainer"].temperature, names["trainer"].args.beta = 1.0, 0.5
        exec(compile(snippet, f"{page.name}, snippet {number + 1}", "exec"), names)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_yaml_of_the_docs_is_valid(page, tmp_path):
    from tutelage.recipe import load_recipe
    from tutelage.studies.load import load_study

    first = ""
    for block in blocks("yaml", page.read_text()):
        path = tmp_path / "mine.yaml"
        if page.name == "studies.md":  # a study, and more keys of it
            first = first or block
            keys = tuple(re.findall(r"^\w+:", block, re.M))
            kept = [line for line in first.splitlines(True) if not line.startswith(keys)]
            path.write_text(first if block == first else "".join(kept) + block)
            assert load_study(path).cells
            continue
        path.write_text("extends: cpd\n" + block)
        assert load_recipe(path, partial=True)


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

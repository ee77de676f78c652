"""The commands of README and docs: run on tiny models and data, or at least parsed.

Every ``tutelage`` command of a page is parsed by the program, and its recipe or study is loaded. It
is then run too, in a folder in which all the names of the pages stand for something tiny, unless
``READ_ONLY`` says why not; a recipe that was planned or run before is validated with what another
``--set`` changes. A block of YAML that begins with ``# NAME.yaml`` is that file for what
follows it on its page.
"""

import itertools
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer.main
from document_blocks import PAGES, ROOT, blocks_of
from document_contexts import MINE, stand_ins
from typer.testing import CliRunner

from tutelage.cli import app
from tutelage.evaluation import SUITES
from tutelage.recipe import list_recipes, load_recipe
from tutelage.studies.load import load_study

# Of `tutelage` commands that are parsed, and whose recipe is loaded, and no more: what would take
# too long here or is not here. The first that fits says why.
READ_ONLY = {
    r"^(chat|export|push|watch|report) ": "need a finished run; tests/after and tests/e2e have one",
    r"^import ": "needs a file of another tool; tests/after imports them",
    r"^doctor ": "finds faults in stand-ins, which is its work; tests/doctor runs it",
    r"^init ": "replaces no recipe that is there; tests/proposal runs it",
    r" -m tutelage ": "several processes: tests/e2e runs them",
    r"--server ": "needs a server; tests/generation and tests/evaluation bring one",
    r"^eval .*lm-eval": "needs lm-evaluation-harness and its data",
    r"^eval .*--execute-code": "runs programs in a sandbox; tests/evaluation does",
    r"^(run|plan|eval) .*smollm2": "needs the weights of SmolLM2",
    r"^study ": "takes minutes; tests/studies and tests/e2e carry studies out, and forecast them",
    r"^tune ": "takes minutes; tests/studies tunes",
    r"s3://": "a bucket, and a package for it",
    r"/data/|/mnt/": "folders of other machines",
    r"^eval runs/": "a run folder of a long run; tests/e2e evaluates one",
    r"^plan mine.yaml --arm opd4": "an arm of a longer recipe",
}

# Runs that are carried out, where README has them; all others, and plans, are validated.
CARRIED_OUT = {("run", "quickstart"), ("run", "mine.yaml")}

# Laid over recipes that are run: the same work on a few examples.
SMALL = ["curriculum.total_steps=20", "training.batch_size=4", "evaluation.max_new_tokens=4"]
SMALL += ["evaluation.agreement=false"]
EMBEDDED = ["data.train=32", "data.validation=0", "data.test=4", "evaluation.suites=[test]"]

OTHERS = {
    ".",
    "tensorboard",
    "trackio",
    "cd",
    "export",
    "git",
    "python3",
    "ls",
    "apt",
    "df",
    "nvidia-smi",
}
COMMANDS = [
    pytest.param(block, words, id=f"{block.place} {' '.join(words)[:60]}")
    for page in PAGES
    for block in blocks_of(page, "bash", "console")
    for words in block.commands()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the commands run: what one of them made, the next ones find."""
    folder = tmp_path_factory.mktemp("documents")
    stand_ins(folder)
    return folder


@pytest.fixture
def here(place, monkeypatch, request):
    """The folder, with the files that the page has shown before the command."""
    monkeypatch.chdir(place)
    block = request.getfixturevalue("block")
    (place / "mine.yaml").write_text(MINE)
    for shown in blocks_of(block.page, "yaml"):
        if shown.name and shown.line < block.line:
            (place / shown.name).write_text(shown.text)
    return place


@pytest.mark.parametrize(("block", "words"), COMMANDS)
def test_a_command_of_the_pages_works(block, words, here):
    if block.why is not None:
        pytest.skip(f"{block.place}: {block.why}")
    words = [word for word in words if not re.match(r"^[A-Z_]+=", word)]
    words = list(itertools.takewhile(lambda word: word not in ("<", ">", "|", "&&"), words))
    arguments = words_of_tutelage(words)
    if arguments is None:
        assert_others_work(words)
        return
    name, parameters = parsed(arguments)
    load_what_is_named(name, parameters, here)
    if why_read_only(words) is None:
        asked = made_small(name, arguments, parameters)
        first = (name, parameters.get("recipe")) in CARRIED_OUT and block.page == PAGES[0]
        if name in ("run", "plan") and not first:
            asked = ["validate", *asked[1:]]
            asked = [word for word in asked if word not in ("-q", "--quiet", "--replace")]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        assert result.output.strip()


def words_of_tutelage(words):
    """The arguments of `tutelage` in a command line; None where it is of somebody else."""
    if words[0] == "tutelage":
        return words[1:]
    text = shlex.join(words)
    if " -m tutelage " in text:
        return words[words.index("tutelage") + 1 :]
    return None


def why_read_only(words):
    text = re.sub(r"^tutelage ", "", shlex.join(words).replace("'", ""))
    return next((why for pattern, why in READ_ONLY.items() if re.search(pattern, text)), None)


def parsed(arguments):
    """What the program reads: unknown commands, options and values of a wrong type are errors."""
    group = typer.main.get_command(app)
    if arguments[0].startswith("-"):
        return "", {}
    command = group.commands.get(arguments[0])
    assert command is not None, f"there is no command '{arguments[0]}'"
    context = command.make_context(arguments[0], list(arguments[1:]))
    return arguments[0], context.params


def load_what_is_named(name, parameters, here):
    """The recipe or the study of a command is one, with all that `--set` changes in it."""
    changes = parameters.get("set_") or ()
    if name == "study":
        path = here / parameters["study"]
        assert path.exists()
        if not path.is_relative_to(
            here / "studies"
        ):  # those of the project have a test of their own
            load_study(path, changes)
    elif "recipe" in parameters:
        load_recipe(parameters["recipe"], changes, partial=True)


def made_small(name, arguments, parameters):
    """The same command with few examples and steps."""
    if name in ("run", "plan", "profile", "cache", "validate"):
        changes = list(SMALL)
        if parameters["recipe"] in {recipe.name for recipe in list_recipes()}:
            changes += EMBEDDED
        return [*arguments, *(f"--set={change}" for change in changes)]
    if name == "eval":
        known = {suite: SUITES[suite].options for suite in parameters["suite"].split(",")}
        short = [suite for suite, options in known.items() if "max_new_tokens" in options]
        return [*arguments, "--limit=1", *(f"--set={suite}.max_new_tokens=4" for suite in short)]
    return arguments


def assert_others_work(words):
    """Commands of others name files, targets and extras that there are."""
    head, *rest = words
    if head == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif head == "pip":
        project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1]
        known = set(re.findall(r"^([\w-]+) = \[", project.split("\n[")[0], re.MULTILINE))
        named = re.findall(r"\[([\w,-]+)\]", " ".join(rest))
        extras = {extra for one in named for extra in one.split(",")}
        assert extras <= known, extras - known
    elif head == "python" and rest[0] not in ("-m", "-c"):
        assert (ROOT / rest[0]).exists(), rest[0]
    else:
        assert head in OTHERS | {"python", "torchrun"}, f"who runs '{head}'?"


def test_why_some_blocks_are_not_run(capsys):
    """Each has a reason, in the page; those that are only read have theirs here."""
    marked = [block for page in PAGES for block in blocks_of(page) if block.why is not None]
    with capsys.disabled():
        for block in marked:
            print(f"\nnot run: {block.place}: {block.why}", end="")
    assert all(len(block.why) > 10 for block in marked)
    lines = [re.sub(r"^tutelage ", "", " ".join(p.values[1])) for p in COMMANDS]
    unused = {p for p in READ_ONLY if not any(re.search(p, line) for line in lines)}
    assert not unused, f"no command is read only for {unused}"


def test_every_block_has_a_language():
    known = {"bash", "console", "python", "yaml", "json", "text"}
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language in known, block.place
            without = block.language in ("console", "bash") and not block.commands()
            assert not without, f"{block.place}: no command; in console blocks they follow a `$ `"
        indented = re.findall(r"^ {4}(?:tutelage|python|pip|torchrun) .*", page.read_text(), re.M)
        assert not indented, f"{page.name}: a block without a fence: {indented[0].strip()}"


@pytest.fixture(scope="module", autouse=True)
def nothing_stays(place):
    yield
    shutil.rmtree(place, ignore_errors=True)
    assert not Path(place).exists()

"""Imports point down only, files stay small, and nothing heavy is imported for `--help`."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tutelage

ROOT = Path(tutelage.__file__).parent

LAYERS = [
    {
        "errors", "types", "components", "files", "proofs", "hashes", "interrupts", "lazy",
        "numerics", "ids", "placeholders", "printing", "settings", "statistics", "growing",
        "locks", "devices", "overdue", "addresses",
    },
    {"verifiers", "divergences", "targets", "schedules"},
    {"teachers", "generation", "data", "models"},
    {"difficulty", "curriculum"},
    {"report", "evaluation", "training", "families"},
    {"recipe"},
    {"checks"},
    {"pipeline"},
    {"doctor", "proposal"},
    {"studies", "watch", "exporting", "chatting", "importing"},
    {"cli", "catalogue", "embedded", "__main__"},
]  # fmt: skip
PURE = {
    "divergences", "targets", "schedules", "verifiers", "curriculum", "types", "errors", "ids",
    "statistics",
}  # fmt: skip
MAY_IMPORT_TRANSFORMERS = {
    "difficulty", "teachers", "generation", "data", "models", "training", "evaluation",
    "pipeline", "embedded", "doctor",
}  # fmt: skip


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def layer(name):
    return next(i for i, rooms in enumerate(LAYERS) if name in rooms)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "tutelage" and len(parts) > 1 and parts[1] != here:
            assert layer(parts[1]) <= layer(here), f"{path} imports {module}"
            if parts[1] == "recipe":
                assert here in {
                    "checks", "pipeline", "doctor", "proposal", "studies", "cli", "catalogue",
                }  # fmt: skip
        if parts[0] == "transformers":
            assert here in MAY_IMPORT_TRANSFORMERS, f"{path} imports {module}"
        if here in PURE:
            assert parts[0] not in {"transformers", "datasets", "accelerate", "pydantic"}


PIPELINE = [
    {"context"},
    {"stages"},
    {"run", "runs", "show", "cache", "evals", "judging", "trial", "__init__"},
]


def pipeline_layer(module):
    return next(i for i, rooms in enumerate(PIPELINE) if module.split(".")[2] in rooms)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room(path) == "pipeline"],
    ids=lambda p: str(p.relative_to(ROOT / "pipeline")),
)
def test_stages_stand_on_the_context_and_commands_on_the_stages(path):
    here = ".".join(("tutelage", *path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        if module.startswith("tutelage.pipeline."):
            assert pipeline_layer(module) <= pipeline_layer(here), f"{path} imports {module}"


def test_no_stage_needs_itself():
    """Imports inside the pipeline have no circle, whether at the top or within functions."""
    needs = {}
    for path in FILES:
        if room(path) == "pipeline":
            here = ".".join(("tutelage", *path.relative_to(ROOT).with_suffix("").parts))
            found = {module for module in imports(path) if module.startswith("tutelage.pipeline.")}
            needs[here.removesuffix(".__init__")] = found
    assert list(TopologicalSorter(needs).static_order())


def function_lengths(text):
    """Lines of every function, method and nested function, without signature and docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node) is not None
            body = node.body[1:] if documented else node.body
            yield node.name, (node.end_lineno - body[0].lineno + 1) if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines"
    for name, length in function_lengths(text):
        assert length <= 60, f"{path}: {name} has {length} lines"


def test_methods_and_nested_functions_are_counted():
    text = """
class Some:
    def method(self):
        '''Documented.'''
        def nested():
            async def inside():
                return [
                    1,
                ]
            return inside
        return nested
"""
    assert dict(function_lengths(text)) == {"method": 7, "nested": 5, "inside": 3}


def test_the_trainer_and_tokenizing_stay_smaller():
    """Subjects of their own have files of their own."""
    for name in ("training/trainer.py", "data/tokenize.py"):
        assert (ROOT / name).read_text().count("\n") < 300, name


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['tutelage', '--help']\n"
        "from tutelage.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pydantic', 'matplotlib', 'numpy'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "plan" in result.stdout and "validate" in result.stdout


@pytest.mark.parametrize(
    "words", [["validate", "quickstart"], ["show", "quickstart"], ["ls"]], ids=" ".join
)
def test_what_needs_no_model_loads_no_transformers(words):
    code = (
        f"import sys; sys.argv = ['tutelage', *{words!r}]\n"
        "from tutelage.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'transformers', 'datasets', 'accelerate', 'pandas', 'scipy', 'matplotlib'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_nothing_is_unpickled():
    for path in FILES:
        for module in imports(path):
            assert module.split(".")[0] not in {"pickle", "dill", "joblib"}, path
        assert "torch.load" not in path.read_text(), path

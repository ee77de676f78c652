"""A hundred kills and more of every command that writes, and never another result.

``TUTELAGE_KILLS`` says how many for each command (20 by default), ``TUTELAGE_KILL_SEED`` at which
moments. docs/results/faults.md has what came of them.
"""

import json
import os
import shutil
import time

import pytest
import yaml
from kill_count import count_kills, ended, fork
from killing import make_models
from test_e2e_kill_points import assert_same, small
from test_e2e_study_workers import study, table

from tutelage.data.arithmetic import arithmetic_examples
from tutelage.pipeline import run
from tutelage.pipeline.cache import cache
from tutelage.pipeline.evals import evaluate_models
from tutelage.studies.worker import work
from tutelage.teachers import TeacherStore

KILLS = int(os.environ.get("TUTELAGE_KILLS", "20"))
SEED = int(os.environ.get("TUTELAGE_KILL_SEED", "0"))


class Run:
    """``tutelage run``: a teacher fine-tuned and stored, plans made anew, the best student."""

    def __init__(self, place, home):
        self.place, self.home = place, home

    def __call__(self, folder):
        recipe = {**small(self.home, "runs"), "output": str(folder)}
        run(recipe, run_dir=folder / "run", quiet=True)

    def check(self, whole, folder):
        assert_same(self.place, whole.name, folder.name)


class Store(Run):
    """``tutelage cache``: a fine-tuned teacher's hidden states, in shards of a few examples."""

    def __call__(self, folder):
        recipe = {**small(self.home, "runs"), "output": str(folder)}
        path = self.home / f"{folder.name}-{os.getpid()}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        cache(str(path), run_dir=folder / "run", quiet=True)
        path.unlink()

    def check(self, whole, folder):
        (one,), (two,) = ([*(f / "cache").glob("store-*")] for f in (whole, folder))
        first, second = TeacherStore(one), TeacherStore(two)
        assert first.location.keys.tolist() == second.location.keys.tolist()
        assert first.examples
        for position in range(first.examples):
            a, b = (store.read([position])["hidden"] for store in (first, second))
            assert a.equal(b)
        assert one.name == two.name and first.head().weight.equal(second.head().weight)


class Eval(Run):
    """``tutelage eval``: two models, two sampling seeds, a few questions at once."""

    def __call__(self, folder):
        file = self.home / "sums.jsonl"
        settings = ["sampling_temperature=1", "seeds=[1, 2]", "max_new_tokens=6", "batch_tokens=8",
                    "metrics={exact_match: {after: '#'}}"]  # fmt: skip
        models = [str(self.home / name) for name in ("calm", "teacher")]
        evaluate_models(
            models,
            [{"kind": "file", "data": str(file)}],
            [f"evaluation.{setting}" for setting in settings],
            out=folder / "out",
            quiet=True,
        )

    def check(self, whole, folder):
        for model in ("calm", "teacher"):
            for name in ("answers.jsonl", "scores.json"):
                place = f"out/{model}/file/{name}"
                assert (whole / place).read_bytes() == (folder / place).read_bytes()
        assert not any((folder / "out/.unfinished").iterdir())
        if [*folder.rglob(".tmp-*")]:  # what is only seconds old might be somebody's at work
            time.sleep(3)
            assert ended(fork(lambda: self(folder), 1))
            assert not [*folder.rglob(".tmp-*")]


class Study(Run):
    """A worker of ``tutelage study``: two arms, a search in two rungs, a seed."""

    def _loaded(self, folder):
        return study(self.home, folder)

    def __call__(self, folder):
        work(self._loaded(folder), tell=lambda event: None)

    def check(self, whole, folder):
        assert table(self._loaded(folder)) == table(self._loaded(whole))
        assert not [*(self._loaded(folder).folder / ".claims").iterdir()]


def make_home(folder):
    """Models, questions and a base recipe."""
    make_models(folder)
    rows = [
        {"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion}
        for e in arithmetic_examples("test", 40, levels=(1, 2))
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = small(folder, "runs")
    del recipe["selection"]
    recipe["data"]["validation"] = 4
    recipe["training"]["checkpoint_every"] = 1
    (folder / "base.yaml").write_text(yaml.safe_dump(recipe))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    make_home(folder)
    return folder


CASES = {
    "run": (Run, 1, False),
    "run in two processes": (Run, 2, True),
    "cache": (Store, 1, False),
    "cache in two processes": (Store, 2, True),
    "eval": (Eval, 1, False),
    "study": (Study, 1, False),
    "study with two workers": (Study, 2, False),
}
"""The command, how many processes, and whether they are one run of torch.distributed (gloo)."""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_kills_at_random_moments(home, case, capsys):
    kind, processes, together = CASES[case]
    command, name = kind(home, home), case.replace(" ", "_")
    whole = home / f"{name}_whole"
    began = time.monotonic()
    assert ended(fork(lambda: command(whole), processes, together))
    life = time.monotonic() - began

    def place(number):
        shutil.rmtree(home / f"{name}_{number - 1}", ignore_errors=True)
        return home / f"{name}_{number}"

    counted = count_kills(
        command, lambda folder: command.check(whole, folder), place,
        wanted=KILLS, processes=processes, together=together, seed=SEED, life=life,
    )  # fmt: skip
    with capsys.disabled():
        print(
            f"\n{case}: {counted.total} kills, {counted.through} times through with the same"
            f" results ({life:.1f} s undisturbed); the newest file was"
        )
        for file, times in counted.kills.most_common():
            print(f"  {times:4d}  {file}")

"""What is released: one version everywhere, archives that hold what they should, a wheel that runs.

The wheel is made from the source archive, and both from this tree, with the installed setuptools.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import tutelage

build = pytest.importorskip("build")
ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_everywhere():
    version = tutelage.__version__
    assert re.search(rf'^version = "{version}"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version in headings[:2] and headings[0] in ("Unreleased", version)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive and the wheel that is made from it, out of a copy of this tree."""
    tree, out = tmp_path_factory.mktemp("tree") / "tutelage", tmp_path_factory.mktemp("dist")
    left = shutil.ignore_patterns(".venv", ".git", "build", "runs", ".*_cache", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=left)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def shipped():
    """Every file of the package's folder but what Python writes into it."""
    files = (p for p in (ROOT / "src" / "tutelage").rglob("*") if p.is_file())
    return {
        p.relative_to(ROOT / "src").as_posix()
        for p in files
        if "__pycache__" not in p.parts and not p.name.startswith(".")
    }


def test_the_wheel_holds_the_package_and_nothing_else(archives):
    names = {n for n in zipfile.ZipFile(archives[1]).namelist() if ".dist-info/" not in n}
    assert names == shipped()


def test_the_source_archive_holds_what_its_tests_and_pages_need(archives):
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("tests", "docs", "studies", "examples", "benchmarks", ".ci"):
        here = {
            p.relative_to(ROOT).as_posix()
            for p in (ROOT / folder).rglob("*")
            if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")
        }
        assert here and here <= names, folder
    at_top = {"Makefile", "constraints.txt", "README.md", "CITATION.cff", "LICENSE", "PAPERS.md"}
    assert at_top <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("runs")]


def test_the_wheel_runs_away_from_this_tree(archives, tmp_path):
    """Installed from its file: the embedded task's plan, whose models and recipe it carries."""
    place = tmp_path / "site"
    with zipfile.ZipFile(archives[1]) as wheel:
        wheel.extractall(place)  # what pip does with a wheel of pure Python, but for its scripts
    environment = {**os.environ, "PYTHONPATH": str(place), "HF_HUB_OFFLINE": "1"}
    where = "import tutelage, sys; sys.stdout.write(tutelage.__file__)"
    command = [sys.executable, "-P", "-c", where] if sys.version_info >= (3, 11) else None
    if command:
        found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
        assert found.stdout.decode().startswith(str(place))
    made = subprocess.run(
        [sys.executable, "-m", "tutelage", "plan", "quickstart", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert '"total_steps": 220' in made.stdout

"""Locked packages: all that the project needs, in the versions of the tests, each with hashes."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # of Python 3.11
ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-test.lock")


def locked(name):
    """By package: its versions and how many hashes each has."""
    found, text = {}, (ROOT / name).read_text()
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        pinned = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry)
        assert pinned, entry[:80]
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        found.setdefault(canonicalize_name(pinned[1]), {})[pinned[2]] = len(hashes)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes(name):
    found = locked(name)
    assert len(found) > 50
    assert all(count for versions in found.values() for count in versions.values())
    assert not re.search(r"https?://|file:|^-|^\s+-e", (ROOT / name).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_versions_are_those_of_the_constraints(name):
    found = locked(name)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    held = [pin for pin in pins if canonicalize_name(pin.name) in found]
    assert len(held) >= 10
    for pin in held:
        assert [*found[canonicalize_name(pin.name)]] == [str(pin.specifier).removeprefix("==")]


def test_all_that_the_project_needs_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["test"]
    both = project["dependencies"], project["dependencies"] + extra
    for name, needs in zip(LOCKS, both, strict=True):
        found = locked(name)
        for need in map(Requirement, needs):
            versions = found[canonicalize_name(need.name)]
            assert all(need.specifier.contains(version) for version in versions), need

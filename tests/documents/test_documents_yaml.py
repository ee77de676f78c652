"""The YAML of README and docs: whole recipes, pieces of them, studies and pieces of these."""

import re

import pytest
from document_blocks import PAGES, blocks_of

from tutelage.recipe import load_recipe
from tutelage.studies.load import load_study

WITH_YAML = [
    pytest.param(block, id=block.place)
    for page in PAGES
    for block in blocks_of(page, "yaml")
    if block.why is None
]


@pytest.mark.parametrize("block", WITH_YAML)
def test_a_block_of_yaml_is_valid(block, tmp_path):
    path = tmp_path / "mine.yaml"
    whole = next((b.text for b in blocks_of(block.page, "yaml") if is_study(b.text)), "")
    if is_study(block.text):
        path.write_text(block.text)
        assert load_study(path).cells
    elif block.page.name == "studies.md":  # more keys of the page's study
        keys = tuple(re.findall(r"^\w+:", block.text, re.M))
        kept = [line for line in whole.splitlines(True) if not line.startswith(keys)]
        path.write_text("".join(kept) + block.text)
        assert load_study(path).cells
    else:
        begun = "" if "extends:" in block.text else "extends: cpd\n"
        path.write_text(begun + block.text)
        loaded = load_recipe(path, partial=True)
        if block.page.name == "README.md":
            assert list(loaded.arms) in (["kld_states", "sft", "cpd"], ["clpd"])


def is_study(text):
    return {"base", "arms"} <= set(re.findall(r"^(\w+):", text, re.M))

"""The Python of README and docs runs on a CPU, page by page, in a folder of its own."""

import pytest
from document_blocks import PAGES, blocks_of
from document_contexts import NAMES

from tutelage.families import FAMILIES

WITH_PYTHON = [page for page in PAGES if blocks_of(page, "python")]


@pytest.fixture(autouse=True)
def tables_as_they_were():
    """What a page adds to the tables is gone after it."""
    tables = [family.table for family in FAMILIES.values()]
    kept = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, kept, strict=True):
        table.clear()
        table.update(rows)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs_in_order(page, tmp_path, monkeypatch, capsys):
    blocks = [block for block in blocks_of(page, "python") if block.why is None]
    for package in ("trl",):
        if any(f"import {package}" in b.text or f"from {package}" in b.text for b in blocks):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names = NAMES.get(page.name, lambda _: {})(tmp_path)
    for number, block in enumerate(blocks):
        if "trainer" in names and number:  # a block of its own, for a trainer that has these
            names["trainer"].temperature, names["trainer"].args.beta = 1.0, 0.5
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
    if page.name == "README.md":
        output = capsys.readouterr().out
        assert "forward_kl" in output and output.startswith("1 ")

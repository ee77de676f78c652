"""The notebook of the examples runs from top to bottom, and its saved outputs are of its cells."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
NOTEBOOK = Path(__file__).parent.parent / "examples" / "first_hour.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    # As it is but for its length: all four arms still train and are judged.
    short = ["curriculum.total_steps=10", "data.train=200", "data.test=20"]
    short += ["evaluation.suites=[test]", "evaluation.agreement=false"]
    first = notebook.cells[1]
    assert first.source.count("SETTINGS = []") == 1
    first.source = first.source.replace("SETTINGS = []", f"SETTINGS = {short}")
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output["output_type"] == "error"]
    pictures = [o for o in shown if "image/png" in o.get("data", {})]
    tables = [o["data"]["text/markdown"] for o in shown if "text/markdown" in o.get("data", {})]
    assert len(pictures) == 3 and tables[0].count("\n") == 11  # a tenth a line, under its heading


def test_the_notebook_was_saved_with_its_outputs():
    cells = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < 400_000

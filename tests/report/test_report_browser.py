"""The pages of runs, evaluations and studies in a browser: whole, narrow or wide, light or dark."""

import shutil

import numpy as np
import pytest
from test_report_evaluations import write_result

from browsing import browser
from tutelage.report import write_evaluation_page, write_report
from tutelage.report.runs_page import compare_runs, write_runs_page
from tutelage.watch import Watch


@pytest.fixture(scope="module")
def looking():
    """A browser."""
    with browser() as shown:
        yield shown


def test_the_report_of_a_run_can_be_used_by_all(looking, run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    assert looking.faults(write_report(folder)) == []


def test_the_page_of_evaluations_can_be_used_by_all(looking, tmp_path):
    random = np.random.default_rng(0)
    for model, rate in (("small", 0.4), ("teacher", 0.8)):
        scores = (random.random(40) < rate).astype(float)
        write_result(tmp_path / model / "sums", scores, groups=("easy", "hard"))
    path = write_evaluation_page(tmp_path, tmp_path / "report.html")
    assert looking.faults(path) == []


@pytest.mark.slow
def test_the_page_of_a_run_that_goes_on_can_be_used_by_all(looking, run_folder, tmp_path):
    page = tmp_path / "live.html"
    page.write_text(Watch(run_folder).page())
    assert looking.faults(page) == []


@pytest.mark.slow
def test_the_page_of_several_runs_can_be_used_by_all(looking, run_folder, new_ladder, tmp_path):
    path = write_runs_page(compare_runs([run_folder, new_ladder]), tmp_path / "runs.html")
    assert looking.faults(path) == []

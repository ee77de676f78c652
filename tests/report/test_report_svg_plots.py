import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tutelage.curriculum import load_plan
from tutelage.curriculum.files import SCHEDULED
from tutelage.report import exposure_figure, load_run, loss_figure, plan_figure, profile_figure
from tutelage.report.outcome_plots import GroupScores, results_figure
from tutelage.report.svg import INK, PANEL_WIDTH, SERIES, SERIES_DARK
from tutelage.statistics import Interval


@pytest.fixture(scope="module")
def run(run_folder):
    return load_run(run_folder)


@pytest.fixture(scope="module")
def pictures(run):
    plan = run.main.plan
    scores = GroupScores("cpd", {"all": Interval(71.0, 66.0, 75.0), "level 1": Interval(97.0)})
    found = [
        profile_figure(run.scores, stages=plan["stages"]),
        plan_figure(plan["stages"], run.main.steps),
        exposure_figure(plan["exposure"]),
        loss_figure(
            {a.name: a.metrics for a in run.arms}, {a.name: a.validation for a in run.arms}
        ),
        results_figure([scores, GroupScores("teacher", {"all": Interval(95.0)}, True)], "score"),
    ]
    return found


@pytest.fixture(scope="module")
def svgs(pictures):
    return [svg for picture in pictures for svg in picture.svgs()]


def test_svgs_are_well_formed_and_named_for_screen_readers(svgs):
    for svg in svgs:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 20
        assert root.get("viewBox").startswith(f"0 0 {PANEL_WIDTH:g} ")
        assert root.get("width") is None  # the page decides the size


def test_svgs_take_their_colours_and_font_from_the_page(svgs):
    text = "".join(svgs)
    assert INK not in text
    assert "currentColor" in text
    colours = set(re.findall(r"#[0-9a-fA-F]{6}\b", text))
    assert colours <= set(SERIES)
    assert all(f"var(--series-{SERIES.index(colour) + 1}, {colour})" in text for colour in colours)
    assert text.count("#0072b2") == text.count("var(--series-1, #0072b2)")
    assert "DejaVu" not in text
    assert "system-ui" in text
    assert "<style" not in text and "<metadata" not in text


def test_ids_are_unique_on_one_page_and_every_reference_is_resolved(svgs):
    text = "".join(svgs)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert "http" not in text


def test_the_same_values_give_the_same_bytes(run):
    first, second = (profile_figure(run.scores, stages=run.main.plan["stages"]) for _ in range(2))
    assert first.svgs() == second.svgs()
    assert first.png(dpi=40) == second.png(dpi=40)


def test_png_is_white_and_written_whole(pictures, tmp_path):
    path = pictures[0].save_png(tmp_path / "deep" / "profile.png", dpi=40)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["profile.png"]
    from matplotlib.image import imread

    image = imread(path)
    assert image.shape[1] == pytest.approx(2 * PANEL_WIDTH * 40 / 72, abs=2)
    assert np.allclose(image[0, 0, :3], 1.0)


def test_profile_names_the_cut_points(run):
    stages = run.main.plan["stages"]
    alt = profile_figure(run.scores, stages=stages).panels[0].alt
    assert all(str(stage["num_examples"]) in alt for stage in stages)
    assert f"{run.scores.mean():.3g}" in alt
    assert "Stages end" not in profile_figure(run.scores).panels[0].alt


@pytest.mark.parametrize("scores", [[1.0], [0.0, 0.0], [-3.0, 5.0, 1e6]])
def test_profile_of_few_or_equal_scores(scores):
    stage = {
        "stage": 1,
        "num_examples": len(scores),
        "mean_difficulty": 1,
        "target_difficulty": None,
    }
    assert len(profile_figure(scores, stages=[stage]).svgs()) == 2


def test_of_the_steps_only_what_is_drawn_is_read(run):
    """Positions of examples, which are most of the file, never become Python lists."""
    plan = load_plan(run.folder / "arms/cpd/plan")
    assert set(run.main.steps) == set(SCHEDULED)
    for name, values in run.main.steps.items():
        assert isinstance(values, np.ndarray)
        assert values.tolist() == getattr(plan, name).tolist()


def test_plan_without_steps_draws_the_means_of_stages(run):
    stages = run.main.plan["stages"]
    names = [panel.name for panel in plan_figure(stages).panels]
    assert names == ["examples", "student-share", "distill-temperature", "ce-weight"]
    assert plan_figure(stages, run.main.steps).panels[-1].name == "lr-factor"


def test_exposure_is_per_example(run):
    plan = run.main.plan
    row = plan["exposure"][0]
    assert row["num_examples"] == 12  # 120 examples
    assert f"{row['lr_visits'] / 12:.3g}" in exposure_figure(plan["exposure"]).panels[0].alt


def test_loss_leaves_out_what_no_arm_logged(run):
    sft = {"sft": next(arm for arm in run.arms if arm.name == "sft").metrics}
    picture = loss_figure(sft)
    assert picture is not None
    names = [panel.name for panel in picture.panels]
    assert "ce" in names and "kd" not in names and "token_agreement" not in names
    assert loss_figure({"sft": []}) is None


def test_long_curves_are_thinned():
    rows = [{"step": i, "loss": float(i % 7), "ce": float("nan")} for i in range(20_000)]
    picture = loss_figure({"long": rows})
    assert picture is not None and [panel.name for panel in picture.panels] == ["loss"]
    assert len(picture.svgs()[0]) < 20_000


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_series_reach_3_to_1_on_their_page():
    white, dark = 1.0, _luminance("#14171b")
    assert all((white + 0.05) / (_luminance(c) + 0.05) >= 3 for c in SERIES)
    assert all((_luminance(c) + 0.05) / (dark + 0.05) >= 4.5 for c in SERIES_DARK)
    assert len(SERIES) == len(SERIES_DARK)


def test_an_svg_file_stands_by_itself_on_white(pictures):
    first, second = pictures[0].svg(), pictures[0].svg()
    assert first == second and ElementTree.fromstring(first).tag.endswith("}svg")
    assert "fill: #ffffff" in first and "currentColor" not in first and "<dc:date>" not in first

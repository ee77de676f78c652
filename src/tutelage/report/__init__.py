"""Pictures, tables, HTML pages for a run and for evaluations, and the student's model card.

Everything here reads the files of a run folder or plain values; nothing loads a model.
"""

from tutelage.report.card import CardResult, CardValues, card_values, model_card
from tutelage.report.evaluation_page import render_evaluation_page, write_evaluation_page
from tutelage.report.evaluations import ModelResult, read_results
from tutelage.report.outcome_plots import GroupScores, loss_figure, results_figure
from tutelage.report.page import render_report, summary_of, write_report
from tutelage.report.plots import exposure_figure, plan_figure, profile_figure
from tutelage.report.run import Arm, Run, load_evaluation, load_run
from tutelage.report.svg import Panel, Picture
from tutelage.report.tables import exposure_table, plan_table, results_table

__all__ = [
    "Arm",
    "CardResult",
    "CardValues",
    "GroupScores",
    "ModelResult",
    "Panel",
    "Picture",
    "Run",
    "card_values",
    "exposure_figure",
    "exposure_table",
    "load_evaluation",
    "load_run",
    "loss_figure",
    "model_card",
    "plan_figure",
    "plan_table",
    "profile_figure",
    "read_results",
    "render_evaluation_page",
    "render_report",
    "results_figure",
    "results_table",
    "summary_of",
    "write_evaluation_page",
    "write_report",
]

"""What a study leaves when it ends, or is stopped: numbers, a table, a page."""

from pathlib import Path

from tutelage.files import atomic_write_json, atomic_write_text
from tutelage.studies.analysis import Analysis, analyse
from tutelage.studies.page import write_study_page
from tutelage.studies.sampler import has_optuna, journal_of, write_journal
from tutelage.studies.table import as_dict, to_csv
from tutelage.studies.watch import StudyState

_ENDINGS = {"numbers": "json", "table": "csv", "page": "html"}


def end_study(state: StudyState) -> tuple[Analysis, dict[str, Path]]:
    """Analyse what is there and write it into the study's folder, each file wholly or not at all.

    Returns:
        The analysis, and the files by what they are.
    """
    folder = state.loaded.folder
    results = [state.results[name] for name in state.due.wanted if name in state.results]
    analysis = analyse(state.loaded, results)
    files = {name: folder / f"study.{end}" for name, end in _ENDINGS.items()}
    atomic_write_json(files["numbers"], as_dict(analysis))
    atomic_write_text(files["table"], to_csv([r for r in results if r.role == "final"]))
    for cell, asking in state.due.told.items() if has_optuna() else ():
        write_journal(asking, journal_of(folder, cell))
    write_study_page(state.loaded, analysis, results, files["page"])
    return analysis, files

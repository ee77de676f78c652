"""Pictures that take no time, for tests that are about something else.

Our own drawing runs as ever; left out are the layout and output of matplotlib, which take half of
the time of a run of tiny models. Tests of reports draw in earnest, and so do a few whole runs.
"""

from matplotlib.figure import Figure

_SVG = b'<svg width="9pt" viewBox="0 0 9 9" xmlns="http://www.w3.org/2000/svg"></svg>'
_savefig = Figure.savefig


def leave_out_pictures(patch):
    """Write an empty picture for each, as long as a ``MonkeyPatch`` lasts."""

    def savefig(figure, file, *, format, **options):
        file.write(_SVG if format == "svg" else b"no picture")

    patch.setattr(Figure, "savefig", savefig)


def draw_pictures(patch):
    """Draw again."""
    patch.setattr(Figure, "savefig", _savefig)

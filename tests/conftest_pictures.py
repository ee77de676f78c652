"""Pictures that take no time, for tests that are about something else.

Drawing takes half of the time of a run of tiny models. Tests of reports draw in earnest, and so do
a few whole runs.
"""

from matplotlib.figure import Figure

from tutelage.report.svg import Picture

_SVG = '<svg viewBox="0 0 9 9"></svg>'
_PNG = b"no picture"
_svgs, _png = Picture.svgs, Picture.png


def leave_out_pictures(patch):
    """Draw nothing, as long as a ``MonkeyPatch`` lasts."""
    patch.setattr(Picture, "svgs", lambda picture: (_SVG,) * len(picture.panels))
    patch.setattr(Picture, "png", lambda picture, **options: _PNG)


def only_draw_pictures(patch):
    """Draw what goes into a page, and leave out the layout and output of matplotlib."""

    def savefig(figure, file, *, format, **options):
        file.write(_SVG.encode())

    patch.setattr(Figure, "savefig", savefig)
    patch.setattr(Picture, "png", lambda picture, **options: _PNG)


def draw_pictures(patch):
    """Draw again."""
    patch.setattr(Picture, "svgs", _svgs)
    patch.setattr(Picture, "png", _png)

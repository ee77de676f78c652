"""What a run of a study leaves that nobody needs."""

import contextlib

from tutelage.files import remove_directory
from tutelage.pipeline.context.folder import PartsFolder
from tutelage.pipeline.context.shared import SharedParts
from tutelage.pipeline.trial import Tried


def drop_students(tried: Tried) -> None:
    """Keep what a run scored and not its weights, here and in the cache."""
    name = f"arms/{tried.arm}/student"
    inputs = PartsFolder(tried.folder).inputs(name)
    cache = next((p / "cache" for p in tried.folder.parents if (p / "cache").is_dir()), None)
    places = [tried.folder / "arms" / tried.arm / one for one in ("student", "student_last")]
    if inputs is not None and cache is not None:
        places.append(SharedParts(cache / "parts").place(name, inputs).path)
    for place in places:
        with contextlib.suppress(OSError):  # another worker may clean up at the same moment
            remove_directory(place)

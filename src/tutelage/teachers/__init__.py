"""Where the teacher's signal comes from."""

from tutelage.teachers.ensemble import EnsembleTeacher
from tutelage.teachers.ladder import TeacherLadder
from tutelage.teachers.live import LiveTeacher, live_teacher
from tutelage.teachers.signal import TeacherSignal, TeacherTile
from tutelage.teachers.store import (
    Mirror,
    Need,
    StoredTeacher,
    StoreSpec,
    TeacherStore,
    begin_store,
    check_folders,
    check_space,
    fill_store,
    join_rows,
    row_key,
    store_need,
    stored_losses,
)

__all__ = [
    "EnsembleTeacher",
    "LiveTeacher",
    "Mirror",
    "Need",
    "StoreSpec",
    "StoredTeacher",
    "TeacherLadder",
    "TeacherSignal",
    "TeacherStore",
    "TeacherTile",
    "begin_store",
    "check_folders",
    "check_space",
    "fill_store",
    "join_rows",
    "live_teacher",
    "row_key",
    "store_need",
    "stored_losses",
]

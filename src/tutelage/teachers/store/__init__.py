"""A teacher's signal on disk: written once, keyed by example, exact or truncated."""

from tutelage.teachers.store.keys import row_key
from tutelage.teachers.store.read import TeacherStore
from tutelage.teachers.store.signal import StoredTeacher, stored_losses
from tutelage.teachers.store.spec import StoreSpec
from tutelage.teachers.store.write import Need, begin_store, check_space, fill_store, store_need

__all__ = [
    "Need",
    "StoreSpec",
    "StoredTeacher",
    "TeacherStore",
    "begin_store",
    "check_space",
    "fill_store",
    "row_key",
    "store_need",
    "stored_losses",
]

"""A teacher's signal on disk: written once, keyed by example, exact or truncated."""

from tutelage.teachers.store.keys import row_key
from tutelage.teachers.store.read import TeacherStore
from tutelage.teachers.store.signal import StoredTeacher, stored_losses
from tutelage.teachers.store.spec import StoreSpec
from tutelage.teachers.store.write import (
    ROOM,
    Need,
    begin_store,
    check_space,
    fill_store,
    free_bytes,
    store_bytes,
    store_need,
    token_bytes,
)

__all__ = [
    "ROOM",
    "Need",
    "StoreSpec",
    "StoredTeacher",
    "TeacherStore",
    "begin_store",
    "check_space",
    "fill_store",
    "free_bytes",
    "row_key",
    "store_bytes",
    "store_need",
    "stored_losses",
    "token_bytes",
]

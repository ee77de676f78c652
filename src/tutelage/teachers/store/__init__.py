"""A teacher's signal on disk: written once, keyed by example, exact or truncated."""

from tutelage.teachers.store.claims import beginning
from tutelage.teachers.store.keys import join_rows, row_key, save_keys
from tutelage.teachers.store.mirror import SPENT, Mirror
from tutelage.teachers.store.need import (
    ROOM,
    Need,
    check_space,
    free_bytes,
    store_bytes,
    store_need,
    token_bytes,
)
from tutelage.teachers.store.read import TeacherStore, check_folders
from tutelage.teachers.store.shards import Stamp
from tutelage.teachers.store.signal import StoredTeacher, stored_losses
from tutelage.teachers.store.spec import MANIFEST, StoreSpec
from tutelage.teachers.store.write import begin_store, fill_store

__all__ = [
    "MANIFEST",
    "ROOM",
    "SPENT",
    "Mirror",
    "Need",
    "Stamp",
    "StoreSpec",
    "StoredTeacher",
    "TeacherStore",
    "begin_store",
    "beginning",
    "check_folders",
    "check_space",
    "fill_store",
    "free_bytes",
    "join_rows",
    "row_key",
    "save_keys",
    "store_bytes",
    "store_need",
    "stored_losses",
    "token_bytes",
]

"""Data: reading examples, writing them as text and tokens, and putting tokens into batches.

What needs no model does not load what models need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.data.collate import length_batches, packed_batches, padding_id
    from tutelage.data.encode import tokenize_prompts
    from tutelage.data.ending import ending_note, ends_alike, keep_stops, stop_ids
    from tutelage.data.format import Rendered, render, template_name
    from tutelage.data.load import load_examples
    from tutelage.data.loaded import LoadedExamples
    from tutelage.data.openings import Opening
    from tutelage.data.prompts import LONGEST_PROMPT, teacher_prompt, teacher_prompts
    from tutelage.data.stored import Duplicate
    from tutelage.data.templates import check_style, check_template
    from tutelage.data.tokenize import TokenizedSplit, tokenize_examples
    from tutelage.data.written import WrittenAnswer, tokenize_written

_HOMES = {
    "Duplicate": "stored",
    "LONGEST_PROMPT": "prompts",
    "LoadedExamples": "loaded",
    "Opening": "openings",
    "Rendered": "format",
    "TokenizedSplit": "tokenize",
    "WrittenAnswer": "written",
    "check_style": "templates",
    "check_template": "templates",
    "ending_note": "ending",
    "ends_alike": "ending",
    "keep_stops": "ending",
    "length_batches": "collate",
    "load_examples": "load",
    "packed_batches": "collate",
    "padding_id": "collate",
    "render": "format",
    "stop_ids": "ending",
    "teacher_prompt": "prompts",
    "teacher_prompts": "prompts",
    "template_name": "format",
    "tokenize_examples": "tokenize",
    "tokenize_prompts": "encode",
    "tokenize_written": "written",
}

__all__ = [
    "LONGEST_PROMPT",
    "Duplicate",
    "LoadedExamples",
    "Opening",
    "Rendered",
    "TokenizedSplit",
    "WrittenAnswer",
    "check_style",
    "check_template",
    "ending_note",
    "ends_alike",
    "keep_stops",
    "length_batches",
    "load_examples",
    "packed_batches",
    "padding_id",
    "render",
    "stop_ids",
    "teacher_prompt",
    "teacher_prompts",
    "template_name",
    "tokenize_examples",
    "tokenize_prompts",
    "tokenize_written",
]

__getattr__ = lazy_names(__name__, _HOMES)

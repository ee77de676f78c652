"""Data: reading examples, writing them as text and tokens, and putting tokens into batches."""

from tutelage.data.collate import collate as collate
from tutelage.data.collate import length_batches as length_batches
from tutelage.data.collate import packed_batches as packed_batches
from tutelage.data.collate import padding_id as padding_id
from tutelage.data.format import Rendered as Rendered
from tutelage.data.format import check_template as check_template
from tutelage.data.format import render as render
from tutelage.data.format import template_name as template_name
from tutelage.data.load import Duplicate as Duplicate
from tutelage.data.load import LoadedExamples as LoadedExamples
from tutelage.data.load import load_examples as load_examples
from tutelage.data.prompts import check_style as check_style
from tutelage.data.prompts import teacher_prompt as teacher_prompt
from tutelage.data.prompts import teacher_prompts as teacher_prompts
from tutelage.data.prompts import with_completion as with_completion
from tutelage.data.tokenize import TokenizedSplit as TokenizedSplit
from tutelage.data.tokenize import tokenize_examples as tokenize_examples
from tutelage.data.tokenize import tokenize_prompts as tokenize_prompts

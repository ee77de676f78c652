"""What can be seen of a recipe before anything is loaded or written: all of it, in a second or two.

Configurations, tokenizers, the headers of weights, the first rows of the data, packages, places and
numbers of updates. Nothing here imports torch or transformers unless something looks wrong.
"""

from tutelage.checks.findings import Finding as Finding
from tutelage.checks.findings import check_recipe as check_recipe
from tutelage.checks.findings import refuse as refuse

"""What can go wrong with a recipe on this machine, found before an hour is spent.

It starts with what ``tutelage.checks`` sees without loading, and then loads: tokenizers, data,
both models. Each check is one function and one row of the table.
"""

from tutelage.doctor.examine import examine as examine
from tutelage.doctor.finding import Diagnosis as Diagnosis
from tutelage.doctor.finding import Finding as Finding
from tutelage.doctor.table import CHECKS as CHECKS
from tutelage.doctor.table import Check as Check

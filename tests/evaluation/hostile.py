"""All programs that attack, from the files of their kinds."""

import hostile_forged
import hostile_reach
import hostile_use
from hostile_program import ALL, CHECKS, SECRET, Hostile

KINDS = (hostile_use, hostile_reach, hostile_forged)
__all__ = ["ALL", "CHECKS", "KINDS", "SECRET", "Hostile"]

"""A first recipe from somebody's models and data, each setting with its reason beside it."""

from tutelage.proposal.choose import propose as propose
from tutelage.proposal.look import look as look
from tutelage.proposal.write import recipe_text as recipe_text
from tutelage.proposal.write import write_recipe as write_recipe

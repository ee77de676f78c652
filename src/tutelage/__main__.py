"""``python -m tutelage`` and ``accelerate launch -m tutelage``."""

from tutelage.cli import main

main()

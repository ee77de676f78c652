"""The table of all schedules."""

from tutelage.components import Component
from tutelage.schedules.basic import constant, cosine, join, linear, steps

SCHEDULES: dict[str, Component] = {
    "constant": Component(constant, "the same value throughout"),
    "linear": Component(linear, "a straight line from start to end"),
    "cosine": Component(cosine, "half a cosine wave from start to end, flat at both ends"),
    "steps": Component(steps, "equal spans with one value each"),
    "join": Component(join, "schedules one after another"),
}

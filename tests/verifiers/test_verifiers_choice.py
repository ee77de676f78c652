"""Multiple choice: what public extractors of letters got wrong, with the right value."""

import pytest

from tutelage.errors import DataError
from tutelage.verifiers import choice

SETTLED = [
    ("The answer is yes.", "yes"),
    ("The answer is (B)", "B"),
    ("(B)", "B"),
    ("B", "B"),
    ("d", "D"),
    ("b. 4", "B"),
    ("B) Paris", "B"),
    ("A", "A"),
    ("I", "I"),
    ("Answer: **D**", "D"),
    ("**Answer: D**", "D"),
    ("ANSWER: $A$", "A"),
    ("Answer\uff1aB", "B"),
    ("Answer:\n\nB", "B"),
    ("<answer>B</answer>", "B"),
    (r"So the answer is \(B\).", "B"),
    (r"\boxed{B}", "B"),
    (r"\boxed{\text{(B)}}", "B"),
    (r"**Answer: D** but \boxed{\langle H\rangle \ll \Delta E}", "D"),
    ("I considered (A), but it is incorrect. Final answer: D.", "D"),
    ("The correct answer is d.", "D"),
    ("The answer is B. Note that A is a common distractor.", "B"),
    ("ANSWER IS D. A is incorrect.", "D"),
    ("The answer is C because I computed the integral.", "C"),
    ("The answer is B because a car moves.", "B"),
    ("I would pick B \u2014 a safe choice.", "B"),
    ("The answer is B, not C.", "B"),
    ("... The correct answer is (B).", "B"),
    ("The answer is: B) Paris", "B"),
    ("The best choice is option (c).", "C"),
    ("The correct option is B: 42", "B"),
    ("Option B is correct.", "B"),
    ("B is correct", "B"),
    ("The answer to question 3 is D", "D"),
    ("Answer: A\nAnswer: B", "B"),
    ("A is wrong. Answer: A? No. Answer: C", "C"),
    ("No doubt: the answer is yes", "yes"),
    ("No, because it sinks", "no"),
    ("True", "yes"),
    ("The answer is false.", "no"),
    ("A is the answer.", "A"),
    ("Answer seems to be A.", "A"),
    ("**C. Days will become shorter.**", "C"),
    ("### Answer\nC", "C"),
    ('{"answer": "C"}', "C"),
    ("<think>The answer is A.</think> C", "C"),
    ("Llamas live for 20 years. Therefore, no.", "no"),
    ("So, yes, they would.", "yes"),
    ("There is no reason against it. Yes.", "yes"),
    ("Thus **no**.", "no"),
    ("No. It floats. So yes, it can.", "yes"),
    ("The statement is false.", "no"),
    ("A. Repeat it\nB. Report it\nC. Make a table\n\nAnswer: C", "C"),
    ("C. Make a table\n\nA. is wrong\nB. is wrong", "C"),
]
UNSETTLED = [
    "The answer is a car",
    "A cat sat on the mat",
    "Based on the figure, I cannot tell",
    "Both A and B",
    "The answer is not B",
    "Is the answer A? Or B?",
    "Antwort: A\nAntwort: C",
    "The answer is 42.",
    "<think>The answer is A.",
    "It is 41\u00b0F.",
    "So no animal can.",
    "A. Repeat it\nB. Report it\nC. Make a table\nD. Observe it",
    "It is true that llamas can.",
]


@pytest.mark.parametrize(("answer", "settled"), SETTLED)
def test_what_an_answer_settles_on(answer, settled):
    for other in [*"ABCDEFGHIJ", "yes", "no"]:
        assert choice(answer, [other]) == (other == settled), other
    assert choice(answer, ["J) none", f"({settled})"]) == 1.0


@pytest.mark.parametrize("answer", UNSETTLED)
def test_an_answer_that_settles_on_nothing_is_wrong(answer):
    assert [choice(answer, [letter]) for letter in [*"ABCDEFGHIJ", "yes", "no"]] == [0.0] * 12


def test_a_reference_must_be_a_choice():
    with pytest.raises(DataError, match="is no choice"):
        choice("B", ["Paris"])
    assert choice("B", ["Paris", "B"]) == 1.0

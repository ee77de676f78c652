"""Steps of rationales as data sets and models write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.difficulty.rationale import UNITS, count_steps, rationale_steps, split_sentences
from tutelage.errors import ConfigError

GSM8K = """Natalia sold 48/2 = <<48/2=24>>24 clips in May.
Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.
#### 72"""

QWEN = """To find the total, we need to work through the following steps:

1. **Cost of the apples**: 3 kg at $2.50 per kg.
   \\[ 3 \\times 2.50 = 7.50 \\]

2. **Cost of the pears**: Each costs $1. She buys 4 of them.

3. **Total**: 7.50 + 4 = 11.50.

Therefore, the answer is \\(\\boxed{11.50}\\)."""

STEP_BY_STEP = """Let's think step by step.

### Step 1: Understand the problem
We are given x. It is 5.

**Step 2:** Double it
- 2 * 5 = 10
- This is even.

Step 3 - Conclude
The answer is 10."""

BULLETS = """The plan:
- Heat the oven to 180 C.
- Mix flour, e.g. 200 g, with eggs.
* Bake for approx. 25 min. Do not open the door.
"""

MATH = """We have $x^2 - 5x + 6 = 0.$ Factoring gives $(x-2)(x-3) = 0,$ so $x = 2$ or $x = 3.$ \
Thus the sum of the solutions is $2 + 3 = \\boxed{5}.$"""

WRAPPED = """Dr. Lee weighs 3.14 kg of sand at 2 p.m. and then
adds 1.5 kg. How much is it
in all? It is 4.64 kg"""

ALIGNED = """area = 3 * 4
= 12"""


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (GSM8K, 2),
        (QWEN, 3),
        (STEP_BY_STEP, 3),
        (BULLETS, 3),
        (MATH, 3),
        (WRAPPED, 3),
        (ALIGNED, 2),
        ("37+48=85;85+20=105#501", 2),
        ("73+84=58#58", 1),
        ("Step 1: Add 2 and 3. Step 2: Double the 5. Step 3: Stop.", 3),
        ("First, note that 5! = 120. Next, divide by 2! to get 60.", 2),
        ("(1) Add.\n(2) Halve it.\n", 2),
        ("10) Add.\n11) Halve it.\n12) Stop.", 3),
        ("x = 3.5\ny = 2 * x\nz = x + y", 3),
        ("```python\nTotal = 3\nPrint(Total)\n```", 2),
        ("a <= 3 and b != 4 and c ≈ 2", 3),
        ("if a == b then c := 4", 1),
        ("答案是五。因为二加三等于五。", 2),
        ("42", 1),
        ("#### 42", 0),
        ("", 0),
        (" \n---\n***\n", 0),
    ],
)
def test_texts_as_they_come(text, steps):
    assert count_steps(text) == steps


@pytest.mark.parametrize(
    "sentences",
    [
        ["It costs $3.50 or 1,250.75 yen.", "That is much!", "Is it?"],
        ["He met Mr. Hill, Mrs. Ott and Prof. Roe at St. Paul.", "Then he left."],
        ["See Fig. 3, Eq. (4) and no. 7, i.e. the last.", "All agree."],
        ["Is 9 a prime?", "No.", "It is 3 times 3."],
        ["He waited 5 sec. and left.", "She came at 2 p.m.", "They had gone by 4 p.m. on Monday."],
        ["There are two cases: 1. It is even.", "2. It is odd."],
        ["The answer is 5.", "Check: it is."],
        ["The answer is: 5.", "Check it."],
        ["The terms are 1, 2, ... 10.", "Their sum is 55..."],
        ["Wait... no, it goes on.", "What?!", "Yes."],
        ["The U.S. Army has 3 of them.", "Smith et al. (2020) say so."],
        ['She said "Stop."', '"Why?" he asked (twice.)', "**Bold.**", "Then nothing."],
        ["So \\(x = 4.\\)", "Hence $y = 2.$", "And \\[z = 1.\\]", "Done."],
        ["The line meets angle A.", "Then it meets B."],
        ["8! is more than 7! + 6!.", "5! 4! and 3! are less."],
    ],
)
def test_sentences_end_where_they_end(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


def test_a_wrapped_line_goes_on_and_a_full_one_ends():
    assert split_sentences("It is red\nand blue\nThe sea is green.\nyes") == [
        "It is red and blue",
        "The sea is green.",
        "yes",
    ]


def test_what_a_step_is_can_be_fixed():
    counts = {by: count_steps(QWEN, by) for by in UNITS}
    assert counts == {"auto": 3, "items": 3, "lines": 6, "sentences": 7, "equations": 2}
    assert rationale_steps([GSM8K, ""], by="lines").tolist() == [2.0, 0.0]
    assert count_steps("no item here", by="items") == 1
    with pytest.raises(ConfigError, match="Did you mean 'lines'"):
        rationale_steps([""], by="line")  # pyright: ignore


@pytest.mark.parametrize(
    "text", ["." * 50_000 + "x", "and more\n" * 50_000, "x.)" * 50_000 + "y", "e.g. " * 50_000]
)
def test_texts_of_a_model_that_repeats_itself_are_read_in_one_go(text):
    # Quadratic time would be minutes here.
    assert count_steps(text) == 1


@given(st.integers(1, 30), st.sampled_from(["Step {}: Add {}.", "{}. Add {}.", "{}) Add {}."]))
def test_numbered_steps_are_counted_whatever_their_number(count, form):
    assert count_steps("\n".join(form.format(i, i) for i in range(1, count + 1))) == count


@given(st.lists(st.sampled_from(["Add 3.5 to it", "Ask Dr. Roe", "It is 4"]), min_size=1))
def test_sentences_are_counted_whatever_separates_them(parts):
    for between in (". ", ".\n", "! ", "?\n\n"):
        assert count_steps(between.join(parts) + ".") == len(parts)


@given(st.text())
def test_any_text_has_a_count_and_sentences_lose_nothing(text):
    for by in UNITS:
        assert count_steps(text, by) >= 0
    assert (count_steps(text) == 0) <= (not split_sentences(text))


@given(st.text(alphabet="ab1.!?)\"' \n=", max_size=60))
def test_splitting_keeps_every_letter_and_digit(text):
    kept = "".join(c for s in split_sentences(text) for c in s if c.isalnum())
    assert kept == "".join(c for c in text if c.isalnum())

"""What every verifier must keep, and what each of them means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.components import bind
from tutelage.errors import ConfigError, DataError
from tutelage.verifiers import VERIFIERS, exact_match, number, rouge_l

NAMES = sorted(VERIFIERS)
# One typical set of references for each row; a new row must come with one.
REFERENCES = {
    "exact_match": ["The answer is 42.", "It is 42."],
    "rouge_l": ["The cat sat on the mat.", "A cat was sitting there."],
    "number": ["So 40 + 2 = 42\n#### 42", "43"],
    "math": [r"So it is $\boxed{\frac{84}{2}}$.", "43"],
    "choice": ["B", "The answer is (C)."],
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(params=NAMES)
def family(request):
    return VERIFIERS[request.param].function, REFERENCES[request.param]


def test_every_row_has_references():
    assert set(REFERENCES) == set(VERIFIERS)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)  # the first call of rouge_l imports a package
@given(answer=TEXTS)
def test_in_the_unit_interval_and_deterministic(name, answer):
    verify = VERIFIERS[name].function
    value = verify(answer, REFERENCES[name])
    assert isinstance(value, float) and 0.0 <= value <= 1.0
    assert verify(answer, REFERENCES[name]) == value


def test_a_reference_solves_its_example(family):
    verify, references = family
    assert [verify(reference, references) for reference in references] == [1.0, 1.0]


def test_an_empty_answer_solves_nothing(family):
    verify, references = family
    assert verify("", references) == 0.0
    assert verify(" \n\t", references) == 0.0


@pytest.mark.parametrize("answer", ["The answer is 42.", "a cat sat there, 43", "none"])
def test_the_order_of_references_changes_nothing(family, answer):
    verify, references = family
    assert verify(answer, references) == verify(answer, references[::-1])
    assert verify(answer, references) == max(verify(answer, [r]) for r in references)


def test_no_reference_is_refused(family):
    with pytest.raises(DataError, match="without any reference"):
        family[0]("42", [])


@pytest.mark.parametrize(
    ("answer", "references", "after", "expected"),
    [
        ("85", ["85"], None, 1.0),
        ("  two\n words ", ["two words"], None, 1.0),
        ("Two words", ["two words"], None, 0.0),
        ("37+48=85#85", ["85"], None, 0.0),
        ("37+48=85#85", ["85"], "#", 1.0),
        ("37+48=85#85", ["12+73=85#85"], "#", 1.0),
        ("1#2#85", ["85"], "#", 1.0),
        ("85#2", ["85"], "#", 0.0),
        ("85", ["85"], "#", 0.0),
        ("85#", ["85"], "#", 0.0),
        ("so #### 85", ["1", "85"], "####", 1.0),
        ("The answer is yes.", ["yes"], "The answer is", 1.0),
        ("The answer is yes.", ["The answer is yes"], "The answer is", 1.0),
        ("The answer is yes..", ["yes"], "The answer is", 0.0),
        ("The answer is.", ["."], "The answer is", 0.0),
        ("yes.", ["yes"], None, 0.0),
        ("", [""], None, 0.0),
    ],
)
def test_exact_match(answer, references, after, expected):
    assert exact_match(answer, references, after=after) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("It costs $1,250.00 in all.", "1250", 1.0),
        ("-$5", "-5", 1.0),
        ("x = -5", "-5", 1.0),
        ("x = -5", "5", 0.0),
        ("8-5", "5", 1.0),
        ("(8)-5", "5", 1.0),
        ("+7", "7", 1.0),
        ("0.10", ".1", 1.0),
        ("0.1", "0.10000000000000001", 0.0),
        ("42.", "#### 42", 1.0),
        ("first 1, then 2, then 3", "3", 1.0),
        ("42 is not 43", "42", 0.0),
        ("1,000,000", "1000000", 1.0),
        ("1,2", "2", 1.0),
        ("-0", "0", 1.0),
        ("007", "7", 1.0),
        ("no number", "7", 0.0),
        ("9" * 6000, "9" * 6000, 1.0),
        ("1/4", "3/4", 0.0),
        ("3/4", "4", 0.0),
        ("so 6/8 of it.", "0.75", 1.0),
        ("0.75", "#### 3/4", 1.0),
        ("-1/3", "2/-6", 0.0),
        ("-1/3", "-2/6", 1.0),
        ("0.3333333333333333333333333333", "1/3", 0.0),
        ("24/2=12", "12", 1.0),
        ("5/0", "0", 0.0),
        ("x = \u22125", "-5", 1.0),
        ("x = \u22125", "5", 0.0),
        ("2e5", "200000", 1.0),
        ("2e5", "5", 0.0),
        ("1E-2", "0.01", 1.0),
        ("1e999", "7", 0.0),
        ("5%-10%", "10", 1.0),
        ("9" * 6000 + "/3", "3" * 6000, 1.0),
        (r"\boxed{2\sqrt3}", "3", 0.0),
        (r"\boxed{5\sqrt{3}}", "3", 0.0),
        (r"$5\sqrt3$", "3", 0.0),
        ("sqrt(16)", "16", 0.0),
        ("\u221a3", "3", 0.0),
        (r"3\pi", "3", 0.0),
        ("2^{10}", "10", 0.0),
        ("x^2+1", "1", 0.0),
        ("x + 1", "1", 0.0),
        ("5x", "5", 0.0),
        ("y = 1", "1", 1.0),
        (r"\boxed{42}, see page 7", "42", 1.0),
        (r"\boxed{3, 4}", "4", 0.0),
        (r"\boxed{7 + 35}", "35", 0.0),
        (r"\boxed{\frac{1}{2}}", "0.5", 1.0),
        (r"$\frac34$", "0.75", 1.0),
        (r"\boxed{1{,}000}", "1000", 1.0),
        (r"\boxed{\$1,250.00}", "1250", 1.0),
        (r"\boxed{50\%}", "50", 1.0),
        (r"\boxed{42\text{ cm}^2}", "42", 1.0),
        (r"3 \times 10^5", "300000", 1.0),
        ("5 m", "5", 1.0),
        ("total 5 x 3 = 15", "15", 1.0),
        ("I have 3 - a lot", "3", 1.0),
    ],
)
def test_number(answer, reference, expected):
    assert number(answer, [reference]) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e9, max_value=1e9))
def test_number_reads_any_usual_notation(value):
    for text in (f"{value:f}", f"{value:,f}", f"{value:f}000", f"The answer is {value:,f}."):
        assert number(text, [f"#### {value:f}"]) == 1.0
    assert number(f"{value + 1:f}", [f"{value:f}"]) == 0.0


def test_number_needs_one_in_a_reference():
    with pytest.raises(DataError, match="holds no number by itself"):
        number("42", ["forty-two", "?"])
    assert number("42", ["forty-two", "42"]) == 1.0


@pytest.mark.parametrize(
    "reference", [r"\boxed{5\sqrt3}", "y^2+1", r"\frac{\pi}{2}", "3x", "2^{10}"]
)
def test_number_refuses_references_that_are_expressions(reference):
    with pytest.raises(DataError, match="Use 'math' for expressions"):
        number("3", [reference])


def test_rouge_l_by_hand():
    # "the cat on the mat" against "the cat sat on a mat": the common subsequence has 4 words.
    value = rouge_l("The cat, on the mat!", ["the cat sat on a mat"])
    precision, recall = 4 / 5, 4 / 6
    assert value == pytest.approx(2 * precision * recall / (precision + recall))


def test_rouge_l_stems_unless_told_not_to():
    assert rouge_l("running dogs", ["run dog"]) > rouge_l(
        "running dogs", ["run dog"], stemmer=False
    )
    assert rouge_l("walking", ["walked"]) == 1.0
    assert rouge_l("walking", ["walked"], stemmer=False) == 0.0


def test_rouge_l_takes_the_nearest_reference():
    assert rouge_l("a b c", ["x y z", "a b c", "a b"]) == 1.0


def test_rouge_l_of_a_reference_without_latin_words_is_exact():
    assert rouge_l("你好", ["你好"]) == 1.0
    assert rouge_l("你们", ["你好"]) == 0.0


def test_options_are_bound_by_name():
    verify = bind(VERIFIERS, "metric", "exact_match", {"after": "#"})
    assert verify("1#2", ["2"]) == 1.0
    with pytest.raises(ConfigError, match=r"no option 'stemer'.*Did you mean 'stemmer'"):
        bind(VERIFIERS, "metric", "rouge_l", {"stemer": False})
    with pytest.raises(ConfigError, match="Did you mean 'rouge_l'"):
        bind(VERIFIERS, "metric", "rougel", {})

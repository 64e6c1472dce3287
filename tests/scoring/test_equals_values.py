"""`equals` by table: letters of choice, what tells answers apart, notations, scripts, numbers."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftreg.scoring import Sample, get_scorer
from ftreg.scoring.answers import normalize, whole_value


def score(output, reference, **options):
    sample = Sample(id="1", input="", output=output, reference=reference)
    return get_scorer("equals", **options).score([sample])[0].value


NORMALIZED = [
    ("(E)", "E", 1.0),
    ("C)", "C", 1.0),
    ("D:", "D", 1.0),
    ("[B]", "B", 1.0),
    ("a", "A", 1.0),
    ("B", "A", 0.0),
    ("A", "an", 0.0),
    ("**C**", "C", 1.0),
    ("Vitamin", "Vitamin A", 0.0),
    ("vitamin a", "Vitamin A", 1.0),
    ("a dog", "dog", 1.0),
    ("The dog", "dog", 1.0),
    ("A dog.", "dog", 1.0),
    ("Plan A", "Plan", 0.0),
    ("an apple", "apple", 1.0),
    ("F", "(F)", 1.0),
    ("Team A", "Team B", 0.0),
    ("Blood type A", "Blood type", 0.0),
    ("A+", "A", 0.0),
    ("A-", "A+", 0.0),
    ("x = 5", "x > 5", 0.0),
    ("x <= 5", "x < 5", 0.0),
    ("a + b", "a * b", 0.0),
    ("a + b", "a - b", 0.0),
    ("2^3", "23", 0.0),
    ("x²", "x2", 0.0),
    ("C++", "C", 0.0),
    ("C#", "C++", 0.0),
    ("F#", "F", 0.0),
    ("3.5", "35", 0.0),
    ("12,5 kg", "125 kg", 0.0),
    ("y=-3", "y=3", 0.0),
    ("2/11/2021", "21/1/2021", 0.0),
    ("1.2.3", "12.3", 0.0),
    ("10:30", "1030", 0.0),
    ("5/8", "58", 0.0),
    ("n == 3", "n != 3", 0.0),
    ("x >= 2", "x > 2", 0.0),
    ("-7", "7", 0.0),
    ("5 %", "5 ‰", 0.0),
    ("1,8 Liter", "18 Liter", 0.0),
    ("> 5", "< 5", 0.0),
    ("10^5", "10^6", 0.0),
    ("3 × 4", "3 + 4", 0.0),
    ("$5", "€5", 0.0),
    ("p < .05", "p > .05", 0.0),
    ("≤ 5", "≥ 5", 0.0),
    ("≤5", "5", 0.0),
    ("2:1", "21", 0.0),
    ("20°", "20 %", 0.0),
    ("1e5", "15", 0.0),
    ("+3", "-3", 0.0),
    ("x+1", "x-1", 0.0),
    ("12 - 5", "12 + 5", 0.0),
    ("0.5", "5", 0.0),
    ("A/B", "AB", 0.0),
    ("x*y", "x/y", 0.0),
    ("−12", "-12", 1.0),
    ("Ber\u00adlin", "Berlin", 1.0),
    ("Ro\u200bme", "Rome", 1.0),
    ("New\u00a0York", "New York", 1.0),
    ("Ｐａｒｉｓ", "Paris", 1.0),
    ("“yes”", '"yes"', 1.0),
    ("don’t", "don't", 1.0),
    ("５", "5", 1.0),
    ("–5", "-5", 1.0),
    ("Paris\ufeff", "Paris", 1.0),
    ("x−y", "x-y", 1.0),
    ("12,000", "12000", 1.0),
    ("12 000", "12,000", 1.0),
    ("£5", "5 pounds", 1.0),
    ("£5", "£5.00", 1.0),
    ("£5", "Five pounds", 1.0),
    ("twelve", "12", 1.0),
    ("March 5, 2024", "2024-03-05", 1.0),
    ("half", "1/2", 1.0),
    ("0.50", "1/2", 1.0),
    ("2 hours", "120 minutes", 1.0),
    ("five kilometres", "5 km", 1.0),
    ("5 %", "5 percent", 1.0),
    ("7 pm", "19:00", 1.0),
    ("3rd", "third", 1.0),
    ("$1.5 million", "$1,500,000", 1.0),
    ("Well-known", "well known", 1.0),
    ("<b>Paris</b>", "Paris", 1.0),
    ("U.S.A.", "USA", 1.0),
    ("`Paris`", "Paris", 1.0),
    ("Straße", "STRASSE", 1.0),
    ("café", "café", 1.0),
    ("one", "1", 1.0),
    ("Paris!", "Paris", 1.0),
    ("e.g.", "eg", 1.0),
    ("N/A", "n/a", 1.0),
    ("$x$", "x", 1.0),
    ("March 5", "March 5, 2024", 0.0),
]
CONTAINS = [
    ("option A", "A", 1.0),
    ("The answer is A: a dog", "A", 1.0),
    ("Group A beat Group B", "Group A", 1.0),
    ("It is a dog.", "A", 0.0),
    ("A is right", "A", 1.0),
    ("I would say (A) because of X", "A", 1.0),
    ("A dog barks", "A", 0.0),
    ("A, since", "A", 1.0),
    ("答案是北京。", "北京", 1.0),
    ("首都是巴黎，不是里昂", "里昂", 1.0),
    ("答えはパリです", "パリ", 1.0),
    ("パリジャン", "パリ", 0.0),
    ("คำตอบคือกรุงเทพ", "กรุงเทพ", 1.0),
    ("Oslo;Bergen;Turku", "Bergen", 1.0),
    ("Oslo/Bergen", "Bergen", 1.0),
    ("Oslo|Bergen", "Bergen", 1.0),
    ("Parisian", "Paris", 0.0),
    ("It is 12km away", "12 km", 1.0),
    ("서울입니다", "서울", 1.0),
    ("It weighs 15kg.", "5 kg", 0.0),
    ("-5 degrees", "5 degrees", 0.0),
    ("It cost £5.", "5 pounds", 1.0),
    ("the answer:Paris", "Paris", 1.0),
    ("Paris.It is", "Paris", 1.0),
    ("on 5 March 2024", "2024", 1.0),
    ("at 7pm", "19:00", 1.0),
    ("40 million", "40", 0.0),
    ("19:05", "9:05", 0.0),
    ("room 112", "12", 0.0),
    ("人口は1億人です", "1億", 1.0),
    ("C++ and Java", "C", 0.0),
    ("x<5", "x < 5", 1.0),
    ("new_york", "York", 1.0),
    ("答案是12公里", "12", 1.0),
    ("Sydney (Australia)", "Sydney", 1.0),
    ("Москва,Париж", "Париж", 1.0),
    ("الجواب:باريس", "باريس", 1.0),
    ("Rome—Paris", "Paris", 1.0),
    ("[Paris](http://x.y)", "Paris", 1.0),
]
NUMERIC = [
    ("5/2", "2/5", 0.0),
    ("2021-07-09", "2021-09-07", 0.0),
    ("-12", "12", 0.0),
    ("2,5", "2.5", 1.0),
    ("8,5", "6,5", 0.0),
    ("7 x 10^9", "7e9", 1.0),
    ("3 \\times 10^{8}", "3e8", 1.0),
    ("6.02 × 10²³", "6.02e23", 1.0),
    ("12{,}345", "12345", 1.0),
    ("$12{,}345$", "12345", 1.0),
    ("\\frac{3}{4}", "0.75", 1.0),
    ("\\boxed{17}", "17", 1.0),
    ("17 [2][3]", "17", 1.0),
    ("17【4】", "17", 1.0),
    ("17¹", "17", 1.0),
    ("25 000", "25000", 1.0),
    ("3/4", "0.75", 1.0),
    ("a quarter", "0.25", 1.0),
    ("5 kg", "5 g", 0.0),
    ("5 kg", "5000 g", 1.0),
    ("5 kg", "5", 1.0),
    ("$40", "40", 1.0),
    ("40 $", "40 €", 0.0),
    ("The answer is seven.", "7", 1.0),
    ("#### 42", "42", 1.0),
    ("12 dozen", "144", 1.0),
    ("2 1/2", "2.5", 1.0),
    ("1e-3", "0.001", 1.0),
    ("minus 4", "-4", 1.0),
    ("1,250,000", "1.25 million", 1.0),
    ("$-5$", "-5", 1.0),
    ("50%", "50", 1.0),
    ("٤٢", "42", 1.0),
    ("1.234,5", "1234.5", 1.0),
    ("x = -3", "-3", 1.0),
    ("3 × 10^-5", "3e-5", 1.0),
    ("9:30", "21:30", 0.0),
    ("$5 + 3 = 8$", "8", 1.0),
    ("42 [1].", "42", 1.0),
    ("42 (see [1])", "42", 1.0),
    ("[42]", "42", 1.0),
    ("-1/2", "-0.5", 1.0),
    ("12\\%", "12", 1.0),
]


@pytest.mark.parametrize(("output", "reference", "value"), NORMALIZED)
def test_normalized(output, reference, value):
    assert score(output, reference) == value
    assert score(reference, output) == value


@pytest.mark.parametrize(("output", "reference", "value"), CONTAINS)
def test_contains(output, reference, value):
    assert score(output, reference, mode="contains") == value
    assert score(reference, reference, mode="contains") == 1.0


@pytest.mark.parametrize(("output", "reference", "value"), NUMERIC)
def test_numeric(output, reference, value):
    assert score(output, reference, mode="numeric") == value
    assert score(reference, reference, mode="numeric") == 1.0


@pytest.mark.parametrize(
    ("output", "reference", "value"),
    [
        ("东京,大阪", "大阪", 0.666667),
        ("Oslo,Bergen", "Bergen Oslo", 1.0),
        ("back-flow valve", "backflow valve", 1.0),
        ("5kg of flour", "5 kg of flour", 1.0),
        ("C++", "C", 0.0),
    ],
)
def test_overlap(output, reference, value):
    assert score(output, reference, mode="overlap") == value


@pytest.mark.parametrize(
    ("output", "reference", "options", "value"),
    [
        ("It was 1919.", "June 28, 1919", {}, 1.0),  # the year alone, as the last number of both
        ("on 28 June 1919", "June 1919", {}, 1.0),
        ("June 1919", "28 June 1919", {}, 0.0),
        ("2.1 km", "2000 m", {"tolerance": 100}, 1.0),
        ("2.2 km", "2000 m", {"tolerance": 100}, 0.0),
        ("$41", "$40", {"relative_tolerance": 0.05}, 1.0),
        ("USS Nova (NX-74205) was the first", "NX-74205", {}, 1.0),
        ("won in 1977, the tenth to do so", "1977", {}, 1.0),
        ("one", "1", {}, 1.0),
        ("no number", "7", {}, 0.0),
    ],
)
def test_numeric_with_dates_tolerance_and_identifiers(output, reference, options, value):
    assert score(output, reference, mode="numeric", **options) == value


def test_a_text_of_articles_and_punctuation_is_not_empty():
    assert [normalize(text) for text in ("The", "A", "?!", "", "the dog")] == [
        "the", "a", "?!", "", "dog",
    ]  # fmt: skip


def test_a_whole_value_has_nothing_beside_it():
    assert whole_value(" (−5). ").amount == -5
    assert whole_value("5 dogs") is None
    assert whole_value("> 5") is None
    assert whole_value("GPT-4") is None


short = st.text("aA.,-+<>=/ 5(１²٣−½京ปà‌€%$", max_size=8) | st.text(max_size=12)


@settings(max_examples=300, deadline=None)
@given(short, short)
def test_equality_has_no_side_and_what_is_equal_is_contained(left, right):
    assert score(left, left) == score(left, left, mode="contains") == 1.0
    assert score(left, right) == score(right, left)
    if score(left, right) == 1.0:
        assert score(left, right, mode="contains") == 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_numbers_are_equal_as_numbers(left, right):
    for mode in ("normalized", "numeric"):
        assert score(f"{left:,}", str(right), mode=mode) == float(left == right)
        assert score(f"{left} kg", f"{right * 1000} g", mode=mode) == float(left == right)


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("a{e}", "a{e}"),
        ("(?:ab){e<=1}", "ax"),
        (r"\{\"a\": {x}\}", '{"a": {x}}'),
        ("[[:alpha:]]+", "ab"),
        (r"a\\{2}", "a\\\\"),
        (r"\w{2,3}|.*", "abcd"),
        ("a{,2}", "aa"),
        ("[{]x", "{x"),
        ("(?s)a.b", "a\nb"),
    ],
)
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_a_pattern_means_what_it_means_to_python(pattern: str, output: str) -> None:
    (score,) = get_scorer("equals", mode="regex").score(
        [Sample(id="a", input="", output=output, reference=pattern)]
    )
    assert score.value == float(re.fullmatch(pattern, output) is not None), score


def test_a_pattern_that_does_not_end_is_null() -> None:
    (score,) = get_scorer("equals", mode="regex").score(
        [Sample(id="a", input="", output="a" * 60 + "b", reference="(a|aa)+$")]
    )
    assert score.value is None
    assert "takes longer than 1 s" in str(score.reason)

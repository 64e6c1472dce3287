"""Claims of nearly the same words as their passage, and another meaning."""

import pytest

from ftreg.scoring.contrasts import opposed, swapped, unconditional


@pytest.mark.parametrize(
    ("claim", "passage", "found"),
    [
        ("Wash it before use.", "Wash it after use.", True),
        ("Teams of more than six may enter.", "Teams of fewer than six may enter.", True),
        ("The rope holds at most 90 kg.", "The rope holds at least 90 kg.", True),
        ("Imports fell in June.", "Imports rose in June.", True),
        ("All of the eggs broke.", "Some of the eggs broke.", True),
        ("Some of the eggs broke.", "All of the eggs broke.", False),
        ("The kiosk is open on Mondays.", "The kiosk is not closed on Mondays.", False),
        ("Wash it before use.", "After the storm the crew washed the deck before lunch.", False),
        ("Wash it before use.", "Wash it before use.", False),
        ("Every door was locked.", "A few doors were locked.", True),
        ("", "", False),
    ],
)
def test_the_opposite_of_a_word_in_its_place(claim: str, passage: str, found: bool) -> None:
    assert opposed(claim, passage) is found


@pytest.mark.parametrize(
    ("claim", "passage", "found"),
    [
        ("Ivo taught Mara to row.", "Mara taught Ivo to row.", True),
        ("Genoa beat Turin.", "Turin beat Genoa.", True),
        ("Ivo and Mara row.", "Mara and Ivo row.", False),
        ("Ivo is married to Mara.", "Mara is married to Ivo.", False),
        ("Mara was taught by Ivo.", "Ivo taught Mara.", False),
        ("In May, Ivo left Turin.", "Ivo left Turin in May.", False),
    ],
)
def test_two_names_swapped(claim: str, passage: str, found: bool) -> None:
    assert swapped(claim, passage) is found


@pytest.mark.parametrize(
    ("claim", "passage", "found"),
    [
        ("Guests may use the sauna.", "Guests may use the sauna only with a towel.", True),
        ("The match is called off.", "If it snows, the match is called off.", True),
        ("If it snows, the match is called off.", "The match is called off if it snows.", False),
        ("The only church burnt down.", "The only church burnt down in 1702.", False),
        ("The shop is open on Sundays.", "The shop is open every day but Sunday.", True),
        ("Sheds are for members.", "Sheds are only for members.", False),
        ("Rosa has won the cup.", "Rosa has won the cup and could leave in May.", False),
        ("Rosa wins the cup.", "Rosa could win the cup.", True),
        ("The pier is closed.", "In a storm, the pier is closed.", True),
        ("The pier is closed.", "The pier is closed in bad weather.", True),
        ("The pier is closed in storms.", "In a storm, the pier is closed.", False),
        ("Dogs may come in.", "On Sundays, dogs may come in.", True),
        ("The pier burnt down.", "In a storm, the pier burnt down.", False),
        ("The bank is solid.", "In a statement, they say the bank is solid.", False),
    ],
)
def test_a_condition_left_out(claim: str, passage: str, found: bool) -> None:
    assert unconditional(claim, passage) is found

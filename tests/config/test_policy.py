"""When one policy of the gate is looser than another."""

from ftreg.config.policy import Collapse, GatePolicy, loosened


def test_a_policy_without_floors_or_with_stuck_scorers_is_looser() -> None:
    strict, lax = GatePolicy(floors={"equals": 0.7}), GatePolicy(floors={"equals": 0.6})
    assert loosened(strict, lax) == ["floors.equals 0.6, was 0.7"]
    assert loosened(strict, GatePolicy()) == ["floors.equals 0, was 0.7"]
    assert loosened(lax, strict) == loosened(GatePolicy(), strict) == []
    stuck = GatePolicy(constant=["equals"])
    assert loosened(GatePolicy(), stuck) == ["constant with equals"]
    assert loosened(stuck, GatePolicy()) == []


def test_a_policy_that_lets_more_examples_collapse_is_looser() -> None:
    strict = GatePolicy(collapse=Collapse())
    lax = GatePolicy(collapse=Collapse(drop=0.6, share=0.05))
    assert loosened(strict, lax) == ["collapse.drop 0.6, was 0.5", "collapse.share 0.05, was 0.02"]
    assert loosened(strict, GatePolicy()) == ["collapse null, was {drop: 0.5, share: 0.02}"]
    assert loosened(lax, strict) == loosened(GatePolicy(), lax) == []

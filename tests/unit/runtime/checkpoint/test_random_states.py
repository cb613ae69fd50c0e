"""Random numbers go on where a checkpoint stood, to the bit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from loosestep.runtime.checkpoint import random_states


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Leave the global generators as other tests expect them."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(of_python)
    np.random.set_state(of_numpy)


def draw() -> list[Any]:
    """Draw an odd count of normal numbers, whose second half a generator keeps back."""
    return [random.random(), random.gauss(0, 1), random.getrandbits(90), *np.random.standard_normal(3).tolist()]


def stored() -> tuple[dict[str, Any], Any]:
    """Return arrays and facts as a file holds them."""
    tensors: dict[str, Any] = {}
    facts = json.loads(json.dumps(random_states.save_random_states(tensors)))
    return {name: values.copy() for name, values in tensors.items()}, facts


@pytest.mark.parametrize("draws", range(3))
def test_both_generators_go_on_to_the_bit(draws: int) -> None:
    random.seed(7)
    np.random.seed(7)
    for _ in range(draws):
        draw()
    tensors, facts = stored()
    expected = [draw() for _ in range(3)]
    random.seed(8)
    np.random.seed(8)
    assert draw() != expected[0]
    random_states.load_random_states(tensors, facts)
    assert [draw() for _ in range(3)] == expected


def test_saving_draws_nothing() -> None:
    random.seed(3)
    np.random.seed(3)
    expected = draw()
    random.seed(3)
    np.random.seed(3)
    stored()
    assert draw() == expected


def test_half_a_pair_of_normal_numbers_is_kept() -> None:
    np.random.seed(1)
    random.seed(1)
    draw()
    _, facts = stored()
    assert facts["numpy"][1] == 1, "of three numbers the fourth waits"
    assert facts["numpy"][2] == np.random.standard_normal()
    assert facts["python"][1] == random.gauss(0, 1)


def test_what_a_checkpoint_lacks_is_left_alone() -> None:
    tensors, facts = stored()
    expected = np.random.get_state()[1].tolist()
    np.random.seed(5)
    mine = np.random.get_state()[1].tolist()
    random_states.load_random_states(tensors, {})
    random_states.load_random_states(tensors, {"python": facts["python"]})
    assert np.random.get_state()[1].tolist() == mine != expected


def test_another_algorithm_in_numpys_place_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "get_state", lambda legacy: {"bit_generator": "PCG64"})
    tensors, facts = stored()
    assert sorted(tensors) == ["random.python"]
    assert sorted(facts) == ["python"]

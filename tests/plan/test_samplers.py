from itertools import pairwise

import numpy as np
import pytest

from fasttail.errors import UserError
from fasttail.plan.samplers import SAMPLERS, parse, progress, schedule

COUNTS = np.array([900, 100, 25, 4])


@pytest.mark.parametrize("name", [*SAMPLERS, "power:0.3", "power:-1", "deferred:5"])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_probabilities_are_positive_and_sum_to_one(name, t):
    p_C = parse(name, epochs=10)(COUNTS, t)
    assert p_C.dtype == np.float64
    assert (p_C > 0).all()
    assert p_C.sum() == pytest.approx(1, abs=1e-12)


def test_the_samplers_are_the_papers():
    def p(name, t=0.0):
        return parse(name, epochs=10)(COUNTS, t)

    np.testing.assert_allclose(p("instance"), COUNTS / 1029)
    np.testing.assert_allclose(p("class"), [0.25] * 4)
    np.testing.assert_allclose(p("sqrt"), np.array([30, 10, 5, 2]) / 47)
    np.testing.assert_allclose(p("progressive", 0.3), 0.7 * COUNTS / 1029 + 0.3 * 0.25)
    weights = np.power([900.0, 100.0, 25.0, 4.0], 0.3)
    np.testing.assert_allclose(p("power:0.3"), weights / weights.sum())


@pytest.mark.parametrize(("name", "same"), [("0", "class"), ("0.5", "sqrt"), ("1", "instance")])
def test_powers_of_0_a_half_and_1_have_names(name, same):
    assert (parse(f"power:{name}", 1)(COUNTS, 0.0) == SAMPLERS[same](COUNTS, 0.0)).all()


def test_progress_runs_from_0_in_the_first_epoch_to_1_in_the_last():
    assert [progress(e, 5) for e in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert progress(0, 1) == 0


def test_progressive_goes_from_instance_to_class_balanced():
    p = schedule("progressive", COUNTS, epochs=90)
    assert (p(0) == SAMPLERS["instance"](COUNTS, 0)).all()
    assert (p(89) == SAMPLERS["class"](COUNTS, 0)).all()
    heads = [p(e)[0] for e in range(90)]
    assert all(a > b for a, b in pairwise(heads))


@pytest.mark.parametrize("epochs", [1, 2, 7, 200])
def test_deferred_steps_exactly_at_its_epoch(epochs):
    for start in {0, epochs // 2, epochs - 1, epochs}:
        p = schedule(f"deferred:{start}", COUNTS, epochs)
        for epoch in range(epochs):
            balanced = (p(epoch) == 0.25).all()
            assert balanced == (epoch >= start)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sqr", "did you mean 'sqrt'"),
        ("power", "choose from instance, class, sqrt, progressive, power:Q, deferred:EPOCH"),
        ("power:", "exponent"),
        ("power:two", "exponent"),
        ("power:nan", "exponent"),
        ("power:9", "exponent"),
        ("deferred:11", "0 to 10"),
        ("deferred:2.5", "0 to 10"),
        ("deferred:-1", "0 to 10"),
    ],
)
def test_names_that_are_none_are_told_in_one_line(name, said):
    with pytest.raises(UserError, match=said) as raised:
        parse(name, epochs=10)
    assert "\n" not in str(raised.value)

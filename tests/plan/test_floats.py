import math

import numpy as np
import pytest

from fasttail.plan.floats import exp, log, power


def test_the_written_out_exponential_is_exact_to_thirteen_digits():
    for x in np.linspace(-4, 4, 1001):
        assert exp(x) == pytest.approx(math.exp(x), rel=1e-13)


def test_the_written_out_logarithm_is_exact_to_fourteen_digits():
    for x in [2.0**-33, 1e-300, 0.5, np.nextafter(0.5, 0), 1.0, *np.geomspace(1e-10, 1e10, 999)]:
        assert log(x) == pytest.approx(math.log(x), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0, 1.7, 5.0, 25.0])
def test_the_written_out_power_is_exact_to_eleven_digits(exponent: float):
    for base in np.geomspace(2.0**-33, 1.0, 501):
        assert power(base, exponent) == pytest.approx(base**exponent, rel=1e-11)
    assert power(2.0**-33, 100.0) == 0.0

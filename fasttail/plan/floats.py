"""exp, log and powers written out: C libraries disagree about their last bits, and a plan is the
same on every machine."""

import math

import numpy as np

from fasttail.plan.compiled import inline

_LN_2 = 0.6931471805599453


@inline
def exp(x):
    """e^x for |x| <= 4, to about 1e-14: the Taylor series at x / 8, to the eighth power."""
    y = x * 0.125
    total = 1.0
    for i in range(14, 0, -1):
        total = 1.0 + y * total / i
    total *= total
    total *= total
    return total * total


@inline
def log(x):
    """The natural logarithm of x > 0, to about 1e-15: x is m 2^e with m in 1/2..1, and log m the
    series of 2 artanh((m - 1) / (m + 1))."""
    m, e = math.frexp(x)
    s = (m - 1.0) / (m + 1.0)
    total = 0.0
    for i in range(35, 0, -2):
        total = total * s * s + 1.0 / i
    return e * _LN_2 + 2.0 * s * total


@inline
def power(base, exponent):
    """base^exponent for a base in (0, 1] and an exponent >= 0, to about 1e-11; 0 where it is less
    than 1e-300."""
    x = exponent * log(base)
    if x < -690.0:
        return 0.0
    halvings = 0
    while x < -4.0:
        x *= 0.5
        halvings += 1
    total = exp(np.float64(x))
    for _ in range(halvings):
        total *= total
    return total

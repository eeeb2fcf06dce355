"""fasttail: long-tailed image recognition whose input side is never the bottleneck.

An epoch is a plan, and a plan is a pure function of (seed, epoch, position): see `fasttail.plan`.
"""

__version__ = "0.1.0"

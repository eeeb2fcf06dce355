"""An epoch is a plan, and a plan is a pure function of (seed, epoch, position).

    samplers.py   class counts, progress -> class probabilities
    quotas.py     class probabilities -> whole numbers of draws, exact over epochs
    permute.py    a keyed permutation of 0..n-1 in O(1)
    random.py     keys, and random words from a counter
    floats.py     exp, log and powers, the same on every machine
    orders.py     position -> sample id: exact quotas, or i.i.d.
    official.py   the same in the orders of the authors' code
    view.py       position -> box, flip, jitter (boxes.py, jitter.py)
    mixing.py     position -> how it is mixed with its neighbour: mixup, CutMix
    epoch.py      step -> batch, for one rank
    labels.py     the order by itself, over labels alone
    cursor.py     where an iteration over epochs stands
    compiled.py   numba, and where its compiled code is kept
    contract.py   what a plan hands to an engine

docs/plan.md explains the whole with a picture. Nothing here imports torch.
"""

from fasttail.plan.epoch import EvalEpoch, OrderEpoch, TrainEpoch
from fasttail.plan.labels import order
from fasttail.plan.view import View

__all__ = ["EvalEpoch", "OrderEpoch", "TrainEpoch", "View", "order"]

from dataclasses import replace

import numpy as np
import pytest

from fasttail.errors import UserError
from fasttail.plan.locality import SLIDES, PagedOrder, Pages
from fasttail.plan.orders import Epoch, QuotaOrder
from fasttail.plan.samplers import SAMPLERS

PAGES = Pages(page_bytes=400_000, window_bytes=100_000_000)


def epoch_of(split, number: int = 0, batch_size: int = 50) -> Epoch:
    return Epoch(0, number, len(split.labels_N) // batch_size, batch_size)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("number", [0, 3])
def test_the_draws_are_those_of_the_plain_order(name, number, long_tail):
    p_C, epoch = SAMPLERS[name](long_tail.counts_C, 0.5), epoch_of(long_tail, number)
    paged = PagedOrder(long_tail, p_C, epoch, PAGES)
    ids_B, classes_B = paged.draw(0, epoch.total)
    plain_B, _ = QuotaOrder(long_tail, p_C, epoch).draw(0, epoch.total)
    assert (np.sort(ids_B) == np.sort(plain_B)).all()
    assert (long_tail.labels_N[ids_B] == classes_B).all()
    assert not (ids_B == plain_B).all()


def test_any_piece_is_the_same_whichever_way_it_is_asked_for(long_tail):
    p_C, epoch = SAMPLERS["sqrt"](long_tail.counts_C, 0), epoch_of(long_tail)
    whole, _ = PagedOrder(long_tail, p_C, epoch, PAGES).draw(0, epoch.total)
    order = PagedOrder(long_tail, p_C, epoch, PAGES)
    for first in np.random.default_rng(0).integers(0, epoch.total - 77, 20):
        assert (order.draw(int(first), 77)[0] == whole[first : first + 77]).all()


def test_a_page_is_in_use_for_one_window_and_resident_classes_always(long_tail):
    p_C, epoch = SAMPLERS["class"](long_tail.counts_C, 0), epoch_of(long_tail)
    pages = Pages(page_bytes=200_000, window_bytes=400_000_000)
    order = PagedOrder(long_tail, p_C, epoch, pages)
    ids_B, classes_B = order.draw(0, epoch.total)
    resident_B = order.resident_C[classes_B]
    assert order.resident_C.any()
    assert not order.resident_C.all()
    bytes_N = long_tail.sizes_N
    assert bytes_N[order.resident_C[long_tail.labels_N]].sum() <= pages.resident_bytes

    page_B = np.searchsorted(order.page_starts_P1, ids_B, side="right") - 1
    live = []
    for page in np.unique(page_B[~resident_B]):
        at = np.flatnonzero((page_B == page) & ~resident_B)
        live.append((at[0], at[-1]))
    # pages in use at the same time fit in the window
    most = max(sum(first <= t <= last for first, last in live) for t in range(0, epoch.total, 500))
    assert most * pages.page_bytes <= pages.window_bytes - pages.resident_bytes + SLIDES * 400_000
    assert most < len(live) / 2
    # resident classes' draws are spread as in the plain order: half in each half of the epoch
    half = np.bincount(classes_B[: epoch.total // 2], minlength=200)[order.resident_C]
    drawn = np.bincount(classes_B, minlength=200)[order.resident_C]
    assert np.abs(half / drawn - 0.5).mean() < 0.1


def test_a_window_that_holds_everything_is_still_the_whole_epoch(long_tail):
    p_C, epoch = SAMPLERS["class"](long_tail.counts_C, 0), epoch_of(long_tail)
    order = PagedOrder(long_tail, p_C, epoch, Pages(10**9, 10**12))
    ids_B, _ = order.draw(0, epoch.total)
    plain_B, _ = QuotaOrder(long_tail, p_C, epoch).draw(0, epoch.total)
    assert (np.sort(ids_B) == np.sort(plain_B)).all()


def test_a_window_must_hold_some_pages():
    with pytest.raises(UserError, match="48 pages or more"):
        Pages(page_bytes=8 << 20, window_bytes=16 << 20)


def test_a_table_out_of_order_is_refused(long_tail):
    split = replace(long_tail, samples_N=long_tail.samples_N[::-1].copy())
    with pytest.raises(UserError, match="ascend"):
        PagedOrder(split, SAMPLERS["sqrt"](long_tail.counts_C, 0), epoch_of(split), PAGES)


@pytest.mark.parametrize(
    ("column", "value"),
    [("labels_N", 200), ("labels_N", -1), ("sizes_N", -5), ("sizes_N", 2**63 - 1)],
)
def test_a_label_or_size_that_cannot_be_is_refused_before_it_is_used(long_tail, column, value):
    damaged = getattr(long_tail, column).copy()
    damaged[7] = value
    split = replace(long_tail, **{column: damaged})
    with pytest.raises(UserError, match=r"table is damaged.*fasttail verify"):
        PagedOrder(split, SAMPLERS["sqrt"](long_tail.counts_C, 0), epoch_of(split), PAGES)

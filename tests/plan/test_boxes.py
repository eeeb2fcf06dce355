import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import ColorJitter, RandomCrop, RandomResizedCrop

from fasttail.errors import UserError
from fasttail.plan import View

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
CROP = View.random_resized_crop(224, SCALE, RATIO, flip_p=0.5)


def boxes_of(view: View, height: int, width: int, count: int, seed: int = 0) -> np.ndarray:
    sizes = (np.full(count, side, dtype=np.int32) for side in (height, width))
    return view.at(seed, epoch=0).boxes(0, *sizes)


@pytest.mark.parametrize("scale", [SCALE, (0.2, 0.5)])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (64, 400), (32, 32)])
def test_random_resized_crops_have_torchvisions_distribution(height, width, scale):
    count = 6_000
    torch.manual_seed(1)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(scale), list(RATIO)) for _ in range(count)]
    )
    view = View.random_resized_crop(224, scale, RATIO, flip_p=0)
    ours = boxes_of(view, height, width, count)[:, [0, 1, 2, 3]]
    columns = {
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
        "height": lambda b: b[:, 2],
        "width": lambda b: b[:, 3],
        "area": lambda b: b[:, 2] * b[:, 3],
        "ratio": lambda b: b[:, 3] / b[:, 2],
        "right": lambda b: b[:, 1] + b[:, 3],
        "place": lambda b: b[:, 0] * 3 + b[:, 1] * 7,
    }
    for name, column in columns.items():
        assert stats.ks_2samp(column(ours), column(theirs)).pvalue > 1e-4, name
    # and the test would see a crop that is off by a tenth
    shrunk = ours[:, 2] * ours[:, 3] * 0.9
    assert stats.ks_2samp(shrunk, columns["area"](theirs)).pvalue < 1e-4


@pytest.mark.parametrize(("height", "width"), [(1000, 10), (10, 1000), (3, 100), (100, 1), (1, 1)])
def test_what_fits_ten_times_in_no_way_falls_back_as_torchvision_does(height, width):
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], list(RATIO))
    view = View.random_resized_crop(224, (1.0, 1.0), RATIO, flip_p=0)
    assert boxes_of(view, height, width, 3).tolist() == [list(theirs)] * 3


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 70_000),
    st.integers(1, 70_000),
    st.floats(0.001, 1),
    st.floats(0.001, 1),
    st.floats(0.02, 50),
    st.floats(0.02, 50),
    st.integers(0, 2**40),
)
def test_random_resized_crops_lie_within_the_image(height, width, s0, s1, r0, r1, first):
    view = View.random_resized_crop(8, tuple(sorted((s0, s1))), tuple(sorted((r0, r1))), flip_p=0)
    sizes = (np.full(20, side, dtype=np.int32) for side in (height, width))
    top, left, h, w = view.at(0, 0).boxes(first, *sizes).T
    assert (h >= 1).all()
    assert (w >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


def test_crops_hang_on_the_position_not_on_the_batch_they_come_in():
    heights_B, widths_B = np.random.default_rng(0).integers(20, 600, (2, 64)).astype(np.int32)
    draw = CROP.at(3, 5)
    whole = draw.boxes(100, heights_B, widths_B)
    parts = [
        draw.boxes(100 + i, heights_B[i : i + 16], widths_B[i : i + 16]) for i in range(0, 64, 16)
    ]
    assert (np.concatenate(parts) == whole).all()
    for other in (CROP.at(5, 3), CROP.at(3, 6), CROP.at(4, 5)):
        assert (other.boxes(100, heights_B, widths_B) != whole).any(axis=1).sum() > 50


def test_an_image_drawn_again_and_again_gets_another_crop_each_time():
    assert len(np.unique(boxes_of(CROP, 375, 500, 34), axis=0)) == 34


def test_crops_and_jitter_stay_what_they_are_when_flips_are_switched_off():
    plain = View.random_resized_crop(224, SCALE, RATIO, flip_p=0)
    assert (boxes_of(plain, 375, 500, 50) == boxes_of(CROP, 375, 500, 50)).all()
    assert not plain.at(0, 0).flips(0, 50).any()
    assert CROP.at(0, 0).flips(0, 50).any()


@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
def test_flips_come_as_often_as_asked(probability):
    view = View.random_crop(32, 4, flip_p=probability)
    flips_B = view.at(0, 1).flips(0, 20_000)
    assert stats.binomtest(int(flips_B.sum()), 20_000, probability).pvalue > 1e-3


def test_random_crops_with_padding_are_even_over_torchvisions_range():
    boxes_B4 = boxes_of(View.random_crop(32, padding=4, flip_p=0.5), 32, 32, 40_000)
    assert (boxes_B4[:, 2:] == 32).all()
    cells = np.zeros((9, 9), dtype=np.int64)
    np.add.at(cells, (boxes_B4[:, 0] + 4, boxes_B4[:, 1] + 4), 1)
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3
    padded = torch.empty(3, 40, 40)
    tops = {RandomCrop.get_params(padded, (32, 32))[0] - 4 for _ in range(500)}
    assert tops == set(range(-4, 5))


def test_an_image_too_small_to_crop_is_centred():
    view = View.random_crop(32, padding=2, flip_p=0)
    assert boxes_of(view, 20, 40, 1)[0, [0, 2, 3]].tolist() == [-6, 32, 32]


def torchvisions_center(height: int, width: int, out: int, resize: int) -> tuple[float, ...]:
    """Resize(resize), CenterCrop(out) of torchvision, as (top, left, bottom, right) in pixels of
    the image before resizing."""
    short, long = min(height, width), max(height, width)
    new_long = int(resize * long / short)
    new_h, new_w = (new_long, resize) if height > width else (resize, new_long)
    top, left = round((new_h - out) / 2), round((new_w - out) / 2)
    y, x = height / new_h, width / new_w
    return top * y, left * x, (top + out) * y, (left + out) * x


@settings(max_examples=300, deadline=None)
@given(
    st.integers(20, 4000),
    st.integers(20, 4000),
    st.sampled_from([(224, 256), (224, 224), (32, 40)]),
)
def test_centre_boxes_are_torchvisions_to_an_output_pixel_and_a_stored_one(height, width, sizes):
    out, resize = sizes
    box = boxes_of(View.center(out, resize), height, width, 1)[0]
    top, left, h, w = map(int, box)
    assert h == w
    assert top >= 0
    assert left >= 0
    assert top + h <= height
    assert left + w <= width
    output_px = min(height, width) / resize
    theirs = torchvisions_center(height, width, out, resize)
    for our_edge, their_edge in zip((top, left, top + h, left + w), theirs, strict=True):
        assert abs(our_edge - their_edge) <= output_px + 1


def test_a_centre_box_of_a_usual_image_is_what_one_expects():
    assert boxes_of(View.center(224, 256), 375, 500, 1)[0].tolist() == [23, 86, 328, 328]
    assert boxes_of(View.center(32, 32), 32, 32, 1)[0].tolist() == [0, 0, 32, 32]


def test_the_whole_view_is_the_whole_image():
    assert boxes_of(View.whole(64), 10, 20, 2).tolist() == [[0, 0, 10, 20]] * 2


def test_height_and_width_may_differ():
    assert View.center((100, 200), 200).out_hw == (100, 200)
    assert boxes_of(View.center((100, 200), 200), 400, 600, 1)[0].tolist() == [100, 100, 200, 400]
    with pytest.raises(UserError, match="resize_px"):
        View.center((100, 200), 150)
    boxes_B4 = boxes_of(View.random_crop((20, 30), padding=2, flip_p=0), 32, 40, 2000)
    assert (boxes_B4[:, 2:] == (20, 30)).all()
    assert boxes_B4[:, :2].min(0).tolist() == [-2, -2]
    assert boxes_B4[:, :2].max(0).tolist() == [32 + 2 - 20, 40 + 2 - 30]


def test_jitter_has_torchvisions_distribution():
    strengths, count = (0.4, 0.3, 1.5, 0.1), 20_000
    jitter = View.random_crop(32, 4, 0.5, strengths).at(0, 0).jitters(0, count)
    assert jitter is not None
    theirs = ColorJitter(*strengths)
    ranges = (theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue)
    for i, (low, high) in enumerate(ranges):
        factors_B = jitter.factors_B4[:, i]
        assert stats.kstest(factors_B, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert jitter.factors_B4.dtype == np.float32
    orders = jitter.order_B4.astype(int) @ (64, 16, 4, 1)
    values, counts = np.unique(orders, return_counts=True)
    assert len(values) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (np.sort(jitter.order_B4, axis=1) == np.arange(4)).all()
    assert abs(np.corrcoef(jitter.factors_B4.T) - np.eye(4)).max() < 0.03


def test_jitter_of_no_strength_is_none():
    assert View.random_crop(32, 4, 0.5, (0, 0, 0, 0)).at(0, 0).jitters(0, 5) is None
    assert View.whole(32).at(0, 0).jitters(0, 5) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: View.random_resized_crop(0, SCALE, RATIO, 0.5), "out_px"),
        (lambda: View.random_resized_crop(8, (0.5, 0.1), RATIO, 0.5), "scale"),
        (lambda: View.random_resized_crop(8, (0.0, 1.0), RATIO, 0.5), "scale"),
        (lambda: View.random_resized_crop(8, (0.1, 1.1), RATIO, 0.5), "scale"),
        (lambda: View.random_resized_crop(8, SCALE, (2.0, 1.0), 0.5), "ratio"),
        (lambda: View.random_resized_crop(8, SCALE, (0.0, 1.0), 0.5), "ratio"),
        (lambda: View.random_resized_crop(8, SCALE, RATIO, 1.5), "flip_p"),
        (lambda: View.random_crop(8, -1, 0.5), "padding"),
        (lambda: View.random_crop(8, 1, 0.5, (0.1, 0.1, 0.1, 0.6)), "jitter"),
        (lambda: View.random_crop(8, 1, 0.5, (-0.1, 0.1, 0.1, 0.1)), "jitter"),
        (lambda: View.center(224, 200), "resize_px"),
    ],
)
def test_views_that_make_no_sense_are_told_in_one_line(make, said):
    with pytest.raises(UserError, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)

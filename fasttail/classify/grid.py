"""Predictions under every tau of a grid, for little more than one product with the features.

Rescaling a class's weights rescales its logits: logits(tau)_j = (w_j x) |w_j|^-tau + b_j. So the
product is taken once for the whole grid; what is left, an argmax over all logits a tau, is done
while a block of products is in the processor's cache.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fasttail.classify.features import Features
from fasttail.plan.compiled import kernel

ROWS = 8_192  # a product's, so that logits [N, C] never stand whole
TILE = 256  # rows whose products, 1 MB for 1,000 classes, stay in a core's cache over the grid


def predict_over_grid(
    weight_CD: Tensor, bias_C: Tensor, bank: Features, grid_T: np.ndarray
) -> np.ndarray:
    """The class of every row for each tau, int32 [T, N]; of equal logits the first class's."""
    norm_C = weight_CD.norm(dim=1)
    norm_C = torch.where(norm_C > 0, norm_C, 1)
    scales_TC = torch.stack([norm_C**-tau for tau in grid_T.tolist()])
    # On the device until the end, so that a GPU is waited for once.
    shape = (len(grid_T), len(bank))
    predicted_TN = torch.empty(shape, dtype=torch.int32, device=bank.device)
    best = _best_on_cpu if bank.device.type == "cpu" else _best_by_torch
    start = 0
    for features_BD, _ in bank.blocks(ROWS):
        stop = start + len(features_BD)
        best(features_BD, weight_CD, scales_TC, bias_C, predicted_TN[:, start:stop])
        start = stop
    return predicted_TN.cpu().numpy()


def _best_by_torch(
    features_BD: Tensor, weight_CD: Tensor, scales_TC: Tensor, bias_C: Tensor, out_TB: Tensor
) -> None:
    products_BC = features_BD @ weight_CD.T
    for scale_C, out_B in zip(scales_TC, out_TB, strict=True):
        out_B.copy_(torch.addcmul(bias_C, products_BC, scale_C).argmax(1))


def _best_on_cpu(
    features_BD: Tensor, weight_CD: Tensor, scales_TC: Tensor, bias_C: Tensor, out_TB: Tensor
) -> None:
    # Classes first: neighbours in memory are neighbouring rows, which the kernel does side by side.
    products_CB = (weight_CD @ features_BD.T).numpy()
    scales, bias = scales_TC.numpy(), bias_C.detach().numpy()

    def tile(start: int) -> None:
        stop = start + TILE
        best_classes(np.ascontiguousarray(products_CB[:, start:stop]), scales, bias,
                     out_TB[:, start:stop].numpy())  # fmt: skip

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(tile, range(0, products_CB.shape[1], TILE)))


@kernel
def best_classes(products_CB, scales_TC, bias_C, out_TB):
    classes, rows = products_CB.shape
    best_B = np.empty(rows, np.float32)
    class_B = np.empty(rows, np.int32)
    for t in range(len(scales_TC)):
        best_B[:] = -np.inf
        class_B[:] = 0
        for c in range(classes):
            scale, bias = scales_TC[t, c], bias_C[c]
            for b in range(rows):
                logit = products_CB[c, b] * scale + bias
                higher = logit > best_B[b]
                best_B[b] = logit if higher else best_B[b]
                class_B[b] = c if higher else class_B[b]
        out_TB[t] = class_B

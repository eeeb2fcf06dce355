"""Class-balanced classifiers on stored features, of CLIP, DINO or anything:

python examples/clip_features.py train.npz test.npz [--val val.npz]

Each file has `features` [N, D] and `labels` [N]:
np.savez("train.npz", features=model.encode_image(...).numpy(), labels=labels)
"""

import argparse

import numpy as np

from fasttail import fit_heads

parser = argparse.ArgumentParser()
parser.add_argument("train")
parser.add_argument("test")
parser.add_argument("--val")
args = parser.parse_args()


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        return file["features"], file["labels"]


val = read(args.val) if args.val else None
heads = fit_heads(*read(args.train), ("joint", "crt", "tau", "lws", "ncm", "logit-adjust"), val=val)

print(f"{'':14}" + "".join(f"{group:>8}" for group in ("many", "medium", "few", "all")))
for method, head in heads.items():
    row = head.report(*read(args.test))
    values = (row[key] for key in ("many", "medium", "few", "all_macro"))
    print(f"{method:14}" + "".join(f"{'-' if v is None else f'{v:.1f}':>8}" for v in values))

weight_CD, bias_C = heads["crt"].linear  # for torch.nn.Linear, scikit-learn, a vector database
np.savez("crt.npz", weight=weight_CD, bias=bias_C)

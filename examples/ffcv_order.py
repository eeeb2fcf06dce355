"""Balanced classes in a stock FFCV Loader: python examples/ffcv_order.py shards/x/train-00000.beton

Any .beton will do that has the fields image and label.
"""

import argparse

import torch
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader
from ffcv.transforms import Squeeze, ToTensor
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from fasttail.integrations.ffcv import Order

parser = argparse.ArgumentParser()
parser.add_argument("beton")
parser.add_argument("--px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--epochs", type=int, default=90)
args = parser.parse_args()

loader = Loader(
    args.beton,
    batch_size=args.batch_size,
    num_workers=2,
    order=Order("progressive", epochs=args.epochs),
    pipelines={
        "image": [RandomResizedCropRGBImageDecoder((args.px, args.px)), ToTensor()],
        "label": [IntDecoder(), ToTensor(), Squeeze()],
    },
)
num_classes = int(loader.reader.metadata["f1"].max()) + 1
model = resnet18(num_classes=num_classes)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(args.epochs):
    drawn_C = torch.zeros(num_classes, dtype=torch.int64)
    for images, labels in loader:
        loss = cross_entropy(model(images.permute(0, 3, 1, 2).float() / 255), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        drawn_C += labels.bincount(minlength=num_classes)
    print(f"epoch {epoch}: loss {loss.item():.3f}, drawn {drawn_C.tolist()}")

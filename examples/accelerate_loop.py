"""The sampler under accelerate:

accelerate launch --num_processes 2 examples/accelerate_loop.py my-images/train

accelerate shares each batch out by itself (`split_batches`), so the sampler gives whole ones: rank
0 of 1.
"""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from fasttail import BalancedBatchSampler

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=256, help="over all processes")
parser.add_argument("--epochs", type=int, default=90)
args = parser.parse_args()

accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
see = transforms.Compose([transforms.RandomResizedCrop(args.px), transforms.ToTensor()])
dataset = ImageFolder(args.folder, see)
sampler = BalancedBatchSampler(
    dataset.targets, "class", batch_size=args.batch_size, rank=0, world_size=1
)
model = resnet18(num_classes=len(dataset.classes))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model, optimizer, loader = accelerator.prepare(
    model, optimizer, DataLoader(dataset, batch_sampler=sampler)
)
for epoch in range(args.epochs):
    drawn_C = torch.zeros(len(dataset.classes), dtype=torch.int64, device=accelerator.device)
    for images, labels in loader:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        drawn_C += labels.bincount(minlength=len(drawn_C))
    drawn_C = accelerator.reduce(drawn_C, "sum")
    accelerator.print(f"epoch {epoch}: loss {loss.item():.3f}, drawn {drawn_C.tolist()}")
accelerator.end_training()

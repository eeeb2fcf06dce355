"""One's own Dataset in torch's DataLoader, its classes balanced exactly:

python examples/sampler_only.py my-images/train

Lines marked `# fasttail` are not those of a loop with shuffled images.
"""

import argparse

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from fasttail import BalancedBatchSampler  # fasttail

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--epochs", type=int, default=90)
parser.add_argument("--workers", type=int, default=4)
args = parser.parse_args()

see = transforms.Compose([transforms.RandomResizedCrop(args.px), transforms.ToTensor()])
dataset = ImageFolder(args.folder, see)
sampler = BalancedBatchSampler(dataset.targets, "sqrt", batch_size=args.batch_size)  # fasttail
loader = DataLoader(dataset, batch_sampler=sampler, num_workers=args.workers)  # fasttail

num_classes = len(dataset.classes)
model = resnet18(num_classes=num_classes)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(args.epochs):
    drawn_C = torch.zeros(num_classes, dtype=torch.int64)
    for images, labels in loader:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        drawn_C += labels.bincount(minlength=num_classes)
    print(f"epoch {epoch}: loss {loss.item():.3f}, drawn {drawn_C.tolist()}")

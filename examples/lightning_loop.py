"""The sampler under Lightning's DDP: python examples/lightning_loop.py my-images/train --devices 2

`use_distributed_sampler=False`: the sampler knows its rank itself. It is made in
`train_dataloader`, when the processes are connected. (This file is not called lightning.py, or it
would be what `import lightning` finds.)
"""

import argparse

import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from fasttail import BalancedBatchSampler


class Classifier(lightning.LightningModule):
    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        see = transforms.Compose([transforms.RandomResizedCrop(args.px), transforms.ToTensor()])
        self.args, self.dataset = args, ImageFolder(args.folder, see)
        self.model = resnet18(num_classes=len(self.dataset.classes))

    def train_dataloader(self):
        targets, batch_size = self.dataset.targets, self.args.batch_size
        sampler = BalancedBatchSampler(targets, "class", batch_size=batch_size)
        return DataLoader(self.dataset, batch_sampler=sampler)

    def on_train_epoch_start(self):
        self.drawn_C = torch.zeros(len(self.dataset.classes), device=self.device)

    def training_step(self, batch, _):
        images, labels = batch
        self.drawn_C += labels.bincount(minlength=len(self.drawn_C))
        return cross_entropy(self.model(images), labels)

    def on_train_epoch_end(self):
        drawn_C = self.all_gather(self.drawn_C).reshape(-1, len(self.drawn_C)).sum(0)
        self.print(f"epoch {self.current_epoch}: drawn {drawn_C.int().tolist()}")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=256, help="over all processes")
parser.add_argument("--epochs", type=int, default=90)
parser.add_argument("--devices", type=int, default=1)
if __name__ == "__main__":
    args = parser.parse_args()
    lightning.Trainer(
        max_epochs=args.epochs, devices=args.devices, use_distributed_sampler=False
    ).fit(Classifier(args))

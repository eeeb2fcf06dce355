"""Plain DDP over shards; started again, it goes on from its checkpoint, in the middle of an epoch:

torchrun --nproc-per-node 2 examples/ddp_loader.py shards/mine

Lines marked `# fasttail` are not those of a loop over torch's own DataLoader.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18

from fasttail import Loader, open_shards  # fasttail

parser = argparse.ArgumentParser()
parser.add_argument("shards")
parser.add_argument("--px", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=256, help="over all processes")
parser.add_argument("--epochs", type=int, default=90)
parser.add_argument("--save-every", type=int, default=1000, help="steps")
args = parser.parse_args()
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
shards = open_shards(args.shards)  # fasttail
classes = len(shards.class_names)  # fasttail
loader = Loader(  # fasttail
    shards, "train", sampler="class", batch_size=args.batch_size, px=args.px, epochs=args.epochs
)
model = resnet18(num_classes=classes).to(loader.device, memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
parts = {"model": model, "optimizer": optimizer, "loader": loader}
if (checkpoint := Path("checkpoint.pt")).exists():
    saved = torch.load(checkpoint, map_location=loader.device)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
network = DistributedDataParallel(model)
for epoch in range(loader.epoch, args.epochs):
    drawn_C = torch.zeros(classes, dtype=torch.int64, device=loader.device)
    for step, (images, labels) in enumerate(loader, 1):
        loss = cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        drawn_C += labels.bincount(minlength=classes)
        if step % args.save_every == 0 and dist.get_rank() == 0:
            torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    dist.all_reduce(drawn_C)
    if dist.get_rank() == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f}, drawn {drawn_C.tolist()}", flush=True)
        torch.save(model.state_dict(), "model.pt")
loader.close()
del network  # before its process group, or torch may abort as the process ends
dist.destroy_process_group()

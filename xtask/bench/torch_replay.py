"""PyTorch on the very batches, and from the very weights, of a run of `experiment resnet18`.

    cargo run --release -p candle-vision-data --example save_batches -- \
        data/hymenoptera_data 0 6 BATCHES
    cargo xtask experiment resnet18 --seed 0 --epochs 1 --set training.optimizer.lr=1e-30
    python xtask/bench/torch_replay.py BATCHES data/weights/resnet18.safetensors \
        runs/resnet18/NNN/last.safetensors [float64 | channels_last]

The run at a rate of next to nothing is there for its `fc`, as it was before the first step. Prints, for each
epoch, the losses and how many of the validation images are right, and saves the weights beside the batches
(`float64_1.safetensors` and so on). Those of the run here after N epochs are `last.safetensors` of `--epochs N`.
"""

import pathlib
import sys

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy


def main(batches, weights, first_run, mode="float32"):
    dtype = torch.float64 if mode == "float64" else torch.float32
    layout = torch.channels_last if mode == "channels_last" else torch.contiguous_format
    model = torchvision.models.resnet18()
    model.load_state_dict(load_file(weights))
    model.fc = torch.nn.Linear(512, 2)
    first = load_file(first_run)
    model.fc.load_state_dict({name: first[f"fc.{name}"] for name in ("weight", "bias")})
    model = model.to(dtype=dtype, memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.1)

    def pairs(path):
        tensors = load_file(path)
        for number in range(len(tensors) // 2):
            images = tensors[f"x{number}"].to(dtype=dtype)
            yield images.contiguous(memory_format=layout), tensors[f"y{number}"]

    folder = pathlib.Path(batches)
    for epoch in range(len(list(folder.glob("train_*.safetensors")))):
        model.train()
        total = count = 0
        for images, labels in pairs(folder / f"train_{epoch}.safetensors"):
            optimizer.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(labels), count + len(labels)
        schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(images).argmax(1) == labels).sum().item()
                for images, labels in pairs(folder / "val.safetensors")
            )
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(state, folder / f"{mode}_{epoch + 1}.safetensors")
        print(f"epoch {epoch + 1}: training loss {total / count:.4f}, {right} right", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Gradients of a whole ResNet18 here and in PyTorch, beside PyTorch's own in float64.

    cargo run --release -p candle-vision-data --example save_batches -- data/hymenoptera_data 0 1 BATCHES
    cargo run --release -p candle-vision-models --example save_gradients -- \
        data/weights/resnet18.safetensors BATCHES/train_0.safetensors BATCHES/gradients.safetensors
    python xtask/bench/torch_gradients.py BATCHES data/weights/resnet18.safetensors

ImageNet weights, training mode, batches of 8. Prints the relative error (norm of the difference over the norm) of the
logits, and over all parameters of all batches the median, the 99th percentile and the largest with its name.
"""

import pathlib
import sys

import torch
import torchvision
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

BATCHES, IMAGES = 4, 8


def computed(batches, weights, dtype, layout):
    found = {}
    for number in range(BATCHES):
        model = torchvision.models.resnet18()
        model.load_state_dict(weights)
        model = model.to(dtype=dtype, memory_format=layout).train()
        images = batches[f"x{number}"][:IMAGES].to(dtype=dtype).contiguous(memory_format=layout)
        logits = model(images)
        cross_entropy(logits, batches[f"y{number}"][:IMAGES]).backward()
        found[f"{number}.logits"] = logits.detach()
        found |= {f"{number}.{name}": p.grad for name, p in model.named_parameters()}
    return found


def errors(found, truth):
    norm = torch.linalg.vector_norm
    return {name: (norm(found[name].double() - true) / norm(true)).item() for name, true in truth.items()}


def main(folder, weights):
    folder = pathlib.Path(folder)
    batches, weights = load_file(folder / "train_0.safetensors"), load_file(weights)
    contiguous, channels_last = torch.contiguous_format, torch.channels_last
    truth = computed(batches, weights, torch.float64, contiguous)
    rows = {
        "here": load_file(folder / "gradients.safetensors"),
        "PyTorch, `float32`": computed(batches, weights, torch.float32, contiguous),
        "PyTorch, `float32`, channels-last": computed(batches, weights, torch.float32, channels_last),
    }
    print("| relative error against PyTorch in `float64` | logits | median | 99th percentile | largest |")
    print("|---|---|---|---|---|")
    for row, found in rows.items():
        each = errors(found, truth)
        logits = max(value for name, value in each.items() if name.endswith("logits"))
        gradients = {name: value for name, value in each.items() if not name.endswith("logits")}
        values = torch.tensor(list(gradients.values()), dtype=torch.float64)
        worst = max(gradients, key=gradients.get)
        print(
            f"| {row} | {logits:.1e} | {values.median():.1e} | {values.quantile(0.99):.1e} "
            f"| {gradients[worst]:.1e} (`{worst.split('.', 1)[1]}`) |"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

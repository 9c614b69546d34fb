#!/usr/bin/env python3
"""Writes the table of torchvision's published ImageNet weights, from the metadata of the installed package.

    python tests/reference/published.py > crates/models/src/networks/torchvision_weights.tsv

The best weights of a network (torchvision's `DEFAULT`) come first.
"""

from torchvision import models
from torchvision.models import get_model_weights, list_models

COLUMNS = ["network", "weights", "file", "accuracy", "top5", "parameters", "gmacs", "mib", "resize", "crop", "interpolation", "smallest", "mean", "std"]


def numbers(values):
    return ",".join(f"{value:g}" for value in values)


print("# " + "\t".join(COLUMNS))
for network in list_models(module=models):
    versions = list(get_model_weights(network))
    default = get_model_weights(network).DEFAULT
    for weights in sorted(versions, key=lambda version: version != default):
        meta, transforms = weights.meta, weights.transforms()
        accuracy = meta["_metrics"]["ImageNet-1K"]
        smallest = meta["min_size"]
        assert smallest[0] == smallest[1] and len(transforms.crop_size) == len(transforms.resize_size) == 1
        assert weights.url.startswith("https://download.pytorch.org/models/")
        print(
            network,
            weights.name,
            weights.url.rsplit("/", 1)[1],
            accuracy["acc@1"],
            accuracy["acc@5"],
            meta["num_params"],
            meta["_ops"],
            meta["_file_size"],
            transforms.resize_size[0],
            transforms.crop_size[0],
            transforms.interpolation.value,
            smallest[0],
            numbers(transforms.mean),
            numbers(transforms.std),
            sep="\t",
        )

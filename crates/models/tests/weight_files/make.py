"""The weights of an `mlp` (input 1x2x2, three classes) in the forms that PyTorch and people write: make.py [FOLDER].

Needs torch and safetensors. Values are exact in every number type, so that one comparison serves all files.
"""
import argparse
import collections
import datetime
import os
import pathlib
import sys
import zipfile

import numpy
import torch

torch.manual_seed(0)
out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)


def numbers(*shape):
    count = int(numpy.prod(shape))
    return ((torch.arange(count) % 61 - 30) / 4).reshape(shape)


weights = collections.OrderedDict(
    [
        ("layer1.weight", numbers(128, 4)),
        ("layer1.bias", numbers(128)),
        ("layer2.weight", numbers(3, 128)),
        ("layer2.bias", numbers(3)),
    ]
)


def renamed(change, tensors=weights):
    return collections.OrderedDict((change(name), tensor) for name, tensor in tensors.items())


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = torch.nn.Linear(4, 128), torch.nn.Linear(128, 3)

    def forward(self, x):
        return self.layer2(self.layer1(x.flatten(1)).relu())


class Evil:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


network = Network()
network.load_state_dict(weights)
optimizer = torch.optim.Adam(network.parameters(), 1e-3)
network(torch.ones(2, 1, 2, 2)).sum().backward()
optimizer.step()
network.load_state_dict(weights)
averaged = {name: tensor * 0 for name, tensor in weights.items()}

one = torch.cat([tensor.flatten() for tensor in weights.values()] + [torch.zeros(7)])
views, at = collections.OrderedDict(), 0
for name, tensor in weights.items():
    views[name] = one[at : at + tensor.numel()].view(tensor.shape)
    at += tensor.numel()

full = {
    "epoch": 3,
    "arch": "mlp",
    "best": torch.tensor(71.2),
    "loss": numpy.float64(0.25),
    "when": datetime.datetime(2024, 1, 2),
    "where": pathlib.PurePosixPath("/tmp"),
    "args": argparse.Namespace(lr=0.1, dtype=torch.float32, device=torch.device("cpu")),
    "rng": numpy.random.get_state(),
    "nothing": None,
    "flags": {1, 2},
    "history": [0.5, 0.25],
    "optimizer": optimizer.state_dict(),
    "model_ema": averaged,
    "state_dict": renamed("module.{}".format),
}

files = {
    "plain.pth": weights,
    "of_module.pth": network.state_dict(),  # With `_metadata`.
    "parameters.pth": dict(network.named_parameters()),
    "state_dict.pth.tar": full,
    "model.bin": {"model": weights},
    "model_state_dict.ckpt": {"model_state_dict": weights, "optimizer_state_dict": optimizer.state_dict()},
    "ema_only.pth": {"state_dict_ema": weights, "epoch": 1},
    "net_params.pth": {"net": {"params": weights}},
    "lightning.ckpt": {"state_dict": {**renamed("model.{}".format), "criterion.weight": torch.ones(3)}, "callbacks": {}},
    "compiled_parallel": renamed("module._orig_mod.{}".format),
    "backbone_and_head.pth": {
        ("backbone." + name if "layer1" in name else name.replace("layer2", "classifier")): tensor
        for name, tensor in weights.items()
    },
    "momentum_twin.pth": {**renamed("encoder_q.{}".format), **renamed("encoder_k.{}".format)},
    "sequential_head.pth": renamed(lambda name: name.replace("layer2.", "layer2.1.")),
    "head_of_two.pth": {
        **{name: tensor for name, tensor in weights.items() if "layer1" in name},
        "fc.0.weight": numbers(64, 128),
        "fc.0.bias": numbers(64),
        "fc.2.weight": numbers(3, 64),
        "fc.2.bias": numbers(3),
    },
    "no_head.pth": {name: tensor for name, tensor in weights.items() if "layer1" in name},
    "half.pth": {name: tensor.half() for name, tensor in weights.items()},
    "bfloat16.pth": {name: tensor.bfloat16() for name, tensor in weights.items()},
    "double.pth": {name: tensor.double() for name, tensor in weights.items()},
    "transposed.pth": {name: tensor.t().contiguous().t() for name, tensor in weights.items()},
    "shared_storage.pth": views,
    "quantized.pth": {**weights, "layer1.weight": torch.quantize_per_tensor(weights["layer1.weight"], 0.1, 0, torch.qint8)},
    "sparse.pth": {**weights, "layer1.weight": weights["layer1.weight"].to_sparse()},
    "complex.pth": {**weights, "layer1.weight": weights["layer1.weight"].to(torch.complex64)},
    "integers.pth": {**weights, "layer1.weight": weights["layer1.weight"].to(torch.int8)},
    "optimizer.pth": optimizer.state_dict(),
    "one_tensor.pth": weights["layer1.weight"],
    "nothing.pth": {"epoch": 3},
    "whole_network.pth": network,
    "whole_in_dictionary.pth": {"epoch": 3, "model": network},
    "evil_system.pth": {"state_dict": weights, "x": Evil((os.system, ("touch /tmp/candle-vision-was-here",)))},
    "evil_eval.pth": {"state_dict": weights, "x": Evil((eval, ("1 + 1",)))},
}
files["types.pth"] = {
    "f64": torch.tensor([1.5, -2.0], dtype=torch.float64),
    "f16": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "i64": torch.tensor([1, -2]),
    "i32": torch.tensor([1, -2], dtype=torch.int32),
    "i16": torch.tensor([1, -2], dtype=torch.int16),
    "i8": torch.tensor([1, -2], dtype=torch.int8),
    "u8": torch.tensor([1, 254], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
    "expanded": torch.tensor([2.5]).expand(2, 3),
    "channels_last": numbers(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    "offset": torch.arange(10.0)[3::2],
}
files["types.pth"]["tied"] = files["types.pth"]["f64"]

for name, content in files.items():
    torch.save(content, out / name)
for protocol in (3, 4, 5):
    torch.save(weights, out / f"protocol{protocol}.pth", pickle_protocol=protocol)
torch.save(full, out / "full_protocol4.pth", pickle_protocol=4)
for name in ("plain", "types", "shared_storage"):
    torch.save(files[f"{name}.pth"], out / f"legacy_{name}.pth", _use_new_zipfile_serialization=False)
torch.save(full, out / "legacy_full.pth.tar", _use_new_zipfile_serialization=False)

def no_source(_):
    raise OSError("the file is to hold no source code, and no paths of the machine that made it")


torch.serialization.get_source_lines_and_file = no_source
torch.save(network, out / "legacy_network.pth", _use_new_zipfile_serialization=False)


def repacked(source, target, method, change=lambda name, content: content):
    """The same archive with other compression or contents."""
    with zipfile.ZipFile(out / source) as old, zipfile.ZipFile(out / target, "w", method) as new:
        for name in old.namelist():
            # Those of TorchScript hold paths of the machine that made it.
            if not name.endswith(".debug_pkl"):
                new.writestr(name, change(name, old.read(name)))


def big_endian(name, content):
    if name.endswith("byteorder"):
        return b"big"
    return numpy.frombuffer(content, "<f4").astype(">f4").tobytes() if "/data/" in name else content


repacked("plain.pth", "big_endian.pth", zipfile.ZIP_STORED, big_endian)
repacked("plain.pth", "deflated.pth", zipfile.ZIP_DEFLATED)
torch.jit.script(network.eval()).save(out / "with_paths.pt")
repacked("with_paths.pt", "torchscript.pt", zipfile.ZIP_STORED)
(out / "with_paths.pt").unlink()

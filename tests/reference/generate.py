#!/usr/bin/env python3
"""Writes the reference values: what PyTorch and its libraries compute on the tensors of `recipe.py`.

    python tests/reference/generate.py --out DIR [GROUP ...]     into one folder, to compare
    python tests/reference/generate.py [GROUP ...]               over the files that lie in the repository

Without a GROUP it writes all of them: ops, schedulers, optimizers, transforms, models, classic, resnet, mobile, mobile_steps,
tokens, training, explain, explain_tokens, initial_values, timm_names, parity. It needs torch, torchvision, safetensors and pillow.
The groups mobile, mobile_steps, tokens, timm_names and parity also need timm, the groups explain and explain_tokens grad-cam and
captum. The group parity needs the weight files in the folder that CANDLE_VISION_DATA names. `README.md` lists the files, the crates
that they belong to, and the versions that made them.
"""

import argparse
import hashlib
import json
import os
import pathlib

import numpy as np
import recipe
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torchvision import models
from torchvision import transforms as T
from torchvision.transforms import functional as TF

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Output:
    """Where the files go: into one folder, or over those of the repository that have the name."""

    def __init__(self, folder):
        self.folder = folder

    def paths(self, name):
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            return [self.folder / name]
        folders = [*REPOSITORY.glob("crates/*/tests/reference"), REPOSITORY / "tests/reference"]
        # What the program itself carries.
        folders += REPOSITORY.glob("crates/*/src/parity")
        found = [folder / name for folder in folders if (folder / name).is_file()]
        if not found:
            raise SystemExit(f"no folder has `{name}`; name one with --out, and move the file to its crate")
        return found

    def tensors(self, name, tensors, metadata=None):
        for path in self.paths(name):
            save_file(tensors, path, metadata)

    def json(self, name, value):
        for path in self.paths(name):
            path.write_text(json.dumps(value, indent=1))


def tensor(array, grad=False):
    result = torch.from_numpy(np.ascontiguousarray(array))
    return result.requires_grad_(grad) if grad else result


def array(value):
    return np.ascontiguousarray(value.detach().numpy() if torch.is_tensor(value) else value)


def image_batch(name, shape, grad=False):
    return tensor(recipe.image_batch(name, shape), grad)


def fill(model, gain=1.0):
    """Gives a network the weights of the recipe."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            # Buffers that are computed, such as Swin's index tables, keep their own values.
            if value.is_floating_point():
                value.copy_(tensor(recipe.weight(name, tuple(value.shape), gain)))
    return model


# Differentiable ops: outputs, and gradients for the output gradient `signed("CASE.grad")`.

CONVOLUTIONS = [
    # name, batch, in, height, width, out, kernel, stride, padding, dilation, groups, bias
    ("conv3x3", 2, 8, 14, 14, 16, 3, 1, 1, 1, 1, False),
    ("conv3x3_s2", 2, 8, 15, 13, 16, 3, 2, 1, 1, 1, False),
    ("conv7x7_s2", 2, 3, 32, 32, 16, 7, 2, 3, 1, 1, False),
    ("conv1x1", 2, 16, 9, 9, 24, 1, 1, 0, 1, 1, True),
    ("conv1x1_s2", 2, 16, 9, 9, 24, 1, 2, 0, 1, 1, False),
    ("conv11x11_s4", 1, 3, 63, 63, 8, 11, 4, 2, 1, 1, True),
    ("conv5x5", 2, 6, 13, 13, 8, 5, 1, 2, 1, 1, True),
    ("conv_dilated", 2, 4, 16, 16, 6, 3, 1, 2, 2, 1, True),
    ("conv_grouped", 2, 8, 12, 12, 12, 3, 1, 1, 1, 4, True),
    ("conv_depthwise", 2, 10, 14, 14, 10, 3, 1, 1, 1, 10, False),
    ("conv_depthwise_s2", 2, 10, 15, 15, 10, 5, 2, 2, 1, 10, False),
    ("conv_patch16", 1, 3, 48, 48, 12, 16, 16, 0, 1, 1, True),
    ("conv_odd", 3, 5, 7, 11, 7, 3, 2, 0, 1, 1, True),
]
MAX_POOLS = [
    # name, batch, channels, height, width, kernel, stride, padding, ceil_mode
    ("maxpool3s2p1", 2, 4, 13, 12, 3, 2, 1, False),
    ("maxpool2", 2, 4, 12, 12, 2, 2, 0, False),
    ("maxpool3s2", 2, 4, 13, 13, 3, 2, 0, False),
    ("maxpool3s2_ceil", 2, 4, 12, 12, 3, 2, 0, True),
    ("maxpool3s1p1", 1, 3, 9, 9, 3, 1, 1, False),
]
AVERAGE_POOLS = [
    # name, batch, channels, height, width, kernel, stride, padding, count_include_pad
    ("avgpool3s1p1", 2, 4, 9, 9, 3, 1, 1, True),
    ("avgpool2", 2, 4, 10, 10, 2, 2, 0, True),
    ("avgpool3s2p1_excl", 2, 4, 9, 9, 3, 2, 1, False),
]
ADAPTIVE_POOLS = [("adaptive1", 7, 5, 1), ("adaptive6_from7", 7, 7, 6), ("adaptive7_from3", 3, 3, 7)]
ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
}
RESIZES = [
    ("bilinear_up", (13, 17), "bilinear", False),
    ("bilinear_down", (4, 3), "bilinear", False),
    ("nearest_up", (13, 17), "nearest", None),
]


def ops(out):
    tensors, cases = {}, []

    def keep(case, **values):
        present = {name: value for name, value in values.items() if value is not None}
        tensors.update({f"{case}.{name}": array(value) for name, value in present.items()})

    def backward(case, y):
        y.backward(tensor(recipe.signed(f"{case}.grad", tuple(y.shape))))

    for case, n, c, h, w, o, k, stride, padding, dilation, groups, has_bias in CONVOLUTIONS:
        x = image_batch(f"{case}.x", (n, c, h, w), True)
        kernel = tensor(recipe.weight(f"{case}.kernel", (o, c // groups, k, k)), True)
        bias = tensor(recipe.weight(f"{case}.bias", (o,)), True) if has_bias else None
        y = F.conv2d(x, kernel, bias, stride, padding, dilation, groups)
        backward(case, y)
        keep(case, y=y, dx=x.grad, dkernel=kernel.grad, dbias=bias.grad if has_bias else None)
        settings = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        shapes = dict(x=[n, c, h, w], kernel=[o, c // groups, k, k], bias=has_bias)
        cases.append(dict(case=case, op="conv2d", **shapes, **settings))

    for case, n, c, h, w, k, stride, padding, ceil in MAX_POOLS:
        x = image_batch(f"{case}.x", (n, c, h, w), True)
        y = F.max_pool2d(x, k, stride, padding, ceil_mode=ceil)
        backward(case, y)
        keep(case, y=y, dx=x.grad)
        settings = dict(kernel=k, stride=stride, padding=padding, ceil_mode=ceil)
        cases.append(dict(case=case, op="max_pool2d", x=[n, c, h, w], **settings))

    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    y = F.max_pool2d(x, 2)
    y.sum().backward()
    keep("maxpool_ties", y=y, dx=x.grad)
    settings = dict(kernel=2, stride=2, padding=0, ceil_mode=False)
    op = "max_pool2d of ones, gradient of the sum"
    cases.append(dict(case="maxpool_ties", op=op, x=[1, 1, 4, 4], **settings))

    for case, n, c, h, w, k, stride, padding, include in AVERAGE_POOLS:
        x = image_batch(f"{case}.x", (n, c, h, w), True)
        y = F.avg_pool2d(x, k, stride, padding, count_include_pad=include)
        backward(case, y)
        keep(case, y=y, dx=x.grad)
        settings = dict(kernel=k, stride=stride, padding=padding, count_include_pad=include)
        cases.append(dict(case=case, op="avg_pool2d", x=[n, c, h, w], **settings))

    for case, h, w, output in ADAPTIVE_POOLS:
        x = image_batch(f"{case}.x", (2, 4, h, w), True)
        y = F.adaptive_avg_pool2d(x, output)
        backward(case, y)
        keep(case, y=y, dx=x.grad)
        cases.append(dict(case=case, op="adaptive_avg_pool2d", x=[2, 4, h, w], output=output))

    for case, train in [("bn_train", True), ("bn_eval", False)]:
        bn = nn.BatchNorm2d(6)
        shapes = {name: tuple(value.shape) for name, value in bn.state_dict().items()}
        # Here the case is a part of the names.
        bn.load_state_dict({n: tensor(recipe.weight(f"{case}.{n}", s)) for n, s in shapes.items()})
        bn.train(train)
        x = tensor(recipe.image_batch(f"{case}.x", (4, 6, 5, 7)) * 2 + 0.5, True)
        y = bn(x)
        backward(case, y)
        statistics = dict(running_mean=bn.running_mean, running_var=bn.running_var)
        keep(case, y=y, dx=x.grad, dweight=bn.weight.grad, dbias=bn.bias.grad, **statistics)
        settings = dict(eps=bn.eps, momentum=bn.momentum, train=train)
        x = "image_batch * 2 + 0.5, [4, 6, 5, 7]"
        cases.append(dict(case=case, op="batch_norm2d", x=x, **settings))

    for case, smoothing, weighted in [("ce", 0.0, False), ("ce_smooth", 0.1, False), ("ce_weighted", 0.0, True)]:
        x = tensor(recipe.image_batch(f"{case}.x", (8, 10)) * 3, True)
        y = tensor(recipe.labels(f"{case}.y", 8, 10))
        weight = (recipe.uniform(f"{case}.class_weight", 10) + 0.5).astype(np.float32)
        weight = tensor(weight) if weighted else None
        loss = F.cross_entropy(x, y, weight=weight, label_smoothing=smoothing)
        loss.backward()
        keep(case, loss=loss.reshape(1), dx=x.grad)
        settings = dict(label_smoothing=smoothing, class_weight="uniform + 0.5" if weighted else None)
        cases.append(dict(case=case, op="cross_entropy", x="image_batch * 3, [8, 10]", **settings))

    for case, activation in ACTIVATIONS.items():
        values = recipe.image_batch(f"{case}.x", (4, 50)) * 3
        values[0, :5] = [0.0, 6.0, 3.0, -3.0, -0.0]
        x = tensor(values.astype(np.float32), True)
        y = activation(x)
        backward(case, y)
        keep(case, y=y, dx=x.grad)
        x = "image_batch * 3, [4, 50], first five of row 0 set to 0, 6, 3, -3, -0"
        cases.append(dict(case=case, op=case, x=x))

    x = image_batch("lrn.x", (2, 8, 5, 5), True)
    y = F.local_response_norm(x, 5)
    backward("lrn", y)
    keep("lrn", y=y, dx=x.grad)
    cases.append(dict(case="lrn", op="local_response_norm", size=5, x=[2, 8, 5, 5]))

    for case, size, mode, corners in RESIZES:
        x = image_batch(f"{case}.x", (2, 3, 6, 7), True)
        y = F.interpolate(x, size=size, mode=mode, align_corners=corners)
        backward(case, y)
        keep(case, y=y, dx=x.grad)
        settings = dict(mode=mode, align_corners=corners, size=size)
        cases.append(dict(case=case, op="interpolate", **settings, x=[2, 3, 6, 7]))

    out.tensors("ops.safetensors", tensors)
    out.json("ops.json", cases)
    attention(out)


ATTENTIONS = [
    # name, batch, tokens, heads, head_dim, scale, bias, windows of the mask
    ("attention", 2, 17, 3, 16, None, False, 0),
    ("attention_bias", 2, 9, 2, 8, None, True, 0),
    ("attention_swin", 6, 49, 3, 32, None, True, 3),
    ("attention_causal", 2, 20, 2, 7, 0.3, False, 1),
    ("attention_one_token", 3, 1, 2, 5, None, False, 0),
    ("attention_one_feature", 1, 33, 1, 1, 2.0, True, 0),
    ("attention_vit", 1, 197, 1, 64, None, False, 0),
]
RESPONSE_NORMS = [
    # name, shape, size, alpha, beta, k
    ("lrn_even", (2, 7, 3, 4), 4, 0.5, 0.75, 1.0),
    ("lrn_alexnet", (1, 16, 3, 3), 5, 0.1, 0.75, 2.0),
    ("lrn_power", (1, 3, 2, 2), 7, 1.0, 0.6, 1.5),
]
CUBIC_RESIZES = [
    # name, input, output, align_corners
    ("bicubic_up", (6, 7), (13, 17), False),
    ("bicubic_down", (6, 7), (4, 3), False),
    ("bicubic_corners", (6, 7), (13, 5), True),
    ("bicubic_of_one", (1, 2), (3, 5), False),
]


def attention(out):
    tensors, cases = {}, []
    for case, batch, tokens, heads, dim, scale, has_bias, windows in ATTENTIONS:
        qkv = image_batch(f"{case}.qkv", (batch, tokens, 3 * heads * dim), True)
        q, k, v = qkv.view(batch, tokens, 3, heads, dim).permute(2, 0, 3, 1, 4).unbind(0)
        square = (tokens, tokens)
        bias = tensor(recipe.signed(f"{case}.bias", (heads, *square)), True) if has_bias else None
        mask = None
        if windows:
            # About a third of the keys is hidden, none of them the token itself.
            hidden = torch.from_numpy(recipe.signed(f"{case}.mask", (windows, *square)) > 0.33)
            hidden &= ~torch.eye(tokens, dtype=torch.bool)
            mask = torch.zeros(windows, *square).masked_fill(hidden, -torch.inf)
        added = torch.zeros(batch, heads, *square)
        if bias is not None:
            added = added + bias
        if mask is not None:
            added = added + mask[torch.arange(batch) % windows].unsqueeze(1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
        y = y.transpose(1, 2).reshape(batch, tokens, heads * dim)
        y.backward(tensor(recipe.signed(f"{case}.grad", tuple(y.shape))))
        tensors[f"{case}.y"], tensors[f"{case}.dqkv"] = array(y), array(qkv.grad)
        if has_bias:
            tensors[f"{case}.dbias"] = array(bias.grad)
        settings = dict(scale=scale, bias=has_bias, windows=windows)
        shape = dict(batch=batch, tokens=tokens, heads=heads, head_dim=dim)
        cases.append(dict(case=case, op="attention", **shape, **settings))

    def one_input(case, x, y):
        y.backward(tensor(recipe.signed(f"{case}.grad", tuple(y.shape))))
        tensors[f"{case}.y"], tensors[f"{case}.dx"] = array(y), array(x.grad)

    for case, shape, size, alpha, beta, k in RESPONSE_NORMS:
        x = image_batch(f"{case}.x", shape, True)
        one_input(case, x, F.local_response_norm(x, size, alpha, beta, k))
        constants = dict(size=size, alpha=alpha, beta=beta, k=k)
        cases.append(dict(case=case, op="local_response_norm", x=shape, **constants))

    for case, before, size, corners in CUBIC_RESIZES:
        x = image_batch(f"{case}.x", (2, 3, *before), True)
        one_input(case, x, F.interpolate(x, size=size, mode="bicubic", align_corners=corners))
        settings = dict(align_corners=corners, size=size)
        cases.append(dict(case=case, op="bicubic", x=[2, 3, *before], **settings))

    out.tensors("attention.safetensors", tensors)
    out.json("attention.json", cases)


# Learning-rate schedules: the rate of each epoch, beginning with the initial one.


def schedulers(out):
    S = torch.optim.lr_scheduler

    def rates(make, epochs, metrics=None, base=0.1):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=base, momentum=0.9)
        scheduler = make(optimizer)
        result = [optimizer.param_groups[0]["lr"]]
        for epoch in range(epochs):
            parameter.grad = torch.zeros(1)
            optimizer.step()
            scheduler.step(metrics[epoch]) if metrics is not None else scheduler.step()
            result.append(optimizer.param_groups[0]["lr"])
        return result

    def plateau(metrics, mode, patience):
        make = lambda o: S.ReduceLROnPlateau(o, mode, factor=0.5, patience=patience)
        return {"metrics": metrics, "lr": rates(make, 40, metrics)}

    falling = 2.0 - np.minimum(np.arange(40), 12) * 0.1 + 0.05 * recipe.uniform("plateau", 40)
    falling = [float(value) for value in falling]
    rising = [-value for value in falling]
    warmup = lambda o: S.LinearLR(o, 0.01, total_iters=5)
    sequential = lambda o: S.SequentialLR(o, [warmup(o), S.CosineAnnealingLR(o, 10)], [5])
    out.json(
        "schedulers.json",
        {
            "step_lr(step_size=3, gamma=0.1)": rates(lambda o: S.StepLR(o, 3, 0.1), 12),
            "multi_step_lr(milestones=[2, 5, 9], gamma=0.5)": rates(lambda o: S.MultiStepLR(o, [2, 5, 9], 0.5), 12),
            "exponential_lr(gamma=0.9)": rates(lambda o: S.ExponentialLR(o, 0.9), 12),
            "cosine_annealing_lr(t_max=10, eta_min=0.001)": rates(lambda o: S.CosineAnnealingLR(o, 10, 0.001), 25),
            "cosine_annealing_warm_restarts(t_0=5, t_mult=2)": rates(
                lambda o: S.CosineAnnealingWarmRestarts(o, 5, 2), 20
            ),
            "linear_lr(start_factor=0.01, total_iters=5)": rates(warmup, 12),
            "polynomial_lr(total_iters=8, power=2)": rates(lambda o: S.PolynomialLR(o, 8, 2.0), 12),
            "one_cycle_lr(max_lr=0.1, total_steps=20)": rates(lambda o: S.OneCycleLR(o, 0.1, total_steps=20), 19),
            "sequential(linear 5 at 0.01, then cosine t_max=10)": rates(sequential, 15),
            "reduce_lr_on_plateau(min, factor=0.5, patience=2)": plateau(falling, "min", 2),
            "reduce_lr_on_plateau(max, factor=0.5, patience=3) on -metrics": plateau(rising, "max", 3),
        },
    )


# Optimizers: 20 steps of a network with two linear layers.

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "sgd_nesterov_wd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adam_wd": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2),
    "muon": lambda p: MuonAndSgd(p, lr=0.02, momentum=0.9, weight_decay=0.1),
    "muon_adjusted": lambda p: MuonAndSgd(
        p, lr=0.01, momentum=0.8, nesterov=False, ns_steps=3, adjust_lr_fn="match_rms_adamw"
    ),
}


class MuonAndSgd:
    """Muon for the matrices, whose Newton-Schulz steps run in `float32` instead of `bfloat16`, and SGD for the biases."""

    def __init__(self, parameters, **options):
        parameters = list(parameters)
        matrices = [p for p in parameters if p.ndim == 2]
        self.optimizers = [
            torch.optim.Muon(matrices, **options),
            torch.optim.SGD([p for p in parameters if p.ndim == 1], lr=0.05),
        ]
        self.defaults = self.optimizers[0].defaults

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self):
        rounded, torch.bfloat16 = torch.bfloat16, torch.float32
        for optimizer in self.optimizers:
            optimizer.step()
        torch.bfloat16 = rounded


def optimizers(out):
    tensors, cases = {}, []
    for name, make in OPTIMIZERS.items():
        network = fill(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5)))
        optimizer = make(network.parameters())
        losses = []
        for step in range(20):
            x = image_batch(f"opt.x{step}", (8, 12))
            y = tensor(recipe.labels(f"opt.y{step}", 8, 5))
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        tensors.update({f"{name}.{key}": value.numpy().copy() for key, value in network.state_dict().items()})
        cases.append(dict(case=name, optimizer=repr(optimizer.defaults), losses=losses))
    out.tensors("optimizers.safetensors", tensors)
    out.json("optimizers.json", json.loads(json.dumps(cases, default=str)))


# Transforms of one small image, by torchvision with Pillow.


def transforms(out):
    height, width = 48, 64
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([(x * 4) % 256, (y * 5) % 256, ((x + y) * 3) % 256], -1)
    # The name decides the values, so it must stay.
    noise = recipe.uniform("picture", height * width * 3).reshape(height, width, 3)
    image = Image.fromarray((rgb * 0.7 + 76 * noise).astype(np.uint8))
    for path in out.paths("image.png"):
        image.save(path)
    bilinear, bicubic, nearest = (T.InterpolationMode[name] for name in ("BILINEAR", "BICUBIC", "NEAREST"))
    results = {
        "resize_32x40_bilinear": TF.resize(image, [32, 40]),
        "resize_short_24": TF.resize(image, 24),
        "resize_96x128_bilinear": TF.resize(image, [96, 128]),
        "resize_32x40_bicubic": TF.resize(image, [32, 40], bicubic),
        "resize_32x40_nearest": TF.resize(image, [32, 40], nearest),
        "center_crop_32": TF.center_crop(image, 32),
        "center_crop_56x72_padded": TF.center_crop(image, [56, 72]),
        "hflip": TF.hflip(image),
        "vflip": TF.vflip(image),
        "pad_4": TF.pad(image, 4),
        "pad_4_reflect": TF.pad(image, 4, padding_mode="reflect"),
        "resized_crop_5_7_30_40_to_32": TF.resized_crop(image, 5, 7, 30, 40, [32, 32]),
        "grayscale_3": TF.rgb_to_grayscale(image, 3),
        "affine_20deg_t5_3_s1.2_shear10_nearest": TF.affine(image, 20.0, [5, 3], 1.2, [10.0, 0.0]),
        "gaussian_blur_5_1.0": TF.gaussian_blur(image, 5, 1.0),
        "posterize_3": TF.posterize(image, 3),
        "solarize_128": TF.solarize(image, 128),
        "autocontrast": TF.autocontrast(image),
        "equalize": TF.equalize(image),
        "invert": TF.invert(image),
        "sharpness_1.8": TF.adjust_sharpness(image, 1.8),
    }
    for factor in (0.6, 1.4):
        results[f"brightness_{factor}"] = TF.adjust_brightness(image, factor)
        results[f"contrast_{factor}"] = TF.adjust_contrast(image, factor)
        results[f"saturation_{factor}"] = TF.adjust_saturation(image, factor)
    for factor in (-0.1, 0.1, 0.4):
        results[f"hue_{factor}"] = TF.adjust_hue(image, factor)
    for angle in (15.0, -30.0, 90.0):
        results[f"rotate_{angle}_nearest"] = TF.rotate(image, angle)
        results[f"rotate_{angle}_bilinear"] = TF.rotate(image, angle, bilinear)
    # [height, width, channels]
    tensors = {name: array(np.atleast_3d(np.asarray(result))) for name, result in results.items()}
    normalize = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    tensors["to_tensor_normalize_chw_f32"] = T.Compose([T.ToTensor(), normalize])(image).numpy()
    out.tensors("transforms.safetensors", tensors)


# Networks: logits of two images in evaluation mode, and counts.

SIDES = {"alexnet": 96, "inception_v3": 128, "vit_b_16": 224, "lenet5": 28, "resnet20_cifar": 32, "plain20_cifar": 32, "airbench94": 32, "airbench96": 32}  # 64 for all others
NETWORKS = (
    "resnet18 resnet34 resnet50 resnext50_32x4d wide_resnet50_2 alexnet vgg11 vgg16 vgg16_bn squeezenet1_1 "
    "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large densenet121 efficientnet_b0 googlenet inception_v3 "
    "shufflenet_v2_x1_0 convnext_tiny vit_b_16 swin_t regnet_y_400mf"
).split()
CHANNELS = {"lenet5": 1}  # 3 for all others
# The signal of these networks would fade, or grow without bounds, with the plain recipe.
GAINS = {
    "efficientnet_b0": 1.22,
    "efficientnet_b1": 1.18,
    "efficientnet_b2": 1.19,
    "efficientnet_b3": 1.17,
    "efficientnet_b4": 1.13,
    "efficientnet_b5": 1.12,
    "efficientnet_b6": 1.08,
    "efficientnet_b7": 1.06,
    "efficientnet_v2_s": 0.88,
    "efficientnet_v2_m": 0.85,
    "efficientnet_v2_l": 0.85,
    "mobilenet_v3_small": 1.15,
    "mobilenet_v3_large": 1.08,
    "inception_v3": 1.15,
    "densenet121": 1.15,
    "googlenet": 1.1,
    "plain20_cifar": 1.12,
    "resnet101": 0.93,
    "resnet152": 0.86,
    "resnext101_32x8d": 0.93,
    "resnext101_64x4d": 0.93,
    "wide_resnet101_2": 0.93,
}


# What stands for torchvision's networks in the group `mobile`, beside those above.
MOBILE = (
    "efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6 "
    "efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l efficientnet_lite0 efficientnet_lite1 "
    "efficientnet_lite2 regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf "
    "regnet_y_128gf regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf "
    "regnet_x_32gf convnext_small convnext_base convnext_large"
).split()
# timm's names of the networks that are not torchvision's.
TIMM = {
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "efficientnet_lite1": "tf_efficientnet_lite1",
    "efficientnet_lite2": "tf_efficientnet_lite2",
}


def network_of(name, num_classes=10, **options):
    """The network with ten classes, new."""
    if name in TIMM:
        import timm

        return timm.create_model(TIMM[name], num_classes=num_classes, **options)
    if name in ("googlenet", "inception_v3"):
        options = dict(init_weights=False, aux_logits=False)
    return getattr(models, name)(num_classes=num_classes, **options)


def logits_and_case(name, network, shape, gain):
    """The logits of a network that `fill` has filled, and what its case says."""
    with torch.no_grad():
        logits = network(image_batch(f"{name}.input", shape))
    counts = dict(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        keys=len(network.state_dict()),
    )
    sizes = dict(
        max_abs_logit=float(logits.abs().max()),
        max_abs_difference=float((logits[0] - logits[1]).abs().max()),
    )
    spec = dict(model=name, input=list(shape), num_classes=10, gain=gain)
    return logits.numpy(), dict(**spec, **counts, **sizes)


def networks(out, group, names, build):
    """Writes GROUP.json and GROUP.safetensors for the networks that `build(name)` makes."""
    tensors, cases = {}, []
    for name in names:
        gain, side, channels = GAINS.get(name, 1.0), SIDES.get(name, 64), CHANNELS.get(name, 3)
        network = fill(build(name), gain).eval()
        tensors[f"{name}.logits"], case = logits_and_case(name, network, (2, channels, side, side), gain)
        cases.append(case)
    out.tensors(f"{group}.safetensors", tensors)
    out.json(f"{group}.json", cases)


# The older networks: VGG, SqueezeNet, GoogLeNet, Inception v3, DenseNet, ShuffleNet v2, MNASNet and LeNet-5.

CLASSIC = (
    "vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn squeezenet1_0 squeezenet1_1 googlenet inception_v3 "
    "densenet121 densenet161 densenet169 densenet201 shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 "
    "shufflenet_v2_x2_0 mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 lenet5 "
    "resnet20_cifar plain20_cifar airbench94 airbench96"
).split()


class LeNet(nn.Module):
    """LeNet-5 for 28x28 images, which the first convolution pads to the 32x32 of the paper."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc2(torch.tanh(self.fc1(x.flatten(1)))))
        return self.fc3(x)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the shortcut pads channels with zeros on both sides (option A of the paper)."""

    def __init__(self, start, end, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(start, end, 3, stride=end // start, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(end)
        self.conv2 = nn.Conv2d(end, end, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(end)
        self.stride, self.missing, self.shortcut = end // start, end - start, shortcut

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcut:
            half = self.missing // 2
            y = y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(y)


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2: 6n + 2 layers for 32x32 images."""

    def __init__(self, n, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        start = 16
        for i, end in enumerate((16, 32, 64)):
            blocks = [CifarBlock(start if j == 0 else end, end, shortcut) for j in range(n)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            start = end
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


CIFAR = {"resnet20_cifar": (3, True), "plain20_cifar": (3, False)}


class AirbenchGroup(nn.Module):
    """`ConvGroup` of https://github.com/KellerJordan/cifar10-airbench, legacy/airbench94.py and legacy/airbench96.py. Its
    batch norms have a weight that stays one; here they have none."""

    def __init__(self, start, end, residual):
        super().__init__()
        for i in range(3 if residual else 2):
            setattr(self, f"conv{i + 1}", nn.Conv2d(end if i else start, end, 3, padding="same", bias=False))
            norm = nn.BatchNorm2d(end, eps=1e-12)
            norm.weight = None
            setattr(self, f"norm{i + 1}", norm)
        self.residual = residual

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        if not self.residual:
            return F.gelu(self.norm2(self.conv2(x)))
        y = F.gelu(self.norm2(self.conv2(x)))
        return F.gelu(self.norm3(self.conv3(y)) + x)


class Airbench(nn.Module):
    """The networks of the same files, with this project's names."""

    def __init__(self, widths, residual):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2, padding=0, bias=True)
        for i, (start, end) in enumerate(zip((24,) + widths, widths)):
            setattr(self, f"layer{i + 1}", AirbenchGroup(start, end, residual))
        self.fc = nn.Linear(widths[-1], 10, bias=False)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.gelu(self.whiten(x)))))
        return self.fc(F.max_pool2d(x, 3).flatten(1)) / 9


AIRBENCH = {"airbench94": ((64, 256, 256), False), "airbench96": ((128, 384, 512), True)}


def classic_network(name, **options):
    """With the auxiliary classifiers, whose parameters the published files have."""
    if name == "lenet5":
        return LeNet()
    if name in CIFAR:
        return CifarResNet(*CIFAR[name])
    if name in AIRBENCH:
        return Airbench(*AIRBENCH[name])
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return getattr(models, name)(num_classes=10, **options)


def small_vgg():
    """VGG-11 with batch norm and 64 features in the linear layers: their 100 million weights would take seconds."""
    network = classic_network("vgg11_bn")
    network.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 64), nn.ReLU(), nn.Identity(), nn.Linear(64, 64), nn.ReLU(), nn.Identity(), nn.Linear(64, 10)
    )
    return network


def classic_steps(out):
    """Logits in evaluation mode, the loss of one training step without dropout, and of each gradient its norm and its product with
    `signed("CASE.PARAMETER")`."""
    of = classic_network
    cases = [
        ("vgg11_bn", small_vgg, (4, 3, 48, 48)),
        ("squeezenet1_1", lambda: of("squeezenet1_1", dropout=0.0), (4, 3, 64, 64)),
        ("googlenet", lambda: of("googlenet", dropout=0.0, dropout_aux=0.0), (4, 3, 96, 96)),
        ("inception_v3", lambda: of("inception_v3", dropout=0.0), (4, 3, 299, 299)),
        ("densenet121", lambda: of("densenet121"), (4, 3, 64, 64)),
        ("shufflenet_v2_x0_5", lambda: of("shufflenet_v2_x0_5"), (4, 3, 96, 96)),
        ("mnasnet0_5", lambda: of("mnasnet0_5", dropout=0.0), (4, 3, 96, 96)),
        ("lenet5", LeNet, (4, 1, 28, 28)),
        ("resnet20_cifar", lambda: of("resnet20_cifar"), (4, 3, 32, 32)),
        ("plain20_cifar", lambda: of("plain20_cifar"), (4, 3, 32, 32)),
        ("airbench94", lambda: of("airbench94"), (4, 3, 32, 32)),
        ("airbench96", lambda: of("airbench96"), (4, 3, 32, 32)),
    ]
    results = []
    for name, build, shape in cases:
        case, gain = f"{name}.step", GAINS.get(name, 1.0)
        network = fill(build(), gain).eval()
        with torch.no_grad():
            logits = network(image_batch(f"{case}.x", shape))
        network.train()
        labels = tensor(recipe.labels(f"{case}.y", shape[0], 10))
        outputs = network(image_batch(f"{case}.x", shape))
        # The logits, and those of the auxiliary classifiers with the weights of their losses.
        of_loss = {"googlenet": (1.0, 0.3, 0.3), "inception_v3": (1.0, 0.4)}.get(name, (1.0,))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum(weight * F.cross_entropy(logits, labels) for weight, logits in zip(of_loss, outputs))
        loss.backward()
        gradients = {}
        for path, parameter in network.named_parameters():
            gradient = parameter.grad.double()
            signed = tensor(recipe.signed(f"{case}.{path}", tuple(gradient.shape))).double()
            gradients[path] = [float(gradient.norm()), float((gradient * signed).sum())]
        values = dict(logits=logits.tolist(), loss=loss.item(), gradients=gradients)
        results.append(dict(model=name, input=list(shape), gain=gain, **values))
    out.json("classic_steps.json", results)


def classic(out):
    networks(out, "classic", CLASSIC, classic_network)
    classic_steps(out)


def zoo(out):
    networks(out, "models", NETWORKS, network_of)


# The larger residual networks.
RESNET = "resnet101 resnet152 resnext101_32x8d resnext101_64x4d wide_resnet101_2".split()


def resnet(out):
    networks(out, "resnet", RESNET, network_of)


def mobile(out):
    networks(out, "mobile", MOBILE, network_of)


# One training step of the first network of a family, without dropout and stochastic depth.
MOBILE_STEPS = {
    "mobilenet_v3_small": dict(dropout=0.0),
    "efficientnet_b0": dict(dropout=0.0, stochastic_depth_prob=0.0),
    "efficientnet_lite0": dict(),
    "regnet_y_400mf": dict(),
    "convnext_tiny": dict(stochastic_depth_prob=0.0),
}


def mobile_steps(out):
    tensors, cases = {}, []
    for name, options in MOBILE_STEPS.items():
        gain = GAINS.get(name, 1.0)
        network = fill(network_of(name, **options), gain).train()
        x = image_batch(f"{name}.step", (8, 3, 64, 64))
        loss = F.cross_entropy(network(x), tensor(recipe.labels(f"{name}.step.y", 8, 10)))
        loss.backward()
        for path, parameter in network.named_parameters():
            if parameter.numel() <= 128:
                tensors[f"{name}.{path}"] = array(parameter.grad)
        cases.append(dict(model=name, input=[8, 3, 64, 64], num_classes=10, gain=gain, loss=loss.item()))
    out.tensors("mobile_steps.safetensors", tensors)
    out.json("mobile_steps.json", cases)


# Transformers: logits of all of them, of weights for another image size, and a training step of two small ones.

TORCHVISION_TOKENS = {"vit_b_32": 64, "vit_l_16": 64, "vit_l_32": 64, "vit_h_14": 56, "swin_s": 64, "swin_b": 64}
# name here: name in timm, side
TIMM_TOKENS = {
    "deit_tiny_patch16_224": ("deit_tiny_patch16_224", 64),
    "deit_small_patch16_224": ("deit_small_patch16_224", 64),
    "deit_base_patch16_224": ("deit_base_patch16_224", 64),
    "vit_small_patch14_dinov2": ("vit_small_patch14_dinov2", 56),
    "vit_base_patch14_dinov2": ("vit_base_patch14_dinov2", 56),
    "vit_base_patch16_224_mae": ("vit_base_patch16_224", 64),
    "vit_base_patch16_224_mocov3": ("vit_base_patch16_224", 64),
}
# name: its published size, another one
RESIZED_TOKENS = {"deit_tiny_patch16_224": (224, (160, 96)), "vit_small_patch14_dinov2": (518, (56, 84))}


def small_vit():
    return models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=128, num_classes=10)


def small_swin():
    # 8x8 tokens in windows of 4x4, then 4x4 in one window.
    sizes = dict(patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4])
    return models.SwinTransformer(**sizes, stochastic_depth_prob=0.0, num_classes=10)


def token_network(name, side=None):
    """The network with ten classes, new, for images of `side` pixels or of the size that the group `tokens` has."""
    if name in TIMM_TOKENS:
        import timm

        other, usual = TIMM_TOKENS[name]
        return timm.create_model(other, num_classes=10, img_size=side or usual)
    # Swin takes images of any size.
    options = {} if name.startswith("swin") else dict(image_size=side or TORCHVISION_TOKENS[name])
    return getattr(models, name)(num_classes=10, **options)


def tokens(out):
    from timm.models.vision_transformer import checkpoint_filter_fn

    tensors, cases = {}, []
    for name, side in TORCHVISION_TOKENS.items():
        network = fill(token_network(name)).eval()
        tensors[f"{name}.logits"], case = logits_and_case(name, network, (2, 3, side, side), 1.0)
        cases.append(case)
    for name, (_, side) in TIMM_TOKENS.items():
        network = fill(token_network(name)).eval()
        tensors[f"{name}.logits"], case = logits_and_case(name, network, (2, 3, side, side), 1.0)
        cases.append(case)
    for name, (side, (height, width)) in RESIZED_TOKENS.items():
        published = fill(token_network(name, side)).state_dict()
        network = token_network(name, (height, width)).eval()
        network.load_state_dict(checkpoint_filter_fn(published, network))
        logits, _ = logits_and_case(f"{name}.resized", network, (2, 3, height, width), 1.0)
        tensors[f"{name}.resized.logits"] = logits
        tensors[f"{name}.resized.pos_embed"] = array(network.pos_embed)
    for case, network in (("small_vit", small_vit()), ("small_swin", small_swin())):
        fill(network).train()
        x, y = image_batch(f"{case}.x0", (4, 3, 32, 32)), tensor(recipe.labels(f"{case}.y0", 4, 10))
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        tensors[f"{case}.loss"] = array(loss.reshape(1))
        for name, parameter in network.named_parameters():
            tensors[f"{case}.step0_grad.{name}"] = array(parameter.grad)
    out.tensors("tokens.safetensors", tensors)
    out.json("tokens.json", cases)


# Training: the losses of ten steps, the gradients of the first, and the small tensors after the last.


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(784, 128)
        self.layer2 = nn.Linear(128, 10)

    def forward(self, x):
        return self.layer2(F.relu(self.layer1(x.flatten(1))))


class SimpleCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc1 = nn.Linear(2048, 512)
        self.fc2 = nn.Linear(512, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


# case: network, shape of a batch, optimizer, prefix of what is trained (`None`: everything)
TRAININGS = {
    "mlp": (Mlp, (16, 1, 28, 28), lambda p: torch.optim.Adam(p, lr=1e-4), None),
    "simple_cnn": (SimpleCnn, (8, 3, 32, 32), lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9), None),
    "resnet18_sgd": (
        lambda: models.resnet18(num_classes=10),
        (8, 3, 64, 64),
        lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, weight_decay=1e-4),
        None,
    ),
    "resnet18_frozen": (
        lambda: models.resnet18(num_classes=10),
        (8, 3, 64, 64),
        lambda p: torch.optim.Adam(p, lr=1e-3),
        "fc",
    ),
    "mobilenet_v2_sgd": (
        lambda: models.mobilenet_v2(num_classes=10, dropout=0.0),
        (8, 3, 64, 64),
        lambda p: torch.optim.SGD(p, lr=1e-5, momentum=0.9),
        None,
    ),
}


def ten_steps(case, network, shape, make_optimizer, trained, dtype, after_step):
    """The losses; `after_step` is called with the number of each step."""
    fill(network).train().to(dtype)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trained is None or trained in name)
    optimizer = make_optimizer([p for p in network.parameters() if p.requires_grad])
    losses = []
    for step in range(10):
        x = image_batch(f"{case}.x{step}", shape).to(dtype)
        y = tensor(recipe.labels(f"{case}.y{step}", shape[0], 10))
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        after_step(step)
    return losses, optimizer


def training(out):
    tensors, cases = {}, []
    for case, (make, shape, make_optimizer, trained) in TRAININGS.items():
        network = make()

        def keep(step):
            if step == 0:
                for name, parameter in network.named_parameters():
                    if parameter.grad is not None and parameter.numel() <= 4096:
                        tensors[f"{case}.step0_grad.{name}"] = parameter.grad.numpy().copy()
            if step == 9:
                for name, value in network.state_dict().items():
                    if value.is_floating_point() and value.numel() <= 2048:
                        tensors[f"{case}.after.{name}"] = value.numpy().copy()

        how = (shape, make_optimizer, trained)
        losses, optimizer = ten_steps(case, network, *how, torch.float32, keep)
        exact, _ = ten_steps(case, make(), *how, torch.float64, lambda step: None)
        told = ("lr", "momentum", "weight_decay", "betas", "eps")
        settings = repr({name: value for name, value in optimizer.defaults.items() if name in told})
        setup = dict(optimizer=f"{type(optimizer).__name__} {settings}", trainable=trained or "all")
        cases.append(dict(case=case, input=list(shape), steps=10, **setup, losses=losses, losses_f64=exact))
    out.tensors("training.safetensors", tensors)
    out.json("training.json", cases)


# Explanations of class 3: maps in [0, 1] at the size of the input, and attributions of the pixels.


def explain(out):
    import pytorch_grad_cam as cams
    from captum.attr import IntegratedGradients
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(3)]
    names = "GradCAM GradCAMPlusPlus LayerCAM XGradCAM HiResCAM EigenCAM ScoreCAM AblationCAM".split()
    tensors, cases = {}, []
    resnet18 = models.resnet18(num_classes=10)
    cnn = SimpleCnn()
    networks = [
        ("resnet18", resnet18, resnet18.layer4[-1], (1, 3, 96, 96)),
        ("simple_cnn", cnn, cnn.conv3, (1, 3, 32, 32)),
    ]
    for case, network, layer, shape in networks:
        fill(network).eval()
        x = image_batch(f"cam.{case}", shape)
        for name in names:
            with getattr(cams, name)(model=network, target_layers=[layer]) as cam:
                tensors[f"{case}.{name}"] = array(cam(input_tensor=x, targets=targets)[0])
            cases.append(dict(model=case, method=name, target=3, input=list(shape)))
        pixels = x.clone().requires_grad_(True)
        network(pixels)[0, 3].backward()
        tensors[f"{case}.saliency_grad"] = pixels.grad[0].numpy().copy()
        attribute = IntegratedGradients(network).attribute
        steps = attribute(x, target=3, n_steps=16, method="riemann_trapezoid")
        tensors[f"{case}.integrated_gradients_16_trapezoid"] = array(steps[0]).astype(np.float32)
    out.tensors("explain.safetensors", tensors)
    out.json("explain.json", cases)


def explain_tokens(out):
    import pytorch_grad_cam as cams
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from pytorch_grad_cam.utils.reshape_transforms import vit_reshape_transform

    targets = [ClassifierOutputTarget(3)]
    names = "GradCAM GradCAMPlusPlus LayerCAM HiResCAM ScoreCAM".split()
    tensors, cases = {}, []
    vit, swin = small_vit(), small_swin()
    networks = [
        ("small_vit", vit, vit.encoder.layers[-1].ln_1, lambda x: vit_reshape_transform(x, 4, 4)),
        # torchvision's layers give [batch, height, width, channels].
        ("small_swin", swin, swin.features[-1][-1].norm1, lambda x: x.permute(0, 3, 1, 2)),
    ]
    for case, network, layer, reshape in networks:
        fill(network).eval()
        x = image_batch(f"cam.{case}", (1, 3, 32, 32))
        for name in names:
            with getattr(cams, name)(network, [layer], reshape_transform=reshape) as cam:
                tensors[f"{case}.{name}"] = array(cam(input_tensor=x, targets=targets)[0])
            cases.append(dict(model=case, method=name, target=3, input=[1, 3, 32, 32]))
    out.tensors("explain_tokens.safetensors", tensors)
    out.json("explain_tokens.json", cases)


INITIAL = [
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "regnet_y_400mf",
    "densenet121",
    "resnet18",
]


def initial_values(out):
    """What the kernels of torchvision's networks begin with: number, mean, deviation, largest value."""
    lines = []
    for name in INITIAL:
        network = getattr(models, name)(weights=None)
        parameters = {path: value.detach().double() for path, value in network.named_parameters()}
        for path, value in parameters.items():
            kernel = parameters[path.rpartition(".")[0] + ".weight"]
            # The weights of a norm are all one.
            if value.numel() >= 16 and kernel.std() > 0:
                numbers = [value.mean(), value.std(), value.abs().max()]
                numbers = " ".join(f"{number.item():.4g}" for number in numbers)
                lines.append(f"{name} {path} {value.numel()} {numbers}\n")
    for path in out.paths("initial_values.txt"):
        path.write_text("".join(lines))


# Networks that timm has under other parameter names.

OF_TIMM = {
    "vit_b_16": "vit_base_patch16_224",
    "convnext_tiny": "convnext_tiny",
    "swin_t": "swin_tiny_patch4_window7_224",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_v2_s": "efficientnetv2_s",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "regnet_y_400mf": "regnety_004",
    "mnasnet0_5": "mnasnet_050",
    "vgg11": "vgg11",
    "vgg11_bn": "vgg11_bn",
}


def in_timms_order(name, paths):
    """The paths of torchvision's parameters in the order in which timm has them."""
    paths = [path for path in paths if not path.endswith("relative_position_index")]
    if name.startswith("vit"):
        first = ["class_token", "encoder.pos_embedding", "conv_proj.weight", "conv_proj.bias"]
        paths = first + [path for path in paths if path not in first]
    if name.startswith("regnet"):
        # The projection of a block comes last in timm.
        block = lambda path: path.rsplit(".f.", 1)[0].rsplit(".proj.", 1)[0]
        blocks = {block(path): place for place, path in reversed(list(enumerate(paths)))}
        paths = sorted(paths, key=lambda path: (blocks[block(path)], ".proj." in path))
    if name.startswith("swin"):
        order = []
        for path in paths:
            # The norm of a patch merging comes first in timm.
            if ".reduction." in path:
                held = path
            elif path.startswith("features.") and path.endswith(("norm.weight", "norm.bias")) and path.count(".") == 3:
                order.append(path)
                if path.endswith("bias"):
                    order.append(held)
            else:
                order.append(path)
        paths = order
    return paths


def timm_names(out):
    """timm's and torchvision's names of the same parameters. That they are the same is proven by equal logits.

    A line is `NETWORK TIMMS_NETWORK`, ` TIMMS_LAYER OUR_LAYER` where the fields have equal names, ` = TIMMS_NAME OUR_NAME`
    for single parameters, ` shape OUR_NAME ...` for timm's shape where it differs, or ` eps TIMMS OURS`.
    """
    import timm

    lines = []
    for name, other in OF_TIMM.items():
        network = fill(getattr(models, name)(num_classes=10)).eval()
        theirs = timm.create_model(other, num_classes=10).eval()
        eps = [{m.eps for m in n.modules() if isinstance(m, nn.BatchNorm2d)} for n in (theirs, network)]
        lines.append(f"{name} {other}")
        ours = network.state_dict()
        order, state = in_timms_order(name, ours), theirs.state_dict()
        assert len(order) == len(state), name
        layers, singles, shapes = {}, [], []
        for path, (key, value) in zip(order, list(state.items())):
            values = ours[path]
            assert values.numel() == value.numel(), (name, path, key)
            if values.shape != value.shape:
                shapes.append(" ".join([" shape", path, *map(str, value.shape)]))
            if path.endswith("running_var"):
                values = values + (max(eps[1]) - max(eps[0]))
            state[key] = values.reshape(value.shape)
            (layer, _, field), (of_timm, _, same) = path.rpartition("."), key.rpartition(".")
            if field == same and layer and of_timm:
                assert layers.setdefault(of_timm, layer) == layer
            else:
                singles.append(f" = {key} {path}")
        lines += [f" {of_timm} {layer}" for of_timm, layer in layers.items()] + singles + shapes
        if eps[0] != eps[1]:
            lines.append(f" eps {max(eps[0])} {max(eps[1])}")
        theirs.load_state_dict(state)
        with torch.no_grad():
            x = image_batch(f"{name}.input", (2, 3, 224, 224))
            a, b = network(x), theirs(x)
        error = ((a - b).norm() / a.norm()).item()
        print(f"  {name}: {error:.1e}", flush=True)
        assert error < 1e-5, name
    for path in out.paths("timm_names.txt"):
        path.write_text("\n".join(lines) + "\n")


# What `candle-vision parity` compares with: outputs of layers over the depth of every network.

PARITY_LAYERS = 10
PARITY_VALUES = 16
# Weight files in the folder `weights`, by the network's name, and how torchvision or timm builds it.
PARITY_WEIGHTS = {
    "resnet18": lambda: models.resnet18(),
    "mobilenet_v2": lambda: models.mobilenet_v2(),
    "efficientnet_lite0": lambda: network_of("efficientnet_lite0", num_classes=1000),
}


def seen_layers(network, images):
    """Paths, shapes, norms and some values of layers with parameters, evenly over the depth, and of the logits."""
    seen = {}

    def keep(path, shape, values):
        values = values.flatten()
        places = [i * values.numel() // PARITY_VALUES for i in range(PARITY_VALUES)]
        numbers = [values.norm().item(), *values[places].tolist()]
        # A later layer may work in place, so nothing is kept but numbers.
        seen[path] = (shape, np.array(numbers, dtype=np.float32))

    def hook(path):
        def of_layer(layer, _, output):
            last = type(layer) in (nn.Linear, nn.LayerNorm) and output.dim() == 4
            output = output.permute(0, 3, 1, 2) if last else output
            keep(path, list(output.shape), output.double())

        return of_layer

    for path, layer in network.named_modules():
        if not list(layer.children()) and list(layer.parameters()):
            layer.register_forward_hook(hook(path))
    with torch.no_grad():
        logits = network(images)
    paths = list(seen)
    count = min(PARITY_LAYERS, len(paths))
    chosen = [paths[round(i * (len(paths) - 1) / max(count - 1, 1))] for i in range(count)]
    keep("logits", list(logits.shape), logits.double())
    # What the last layer gives is the logits, or a part of the head that is fused with what follows.
    return {path: seen[path] for path in [*dict.fromkeys(chosen[:-1]), "logits"]}


def recipe_cases():
    """Name, function that builds it, input shape and gain of every network with a recipe's case."""
    groups = [(CLASSIC, classic_network), (RESNET, network_of), (MOBILE, network_of)]
    groups += [([*TORCHVISION_TOKENS, *TIMM_TOKENS], token_network), (NETWORKS, network_of)]
    done = set()
    for names, build in groups:
        for name in names:
            if name not in done:
                done.add(name)
                of_timm = TIMM_TOKENS.get(name, (None, None))[1]
                side = TORCHVISION_TOKENS.get(name) or of_timm or SIDES.get(name, 64)
                gain = 1.0 if build is token_network else GAINS.get(name, 1.0)
                yield name, build, [2, CHANNELS.get(name, 3), side, side], gain


def parity(out):
    """One tensor for each case, with a row for each layer: its norm, then values at equal distances. The metadata says
    what the cases are."""
    tensors, cases = {}, []

    def add(case, made, **about):
        images = image_batch(f"{about['network']}.input", tuple(about["input"]))
        layers = seen_layers(made.eval(), images)
        tensors[case] = np.stack([numbers for _, numbers in layers.values()])
        named = [[path, shape] for path, (shape, _) in layers.items()]
        cases.append(dict(case=case, **about, layers=named))
        print(f"  {case}", flush=True)

    for name, build, shape, gain in recipe_cases():
        add(name, fill(build(name), gain), network=name, input=shape, num_classes=10, gain=gain)
    folder = os.environ.get("CANDLE_VISION_DATA")
    if folder is None:
        raise SystemExit("CANDLE_VISION_DATA names no folder with `weights`")
    for name, build in PARITY_WEIGHTS.items():
        path = pathlib.Path(folder) / "weights" / f"{name}.safetensors"
        network = build()
        network.load_state_dict(load_file(path))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        about = dict(network=name, input=[2, 3, 224, 224], num_classes=1000, sha256=sha256)
        add(f"{name}.weights", network, **about)
    out.tensors("outputs.safetensors", tensors, {"cases": json.dumps(cases, separators=(",", ":"))})


GROUPS = {
    "timm_names": timm_names,
    "initial_values": initial_values,
    "ops": ops,
    "schedulers": schedulers,
    "optimizers": optimizers,
    "transforms": transforms,
    "models": zoo,
    "classic": classic,
    "resnet": resnet,
    "mobile": mobile,
    "mobile_steps": mobile_steps,
    "tokens": tokens,
    "training": training,
    "explain": explain,
    "explain_tokens": explain_tokens,
    "parity": parity,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", default=[], help="which files; default: all")
    parser.add_argument("--out", type=pathlib.Path, help="write into this folder instead of the repository")
    arguments = parser.parse_args()
    for group in arguments.groups:
        if group not in GROUPS:
            parser.error(f"no group `{group}`; known: {', '.join(GROUPS)}")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums in one order
    for group in arguments.groups or GROUPS:
        print(group, flush=True)
        GROUPS[group](Output(arguments.out))


if __name__ == "__main__":
    main()

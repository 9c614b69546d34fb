#!/usr/bin/env python3
"""The jobs of crates/cli/benches/jobs in PyTorch, timed the same way.

`torch_jobs.py JOB MODE` runs one job and prints one line of JSON; `torch_jobs.py --list` names the
jobs with their modes, `torch_jobs.py --versions` says what runs them. Needs torch and torchvision;
Grad-CAM needs pytorch-grad-cam (`pip install grad-cam`). `cargo xtask bench --python PYTHON` starts
it, in alternation with this project's jobs.

Modes: `eager` (PyTorch as it comes, [batch, channels, height, width]), `channels_last`, and for
inference `compile` and `compile_channels_last` (torch.compile with frozen weights); for the reading
of pictures `pil` and `tensor` (torchvision's transforms on Pillow's pictures or on tensors).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings

WARM_UP = 2  # Steps before the first that counts.
MIN_STEPS = 3  # A median of fewer says nothing.
TRAIN_MODES = ["eager", "channels_last"]
INFER_MODES = [*TRAIN_MODES, "compile", "compile_channels_last"]


class Skip(Exception):
    """A job that has nothing to measure here, and why."""


def jobs():
    """Each job's name, its modes, and the function that runs it in a mode."""
    large, small = (16, 3, 224, 224), (64, 3, 32, 32)
    return {
        "resnet18_train_b16_224": (TRAIN_MODES, lambda c, m: train(c, m, resnet18(1000), large, 1000)),
        "resnet18_train_b64_32": (TRAIN_MODES, lambda c, m: train(c, m, resnet18(10), small, 10)),
        "resnet18_frozen_b16_224": (TRAIN_MODES, lambda c, m: train(c, m, frozen_resnet18(), large, 2)),
        "simple_cnn_train_b64_32": (TRAIN_MODES, lambda c, m: train(c, m, simple_cnn(), small, 10)),
        "mlp_train_b64_28": (["eager"], lambda c, m: train(c, m, mlp(), (64, 1, 28, 28), 10)),
        "mobilenet_v2_train_b16_224": (TRAIN_MODES, lambda c, m: train(c, m, published("mobilenet_v2"), large, 1000)),
        "resnet50_train_b16_224": (TRAIN_MODES, lambda c, m: train(c, m, published("resnet50"), large, 1000)),
        "resnet18_infer_b16_224": (INFER_MODES, lambda c, m: infer(c, m, resnet18(1000), large)),
        "resnet18_infer_b1_224": (INFER_MODES, lambda c, m: infer(c, m, resnet18(1000), (1, 3, 224, 224))),
        "resnet18_gradcam_b1_224": (TRAIN_MODES, lambda c, m: explain(c, m, resnet18(1000), (1, 3, 224, 224))),
        "jpeg_load_224": (["pil", "tensor"], load_pictures),
    }


def published(name, classes=1000):
    import torchvision

    return getattr(torchvision.models, name)(weights=None, num_classes=classes)


def resnet18(classes):
    return published("resnet18", classes)


def frozen_resnet18():
    """Only `fc` learns; batch norm is in train mode, as in PyTorch's tutorial on transfer learning."""
    model = resnet18(2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))
    return model


def simple_cnn():
    from torch import nn

    def block(channels_in, channels_out):
        return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

    head = [nn.Flatten(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 10)]
    return nn.Sequential(*block(3, 32), *block(32, 64), *block(64, 128), *head)


def mlp():
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def in_format(value, mode):
    """A network or a batch in the memory format of a mode."""
    import torch

    return value.to(memory_format=torch.channels_last) if mode.endswith("channels_last") else value


def train(clock, mode, model, shape, classes):
    """Forward, loss, backward, and a step of SGD with momentum."""
    import torch

    model, images = in_format(model.train(), mode), in_format(torch.randn(shape), mode)
    labels = torch.arange(shape[0]) % classes
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return clock.measure(step, shape[0])


def infer(clock, mode, model, shape):
    """One forward pass in evaluation mode."""
    import torch

    model, images = in_format(model.eval(), mode), in_format(torch.randn(shape), mode)
    if mode.startswith("compile"):
        import torch._inductor.config

        # Weights become constants, so that batch norm is folded and weights are packed once.
        torch._inductor.config.freezing = True
        model = torch.compile(model)
    # PyTorch documents freezing under no_grad.
    with torch.no_grad() if mode.startswith("compile") else torch.inference_mode():
        return clock.measure(lambda: model(images), shape[0])


def explain(clock, mode, model, shape):
    """Grad-CAM of the predicted class, resized to the input."""
    import torch

    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        raise Skip("pytorch-grad-cam is not installed") from None
    model, images = in_format(model.eval(), mode), in_format(torch.randn(shape), mode)
    cam = GradCAM(model=model, target_layers=[model.layer4])
    return clock.measure(lambda: cam(input_tensor=images, targets=None), shape[0])


def load_pictures(clock, mode):
    """From JPEG files to batches: decoded, cropped, scaled, flipped, normalised. A step is a
    picture. With one thread the caller's does it all; with more, each is a worker."""
    from torch.utils.data import DataLoader

    data = os.environ.get("CANDLE_VISION_DATA")
    if data is None:
        raise Skip("CANDLE_VISION_DATA names no folder of data sets")
    folder = os.path.join(data, "hymenoptera_data", "train")
    if not os.path.isdir(folder):
        raise Skip(f"`{folder}` is not there")
    dataset = picture_folder(folder, mode)
    workers = 0 if clock.threads == 1 else clock.threads
    loader = DataLoader(dataset, batch_size=16, num_workers=workers, persistent_workers=workers > 0)

    def epoch():
        for _ in loader:
            pass

    return clock.measure(epoch, 1, parts=len(dataset))


def picture_folder(folder, mode):
    import torch
    from torchvision import io, transforms
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    if mode == "pil":
        steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
        steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
        return ImageFolder(folder, transforms.Compose(steps))
    steps = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]

    def read(path):
        return io.read_image(path, mode=io.ImageReadMode.RGB)

    return ImageFolder(folder, v2.Compose(steps), loader=read)


class Clock:
    """Runs a step again and again, and keeps the time of each."""

    def __init__(self, threads, seconds):
        self.threads, self.seconds = threads, seconds

    def measure(self, step, pictures, parts=1):
        """The figures of a step through which `pictures` go; it counts as `parts` equal steps."""
        for _ in range(WARM_UP):
            step()
        times_ms = []
        faults_before = minor_faults()
        start = time.perf_counter()
        while len(times_ms) < MIN_STEPS or time.perf_counter() - start < self.seconds:
            step_start = time.perf_counter()
            step()
            times_ms.append((time.perf_counter() - step_start) * 1e3)
        faults = minor_faults() - faults_before
        steps = len(times_ms) * parts
        median_ms = statistics.median(times_ms) / parts
        return {
            "median_ms": median_ms,
            "min_ms": min(times_ms) / parts,
            "steps": steps,
            "pictures_per_s": pictures * 1e3 / median_ms,
            "peak_mib": peak_mib(),
            "minor_faults_per_step": faults / steps,
        }


def minor_faults():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def peak_mib():
    """Of this process, without workers of a loader."""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def versions():
    import torch
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def run(job, mode, threads, seconds):
    # Before torch is imported: OpenMP reads it once.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    _, function = jobs()[job]
    head = {"job": job, "mode": mode, "threads": torch.get_num_threads()}
    try:
        return head | function(Clock(threads, seconds), mode)
    except Skip as skip:
        return head | {"skipped": str(skip)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", help="the job to run")
    parser.add_argument("mode", nargs="?", help="the mode to run it in")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="measure for at least so long")
    parser.add_argument("--list", action="store_true", help="print the jobs with their modes")
    parser.add_argument("--versions", action="store_true", help="print what runs the jobs")
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps({job: modes for job, (modes, _) in jobs().items()}))
    elif arguments.versions:
        print(json.dumps(versions()))
    elif arguments.job not in jobs():
        parser.error(f"no job is called `{arguments.job}`; see --list")
    elif arguments.mode not in jobs()[arguments.job][0]:
        parser.error(f"`{arguments.job}` has no mode `{arguments.mode}`; see --list")
    else:
        warnings.filterwarnings("ignore")
        print(json.dumps(run(arguments.job, arguments.mode, arguments.threads, arguments.seconds)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The jobs of crates/cli/benches/jobs in PyTorch, timed the same way.

`torch_jobs.py JOB MODE` runs one job and prints one line of JSON; `torch_jobs.py --list` names the
jobs with their modes, `torch_jobs.py --versions` says what runs them. Needs torch and torchvision;
Grad-CAM needs pytorch-grad-cam (`pip install grad-cam`). `cargo xtask bench --python PYTHON` starts
it, in alternation with this project's jobs.

Modes: `eager` (PyTorch as it comes, [batch, channels, height, width]), `channels_last`, and for
inference `compile` and `compile_channels_last` (torch.compile with frozen weights); for the reading
of images `pil` and `tensor` (torchvision's transforms on Pillow's images or on tensors).

Jobs whose names end in `f32`, `bf16` or `loaded` are for cards (`--device cuda`): TF32 is allowed,
cuDNN tries its algorithms out, `bf16` runs under autocast, `loaded` trains on what a DataLoader makes
of images in memory, and training can be compiled too. With `--tiny` a CPU manages them.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
import warnings

WARM_UP = 2  # Steps before the first that counts.
WARM_UP_OF_CARD = 20
MIN_TIMES = 3  # A median of fewer says nothing.
GROUP_OF_CARD = 10  # Steps of a card that are timed together: it is given its work ahead.
TRAIN_MODES = ["eager", "channels_last"]
INFER_MODES = [*TRAIN_MODES, "compile", "compile_channels_last"]
CARD_MODES = INFER_MODES
TIMM_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0"}
LOADED_MODES = ["channels_last", "compile_channels_last"]


class Skip(Exception):
    """A job that has nothing to measure here, and why."""


def jobs():
    """Each job's name, its modes, and the function that runs it in a mode."""
    large, small = (16, 3, 224, 224), (64, 3, 32, 32)
    b64, b256, b512 = (64, 3, 224, 224), (256, 3, 224, 224), (512, 3, 32, 32)
    return {
        "resnet18_frozen_b16_224": (TRAIN_MODES, lambda c, m: train(c, m, frozen_resnet18(), large, 2)),
        "simple_cnn_train_b64_32": (TRAIN_MODES, lambda c, m: train(c, m, simple_cnn(), small, 10)),
        "mlp_train_b64_28": (["eager"], lambda c, m: train(c, m, mlp(), (64, 1, 28, 28), 10)),
        "resnet18_gradcam_b1_224": (TRAIN_MODES, lambda c, m: explain(c, m, resnet18(1000), (1, 3, 224, 224))),
        "jpeg_load_224": (["pil", "tensor"], load_images),
        "resnet18_train_b64_224_f32": (CARD_MODES, card_train(b64, "f32")),
        "resnet18_train_b64_224_bf16": (CARD_MODES, card_train(b64, "bf16")),
        "resnet18_train_b256_224_f32": (CARD_MODES, card_train(b256, "f32")),
        "resnet18_train_b256_224_bf16": (CARD_MODES, card_train(b256, "bf16")),
        "resnet18_train_b512_32_f32": (CARD_MODES, card_train(b512, "f32")),
        "resnet18_train_b512_32_bf16": (CARD_MODES, card_train(b512, "bf16")),
        "resnet18_train_b64_224_bf16_loaded": (LOADED_MODES, card_train_loaded(b64, "bf16")),
        "resnet18_train_b256_224_bf16_loaded": (LOADED_MODES, card_train_loaded(b256, "bf16")),
        "resnet18_train_b512_32_bf16_loaded": (LOADED_MODES, card_train_loaded(b512, "bf16")),
        "resnet18_infer_b64_224_f32": (CARD_MODES, card_infer(b64, "f32")),
        "resnet18_infer_b64_224_bf16": (CARD_MODES, card_infer(b64, "bf16")),
        "resnet18_infer_b256_224_f32": (CARD_MODES, card_infer(b256, "f32")),
        "resnet18_infer_b256_224_bf16": (CARD_MODES, card_infer(b256, "bf16")),
        "resnet18_infer_b512_32_f32": (CARD_MODES, card_infer(b512, "f32")),
        "resnet18_infer_b512_32_bf16": (CARD_MODES, card_infer(b512, "bf16")),
    }


def job_called(name):
    """The modes and the function of a job, or None. Beside the table there is a job for every network, size of a
    batch and size of its images, with 10 classes for images up to 32x32 and 1000 for larger ones."""
    if name in jobs():
        return jobs()[name]
    found = re.fullmatch(r"(\w+)_(train|infer)_b(\d+)_(\d+)", name)
    if found is None:
        return None
    network, kind, batch, side = found[1], found[2], int(found[3]), int(found[4])
    classes, shape = (10 if side <= 32 else 1000), (batch, 3, side, side)
    if kind == "train":
        return TRAIN_MODES, lambda c, m: train(c, m, published(network, classes, side), shape, classes)
    return INFER_MODES, lambda c, m: infer(c, m, published(network, classes, side), shape)


def card_train(shape, precision):
    return lambda clock, mode: train(clock, mode, *card_network(clock, shape), precision)


def card_train_loaded(shape, precision):
    return lambda clock, mode: train_loaded(clock, mode, *card_network(clock, shape), precision)


def card_infer(shape, precision):
    return lambda clock, mode: infer(clock, mode, *card_network(clock, shape)[:2], precision)


def card_network(clock, shape):
    """The network of the jobs for cards, its batch's shape, and the number of classes."""
    classes = 10 if shape[2] == 32 else 1000
    if clock.tiny:
        shape = (2, 3, min(shape[2], 64), min(shape[3], 64))
    return resnet18(classes), shape, classes


def published(name, classes=1000, side=224):
    """torchvision's network of this name, or timm's."""
    import torchvision

    if name in torchvision.models.list_models():
        # The slow draw of initial values changes no time.
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    try:
        import timm
    except ImportError:
        raise Skip("timm is not installed") from None
    options = {"img_size": side} if name.startswith("vit_") else {}
    return timm.create_model(TIMM_NAMES.get(name, name), num_classes=classes, **options)


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


def placed(value, mode, clock):
    """A network or a batch in the memory format of a mode, on the clock's device."""
    import torch

    if mode.endswith("channels_last"):
        value = value.to(memory_format=torch.channels_last)
    return value.to(clock.device)


def computed_in(precision, clock):
    """What a forward pass runs under."""
    import torch

    device_type = torch.device(clock.device).type
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16")


def loss_of(outputs, labels):
    """Cross-entropy, with that of auxiliary classifiers at the weights of the papers."""
    from torch.nn.functional import cross_entropy

    if not isinstance(outputs, tuple):
        return cross_entropy(outputs, labels)
    logits, *auxiliary = outputs
    weight = 0.3 if len(auxiliary) == 2 else 0.4  # GoogLeNet has two, Inception v3 one.
    return cross_entropy(logits, labels) + weight * sum(cross_entropy(each, labels) for each in auxiliary)


class Training:
    """A network in training, with SGD with momentum."""

    def __init__(self, clock, mode, model, precision):
        import torch

        model = placed(model.train(), mode, clock)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, lr=0.01, momentum=0.9)
        self.model = torch.compile(model) if mode.startswith("compile") else model
        self.clock, self.precision = clock, precision

    def step(self, images, labels):
        """Forward, loss, backward, and a step of the optimizer."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        with computed_in(self.precision, self.clock):
            loss = loss_of(self.model(images), labels)
        loss.backward()
        self.optimizer.step()


def train(clock, mode, model, shape, classes, precision="f32"):
    """Steps on one batch again and again."""
    import torch

    training = Training(clock, mode, model, precision)
    images = placed(torch.randn(shape), mode, clock)
    labels = (torch.arange(shape[0]) % classes).to(clock.device)
    return clock.measure(lambda: training.step(images, labels), shape[0])


def train_loaded(clock, mode, model, shape, classes, precision):
    """Steps on what a loader makes of images in memory, as PyTorch's ImageNet example feeds them."""
    import torch

    training = Training(clock, mode, model, precision)
    loader = noise_loader(clock, shape, classes)
    batches = iter(loader)
    form = torch.channels_last if mode.endswith("channels_last") else torch.contiguous_format

    def step():
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        images = batch[0].to(clock.device, memory_format=form, non_blocking=True)
        training.step(images, batch[1].to(clock.device, non_blocking=True))

    return clock.measure(step, shape[0])


def noise_loader(clock, shape, classes):
    """Batches of images of noise, moved or cropped as crates/cli/benches/jobs/noise.rs does it."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    batch, channels, side, _ = shape
    stored = side if side <= 32 else side * 8 // 7
    move_or_crop = v2.RandomCrop(side, padding=4) if side <= 32 else v2.RandomResizedCrop(side, antialias=True)
    steps = [move_or_crop, v2.RandomHorizontalFlip()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * channels, [0.25] * channels)]
    images = torch.randint(0, 256, (64, channels, stored, stored), dtype=torch.uint8)
    noise = Noise(images, classes, 200 * batch, v2.Compose(steps))
    workers = 0 if clock.threads == 1 else clock.threads
    options = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": clock.device != "cpu"}
    return DataLoader(noise, batch, shuffle=True, **options)


class Noise:
    """A data set of `length` samples made of a few images; a class that workers can be sent."""

    def __init__(self, images, classes, length, transform):
        self.images, self.classes, self.length, self.transform = images, classes, length, transform

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.transform(self.images[index % len(self.images)]), index % self.classes


def infer(clock, mode, model, shape, precision="f32"):
    """One forward pass in evaluation mode."""
    import torch

    model, images = placed(model.eval(), mode, clock), placed(torch.randn(shape), mode, clock)
    if mode.startswith("compile"):
        import torch._inductor.config

        # Weights become constants, so that batch norm is folded and weights are packed once.
        torch._inductor.config.freezing = True
        model = torch.compile(model)
    # PyTorch documents freezing under no_grad.
    without_gradients = torch.no_grad() if mode.startswith("compile") else torch.inference_mode()
    with without_gradients, computed_in(precision, clock):
        return clock.measure(lambda: model(images), shape[0])


def explain(clock, mode, model, shape):
    """Grad-CAM of the predicted class, resized to the input."""
    import torch

    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        raise Skip("pytorch-grad-cam is not installed") from None
    model, images = placed(model.eval(), mode, clock), placed(torch.randn(shape), mode, clock)
    cam = GradCAM(model=model, target_layers=[model.layer4])
    return clock.measure(lambda: cam(input_tensor=images, targets=None), shape[0])


def load_images(clock, mode):
    """From JPEG files to batches: decoded, cropped, scaled, flipped, normalised. A step is a
    image. With one thread the caller's does it all; with more, each is a worker."""
    from torch.utils.data import DataLoader

    data = os.environ.get("CANDLE_VISION_DATA")
    if data is None:
        raise Skip("CANDLE_VISION_DATA names no folder of data sets")
    folder = os.path.join(data, "hymenoptera_data", "train")
    if not os.path.isdir(folder):
        raise Skip(f"`{folder}` is not there")
    dataset = image_folder(folder, mode)
    workers = 0 if clock.threads == 1 else clock.threads
    loader = DataLoader(dataset, batch_size=16, num_workers=workers, persistent_workers=workers > 0)

    def epoch():
        for _ in loader:
            pass

    return clock.measure(epoch, 1, parts=len(dataset))


def image_folder(folder, mode):
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
    """Runs a step again and again, and keeps the time of each, or of each ten on a card."""

    def __init__(self, threads, seconds, device="cpu", tiny=False):
        self.threads, self.seconds, self.device, self.tiny = threads, seconds, device, tiny

    def measure(self, step, images, parts=1):
        """The figures of a step through which `images` go; it counts as `parts` equal steps."""
        on_card = self.device != "cpu"
        group = GROUP_OF_CARD if on_card else 1
        self.run(step, WARM_UP_OF_CARD if on_card else WARM_UP)
        times_ms = []
        faults_before = minor_faults()
        start = time.perf_counter()
        while len(times_ms) < MIN_TIMES or time.perf_counter() - start < self.seconds:
            times_ms.append(self.run(step, group))
        faults = minor_faults() - faults_before
        steps = len(times_ms) * group * parts
        median_ms = statistics.median(times_ms) / parts
        return {
            "median_ms": median_ms,
            "min_ms": min(times_ms) / parts,
            "steps": steps,
            "images_per_s": images * 1e3 / median_ms,
            "peak_mib": peak_mib(),
            "minor_faults_per_step": faults / steps,
        }

    def run(self, step, count):
        """The milliseconds that each of `count` steps takes, the device's work included."""
        start = time.perf_counter()
        for _ in range(count):
            step()
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize(self.device)
        return (time.perf_counter() - start) * 1e3 / count


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
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def prepare_card(device):
    """Settings that users of a card know: TF32, and algorithms chosen by trying them out."""
    import torch

    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise Skip(f"this PyTorch, {torch.__version__} built {built}, can use no card")
    torch.cuda.set_device(torch.device(device, 0) if device == "cuda" else device)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def run(job, mode, clock):
    # Before torch is imported: OpenMP reads it once.
    os.environ["OMP_NUM_THREADS"] = str(clock.threads)
    import torch

    torch.set_num_threads(clock.threads)
    torch.manual_seed(0)
    _, function = job_called(job)
    head = {"job": job, "mode": mode, "threads": torch.get_num_threads()}
    try:
        if clock.device != "cpu":
            prepare_card(clock.device)
        return head | function(clock, mode)
    except Skip as skip:
        return head | {"skipped": str(skip)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", help="the job to run")
    parser.add_argument("mode", nargs="?", help="the mode to run it in")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="measure for at least so long")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    parser.add_argument("--tiny", action="store_true", help="make the jobs for cards so small that a CPU manages them")
    parser.add_argument("--list", action="store_true", help="print the jobs with their modes")
    parser.add_argument("--versions", action="store_true", help="print what runs the jobs")
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps({job: modes for job, (modes, _) in jobs().items()}))
    elif arguments.versions:
        print(json.dumps(versions()))
    elif arguments.job is None or job_called(arguments.job) is None:
        parser.error(f"no job is called `{arguments.job}`; see --list, or use NETWORK_train_b16_224")
    elif arguments.mode not in job_called(arguments.job)[0]:
        parser.error(f"`{arguments.job}` has no mode `{arguments.mode}`; see --list")
    else:
        warnings.filterwarnings("ignore")
        clock = Clock(arguments.threads, arguments.seconds, arguments.device, arguments.tiny)
        print(json.dumps(run(arguments.job, arguments.mode, clock)))


if __name__ == "__main__":
    main()

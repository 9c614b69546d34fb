#!/usr/bin/env python3
"""The jobs of crates/cli/benches/jobs in PyTorch, timed the same way.

`torch_jobs.py JOB MODE` runs one job and prints one line of JSON; `torch_jobs.py --list` names the
jobs with their modes, `torch_jobs.py --versions` says what runs them. Needs torch and torchvision;
Grad-CAM needs pytorch-grad-cam (`pip install grad-cam`). `cargo xtask bench --python PYTHON` starts
it, in alternation with this project's jobs.

Modes: `eager` (PyTorch as it comes, [batch, channels, height, width]), `channels_last`, and for
inference `compile` and `compile_channels_last` (torch.compile with frozen weights); for the reading
of images `pil` and `tensor` (torchvision's transforms on Pillow's images or on tensors). On a card also
`reduce_overhead` (torch.compile(mode="reduce-overhead")) and `cuda_graph` (the whole step captured as a
CUDA graph and repeated), in both memory formats; on a CPU these are skipped.

Jobs whose names end in `f32`, `bf16`, `loaded`, `cache` or `epochs` are for cards (`--device cuda`): TF32
is allowed, cuDNN tries its algorithms out, `bf16` runs under autocast, `loaded` trains on what a DataLoader
makes of images in memory, and training can be compiled too. With `--tiny` a CPU manages them.

`torchrun --nproc-per-node 2 torch_jobs.py JOB MODE --distributed` takes training steps in several processes together.

torch_work.py, torch_data.py and torch_ranks.py beside this file do the work.
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

import torch_ranks
from torch_data import load_images, train_loaded, tutorial
from torch_work import (
    Skip,
    explain,
    frozen_resnet18,
    infer,
    latency,
    mlp,
    published,
    resnet18,
    simple_cnn,
    start,
    train,
)

WARM_UP = 2  # Steps before the first that counts.
WARM_UP_OF_CARD = 20
MIN_TIMES = 3  # A median of fewer says nothing.
GROUP_OF_CARD = 10  # Steps of a card that are timed together: it is given its work ahead.
TRAIN_MODES = ["eager", "channels_last"]
INFER_MODES = [*TRAIN_MODES, "compile", "compile_channels_last"]
GRAPH_MODES = ["reduce_overhead", "reduce_overhead_channels_last", "cuda_graph", "cuda_graph_channels_last"]
CARD_MODES = [*INFER_MODES, *GRAPH_MODES]
LOADED_MODES = [mode for mode in CARD_MODES if mode.endswith("channels_last")]
START_MODES = ["eager", "compile"]


def jobs():
    """Each job's name, its modes, and the function that runs it in a mode."""
    large, small = (16, 3, 224, 224), (64, 3, 32, 32)
    b1, b64_32 = (1, 3, 224, 224), small
    b64, b256, b512 = (64, 3, 224, 224), (256, 3, 224, 224), (512, 3, 32, 32)
    return {
        "resnet18_frozen_b16_224": (TRAIN_MODES, lambda c, m: train(c, m, frozen_resnet18(), large, 2)),
        "simple_cnn_train_b64_32": (TRAIN_MODES, lambda c, m: train(c, m, simple_cnn(), small, 10)),
        "mlp_train_b64_28": (["eager"], lambda c, m: train(c, m, mlp(), (64, 1, 28, 28), 10)),
        "resnet18_gradcam_b1_224": (TRAIN_MODES, lambda c, m: explain(c, m, resnet18(1000), (1, 3, 224, 224))),
        "jpeg_load_224": (["pil", "tensor"], load_images),
        "jpeg_decoded_load_224": (["pil", "tensor"], load_images),
        "jpeg_cached_load_224": (["pil", "tensor"], load_images),
        "resnet18_train_b64_224_f32": (CARD_MODES, card_train(b64, "f32")),
        "resnet18_train_b64_224_bf16": (CARD_MODES, card_train(b64, "bf16")),
        "resnet18_train_b256_224_f32": (CARD_MODES, card_train(b256, "f32")),
        "resnet18_train_b256_224_bf16": (CARD_MODES, card_train(b256, "bf16")),
        "resnet18_train_b512_32_f32": (CARD_MODES, card_train(b512, "f32")),
        "resnet18_train_b512_32_bf16": (CARD_MODES, card_train(b512, "bf16")),
        "resnet18_train_b64_32_adam_f32": (CARD_MODES, card_train(b64_32, "f32", adam=True)),
        "resnet18_train_b64_32_adam_bf16": (CARD_MODES, card_train(b64_32, "bf16", adam=True)),
        "simple_cnn_train_b64_32_adam_f32": (CARD_MODES, card_train(b64_32, "f32", adam=True, network=simple_cnn)),
        "resnet18_train_b64_224_bf16_loaded": (LOADED_MODES, card_train_loaded(b64, "bf16")),
        "resnet18_train_b256_224_bf16_loaded": (LOADED_MODES, card_train_loaded(b256, "bf16")),
        "resnet18_train_b512_32_bf16_loaded": (LOADED_MODES, card_train_loaded(b512, "bf16")),
        "resnet18_infer_b1_224_f32": (CARD_MODES, on_card(infer, b1, "f32")),
        "resnet18_infer_b1_224_bf16": (CARD_MODES, on_card(infer, b1, "bf16")),
        "resnet18_infer_b64_224_f32": (CARD_MODES, on_card(infer, b64, "f32")),
        "resnet18_infer_b64_224_bf16": (CARD_MODES, on_card(infer, b64, "bf16")),
        "resnet18_infer_b256_224_f32": (CARD_MODES, on_card(infer, b256, "f32")),
        "resnet18_infer_b256_224_bf16": (CARD_MODES, on_card(infer, b256, "bf16")),
        "resnet18_infer_b512_32_f32": (CARD_MODES, on_card(infer, b512, "f32")),
        "resnet18_infer_b512_32_bf16": (CARD_MODES, on_card(infer, b512, "bf16")),
        "resnet18_latency_b1_224_f32": (CARD_MODES, on_card(latency, b1, "f32")),
        "resnet18_latency_b1_224_bf16": (CARD_MODES, on_card(latency, b1, "bf16")),
        "resnet18_gradcam_b1_224_f32": (TRAIN_MODES, on_card(explain, b1)),
        "resnet18_start_b1_224_empty_cache": (START_MODES, on_card(start, b1)),
        "resnet18_start_b1_224_filled_cache": (START_MODES, on_card(start, b1)),
        "cifar10_resnet18_40_epochs": (LOADED_MODES, tutorial),
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


def card_train(shape, precision, adam=False, network=resnet18):
    def run(clock, mode):
        classes = classes_of(shape)
        model = network(classes) if network is resnet18 else network()
        return train(clock, mode, model, sized(clock, shape), classes, precision, adam)

    return run


def card_train_loaded(shape, precision):
    def run(clock, mode):
        classes = classes_of(shape)
        return train_loaded(clock, mode, resnet18(classes), sized(clock, shape), classes, precision)

    return run


def on_card(function, shape, *settings):
    return lambda clock, mode: function(clock, mode, resnet18(classes_of(shape)), sized(clock, shape), *settings)


def classes_of(shape):
    return 10 if shape[2] == 32 else 1000


def sized(clock, shape):
    return (min(shape[0], 2), 3, min(shape[2], 64), min(shape[3], 64)) if clock.tiny else shape


class Clock:
    """Runs a step again and again, and keeps the time of each, or of each ten on a card."""

    def __init__(self, threads, seconds, device="cpu", tiny=False, distributed=False):
        self.threads, self.seconds, self.device, self.tiny = threads, seconds, device, tiny
        self.distributed = distributed

    def measure(self, step, images, parts=1, together=None):
        """The figures of a step through which `images` go; it counts as `parts` equal steps. Of steps that several
        processes take, `together` says how many there are, because no process may stop before the others."""
        on_card = self.device != "cpu"
        group = GROUP_OF_CARD if on_card and not self.tiny else 1
        self.run(step, WARM_UP_OF_CARD if on_card and not self.tiny else WARM_UP)
        times_ms = []
        faults_before = minor_faults()
        start = time.perf_counter()
        while len(times_ms) < MIN_TIMES or (together is None and time.perf_counter() - start < self.seconds):
            times_ms.append(self.run(step, group))
        if together is not None:
            enough = together(self.seconds, len(times_ms), time.perf_counter() - start)
            while len(times_ms) < enough:
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

    def once(self, work, images):
        """The figures of work that is done once."""
        milliseconds = self.run(work, 1)
        return {
            "median_ms": milliseconds,
            "min_ms": milliseconds,
            "steps": 1,
            "images_per_s": images * 1e3 / milliseconds,
            "peak_mib": peak_mib(),
            "minor_faults_per_step": None,
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


def prepare_card(device, tries_out):
    """Settings that users of a card know: TF32, and algorithms chosen by trying them out, which takes time in the
    first pass."""
    import torch

    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise Skip(f"this PyTorch, {torch.__version__} built {built}, can use no card")
    torch.cuda.set_device(torch.device(device, 0) if device == "cuda" else device)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = tries_out


def run(job, mode, clock):
    """What the job measured, and whether this process is the one that says it."""
    # Before torch is imported: OpenMP reads it once.
    os.environ["OMP_NUM_THREADS"] = str(clock.threads)
    import torch

    torch.set_num_threads(clock.threads)
    torch.manual_seed(0)
    _, function = job_called(job)
    head = {"job": job, "mode": mode, "threads": torch.get_num_threads()}
    is_first = not clock.distributed or torch_ranks.join()[0] == 0
    try:
        if clock.device != "cpu":
            prepare_card(clock.device, tries_out="_start_" not in job)
        return head | function(clock, mode), is_first
    except Skip as skip:
        return head | {"skipped": str(skip)}, is_first
    finally:
        if clock.distributed:
            torch_ranks.leave()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", nargs="?", help="the job to run")
    parser.add_argument("mode", nargs="?", help="the mode to run it in")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="measure for at least so long")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    parser.add_argument("--tiny", action="store_true", help="make the jobs for cards so small that a CPU manages them")
    parser.add_argument("--distributed", action="store_true", help="train with the processes that torchrun started")
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
        clock = Clock(
            arguments.threads, arguments.seconds, arguments.device, arguments.tiny, arguments.distributed
        )
        measured, is_first = run(arguments.job, arguments.mode, clock)
        if is_first:
            print(json.dumps(measured))


if __name__ == "__main__":
    main()

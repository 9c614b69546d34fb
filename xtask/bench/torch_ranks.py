"""Training steps that several processes take together: DistributedDataParallel with gloo.

`torchrun --nproc-per-node 2 torch_jobs.py JOB MODE --distributed` runs a training job of torch_jobs.py so. Each process
has a batch of its own, and rank 0 prints the line.
"""

import math
import time

BUCKET_BYTES = 25 * 2**20  # DDP's default.


def join():
    import torch.distributed

    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def leave():
    import torch.distributed

    torch.distributed.destroy_process_group()


def train_together(clock, training, images, labels):
    """The figures of steps that all ranks take; as many as rank 0 says."""
    import torch
    import torch.distributed

    ranks = torch.distributed.get_world_size()
    one_us = seconds_of_sum(1, 50) * 1e6
    bucket = 2**10 if clock.tiny else BUCKET_BYTES // 4
    bucket_ms = seconds_of_sum(bucket, 5) * 1e3
    model = torch.nn.parallel.DistributedDataParallel(training.network, gradient_as_bucket_view=True)
    model._set_ddp_runtime_logging_sample_rate(1)
    training.model = model
    all_spent = []

    def step():
        start = time.perf_counter()
        training.step_on_the_same(images, labels)
        all_spent.append((time.perf_counter() - start, waited(model)))

    measured = clock.measure(step, ranks * len(images), together=agreed_count)
    counted = all_spent[-measured["steps"] :]
    gradients = sum(p.numel() * p.element_size() for p in training.network.parameters() if p.requires_grad)
    measured["shared"] = {
        "waiting": sum(wait for _, wait in counted) / sum(whole for whole, _ in counted),
        "bytes_per_step": gradients,
        "all_reduce_one_us": one_us,
        "all_reduce_bucket_ms": bucket_ms,
        "bucket_bytes": bucket * 4,
    }
    return measured


def waited(model):
    """The seconds of the last backward pass in which sums went on that no computation hid, as DDP itself measures them."""
    logged = model._get_ddp_logging_data()
    sums, hidden = (logged.get(f"backward_{what}_time", 0) for what in ("comm", "compute_comm_overlap"))
    return max(sums - hidden, 0) / 1e9


def agreed_count(seconds, times, elapsed):
    """The number of steps that all ranks take: what rank 0 makes of its own times."""
    import torch
    import torch.distributed

    count = torch.tensor([math.ceil(seconds * times / elapsed)])
    torch.distributed.broadcast(count, 0)
    return int(count)


def seconds_of_sum(values, times):
    """The seconds of a sum of so many values over all ranks, while nothing is computed."""
    import torch
    import torch.distributed

    values = torch.zeros(values)
    torch.distributed.all_reduce(values)
    torch.distributed.barrier()
    start = time.perf_counter()
    for _ in range(times):
        torch.distributed.all_reduce(values)
    return (time.perf_counter() - start) / times

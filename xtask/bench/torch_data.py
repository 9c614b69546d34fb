"""What the jobs of torch_jobs.py read: noise in memory, JPEG files, CIFAR-10; and training on it."""

import os

from torch_work import Skip, Training, resnet18

TUTORIAL_EPOCHS, FROZEN_EPOCHS = 40, 5


def train_loaded(clock, mode, model, shape, classes, precision):
    """Steps on what a loader makes of images in memory, as PyTorch's ImageNet example feeds them."""
    training = Training(clock, mode, model, precision)
    loader = noise_loader(clock, shape, classes)
    batches = iter(loader)

    def step():
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        training.step(*on_device(batch, mode, clock))

    return clock.measure(step, shape[0])


def on_device(batch, mode, clock):
    """The images and labels of a loader's batch on the clock's device, without waiting."""
    import torch

    form = torch.channels_last if mode.endswith("channels_last") else torch.contiguous_format
    images = batch[0].to(clock.device, memory_format=form, non_blocking=True)
    return images, batch[1].to(clock.device, non_blocking=True)


def loader_of(clock, dataset, batch, shuffle):
    """With one thread the caller's does it all; with more, each is a worker."""
    from torch.utils.data import DataLoader

    workers = 0 if clock.threads == 1 else clock.threads
    options = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": clock.device != "cpu"}
    return DataLoader(dataset, batch, shuffle=shuffle, **options)


def noise_loader(clock, shape, classes):
    """Batches of images of noise, moved or cropped as crates/cli/benches/jobs/noise.rs does it."""
    import torch
    from torchvision.transforms import v2

    batch, channels, side, _ = shape
    stored = side if side <= 32 else side * 8 // 7
    move_or_crop = v2.RandomCrop(side, padding=4) if side <= 32 else v2.RandomResizedCrop(side, antialias=True)
    steps = [move_or_crop, v2.RandomHorizontalFlip()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * channels, [0.25] * channels)]
    images = torch.randint(0, 256, (64, channels, stored, stored), dtype=torch.uint8)
    noise = Noise(images, classes, 200 * batch, v2.Compose(steps))
    return loader_of(clock, noise, batch, True)


class Noise:
    """A data set of `length` samples made of a few images; a class that workers can be sent."""

    def __init__(self, images, classes, length, transform):
        self.images, self.classes, self.length, self.transform = images, classes, length, transform

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.transform(self.images[index % len(self.images)]), index % self.classes


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


class Cifar10:
    """The binary files of CIFAR-10 in memory, as Pillow's images, which the tutorials' transforms take."""

    def __init__(self, folder, names, transform):
        import numpy

        files = [numpy.fromfile(os.path.join(folder, name), numpy.uint8) for name in names]
        records = numpy.concatenate(files).reshape(-1, 3073)
        self.labels = records[:, 0].astype(int).tolist()
        self.images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy()
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def cifar10_loaders(clock):
    """Loaders of the training and the test images, transformed as the tutorial has it."""
    from torchvision import transforms

    data = os.environ.get("CANDLE_VISION_DATA")
    if data is None:
        raise Skip("CANDLE_VISION_DATA names no folder of data sets")
    folders = [os.path.join(data, name) for name in ("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10")]
    folder = next((each for each in folders if os.path.isfile(os.path.join(each, "data_batch_1.bin"))), None)
    if folder is None:
        raise Skip(f"`{data}` has no cifar-10-batches-bin/data_batch_1.bin")
    normalized = [transforms.ToTensor(), transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))]
    augmented = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    augmented += [transforms.ColorJitter(0.2, 0.2, 0.2, 0.1), transforms.RandomRotation(15)]
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    train = Cifar10(folder, names, transforms.Compose(augmented + normalized))
    test = Cifar10(folder, ["test_batch.bin"], transforms.Compose(normalized))
    return loader_of(clock, train, 64, True), loader_of(clock, test, 64, False)


def tutorial(clock, mode):
    """The training run of crates/cli/benches/jobs/tutorial.rs, from its first batch to its last validation."""
    import torch

    train, test = cifar10_loaders(clock)
    epochs, frozen, limit = (2, 1, 2) if clock.tiny else (TUTORIAL_EPOCHS, FROZEN_EPOCHS, None)
    training = Training(clock, mode, resnet18(10), "f32", adam=True)
    parameters = training.network.named_parameters()
    rest = [parameter for name, parameter in parameters if not name.startswith("fc.")]

    def learn(wanted, lr):
        for parameter in rest:
            parameter.requires_grad_(wanted)
        training.choose_parameters(lr)
        return torch.optim.lr_scheduler.ReduceLROnPlateau(training.optimizer, factor=0.5, patience=2)

    def run():
        for epoch in range(epochs):
            if epoch in (0, frozen):
                schedule = learn(epoch == frozen, 0.0001 if epoch == frozen else 0.001)
            training.network.train()
            running = torch.zeros((), device=clock.device)
            for _, batch in zip(range(limit or len(train)), train):
                running += training.step(*on_device(batch, mode, clock)).detach()
            lr = training.optimizer.param_groups[0]["lr"]
            schedule.step(validate(clock, mode, training.network, test, limit))
            if training.optimizer.param_groups[0]["lr"] != lr:
                training.forget_graph()

    return clock.once(run, epochs * len(train.dataset))


def validate(clock, mode, network, test, limit):
    """The mean loss on the test images."""
    import torch
    from torch.nn.functional import cross_entropy

    network.eval()
    total, count = torch.zeros((), device=clock.device), 0
    with torch.inference_mode():
        for _, batch in zip(range(limit or len(test)), test):
            images, labels = on_device(batch, mode, clock)
            total += cross_entropy(network(images), labels, reduction="sum")
            count += len(labels)
    return total.item() / count

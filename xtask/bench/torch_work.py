"""What the jobs of torch_jobs.py do: networks, modes, training steps, inference, explanations.

A mode is the memory format (`channels_last` at its end, or PyTorch's own) and what runs the step: PyTorch as it comes
(`eager`), torch.compile (`compile`), torch.compile(mode="reduce-overhead") (`reduce_overhead`), or a CUDA graph of the
whole step (`cuda_graph`).
"""

from torch_ranks import train_together

PLAIN_STEPS = 3  # Before a graph is captured: PyTorch chooses algorithms and makes the optimizer's state in them.
TIMM_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0"}


class Skip(Exception):
    """A job that has nothing to measure here, and why."""


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


def is_compiled(mode):
    return mode.startswith(("compile", "reduce_overhead"))


def is_graph(mode):
    return mode.startswith("cuda_graph")


def compiled(model, mode):
    import torch

    return torch.compile(model, mode="reduce-overhead" if mode.startswith("reduce_overhead") else None)


def check_mode(mode, clock):
    """Modes that a CPU does not have are skipped, because it would run something else in their place."""
    if clock.device == "cpu" and (is_graph(mode) or mode.startswith("reduce_overhead")):
        raise Skip("CUDA graphs need a card")


def computed_in(precision, clock, cached=True):
    """What a forward pass runs under."""
    import torch

    device_type = torch.device(clock.device).type
    enabled = precision == "bf16"
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=cached)


def loss_of(outputs, labels):
    """Cross-entropy, with that of auxiliary classifiers at the weights of the papers."""
    from torch.nn.functional import cross_entropy

    if not isinstance(outputs, tuple):
        return cross_entropy(outputs, labels)
    logits, *auxiliary = outputs
    weight = 0.3 if len(auxiliary) == 2 else 0.4  # GoogLeNet has two, Inception v3 one.
    return cross_entropy(logits, labels) + weight * sum(cross_entropy(each, labels) for each in auxiliary)


class Training:
    """A network in training, with SGD with momentum or with Adam as the tutorials on CIFAR-10 have it."""

    def __init__(self, clock, mode, model, precision, adam=False):
        check_mode(mode, clock)
        self.network = placed(model.train(), mode, clock)
        self.model = compiled(self.network, mode) if is_compiled(mode) else self.network
        self.clock, self.mode, self.precision, self.adam = clock, mode, precision, adam
        self.graph = None
        self.choose_parameters(0.001 if adam else 0.01)

    def choose_parameters(self, lr):
        """Begins a new optimizer for the parameters that learn now."""
        import torch

        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if self.adam:
            # `capturable` keeps the number of the step on the card. Only a graph needs it, and it costs the others.
            options = {"weight_decay": 0.0001, "capturable": is_graph(self.mode)}
            self.optimizer = torch.optim.Adam(trainable, lr=lr, **options)
        else:
            self.optimizer = torch.optim.SGD(trainable, lr=lr, momentum=0.9)
        self.forget_graph()

    def forget_graph(self):
        """The next step is captured anew: a graph keeps the learning rate that it was captured with."""
        self.graph = None

    def step(self, images, labels):
        """Forward, loss, backward, and a step of the optimizer. The batch may lie elsewhere each time."""
        if not is_graph(self.mode):
            return self.plain_step(images, labels)
        if self.graph is None:
            self.capture(images, labels)
        elif self.images.shape != images.shape:
            # The last batch of an epoch.
            return self.plain_step(images, labels)
        self.images.copy_(images, non_blocking=True)
        self.labels.copy_(labels, non_blocking=True)
        self.graph.replay()
        return self.loss

    def step_on_the_same(self, images, labels):
        """The same for the batch of the step before, which need not be copied to where a graph reads it."""
        if not is_graph(self.mode):
            return self.plain_step(images, labels)
        if self.graph is None:
            self.capture(images, labels)
        self.graph.replay()
        return self.loss

    def plain_step(self, images, labels):
        import torch

        if self.mode.startswith("reduce_overhead"):
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        # The casts that autocast keeps would be those of the step that was captured.
        with computed_in(self.precision, self.clock, cached=not is_graph(self.mode)):
            loss = loss_of(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def capture(self, images, labels):
        """Whole-network capture as PyTorch's notes on CUDA graphs have it: some steps on a stream of their own, then a
        step that only notes what it would do."""
        import torch

        self.images, self.labels = images.clone(memory_format=torch.preserve_format), labels.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(PLAIN_STEPS):
                self.plain_step(self.images, self.labels)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.plain_step(self.images, self.labels)


def train(clock, mode, model, shape, classes, precision="f32", adam=False):
    """Steps on one batch again and again."""
    import torch

    training = Training(clock, mode, model, precision, adam)
    images = placed(torch.randn(shape), mode, clock)
    labels = (torch.arange(shape[0]) % classes).to(clock.device)
    if clock.distributed:
        return train_together(clock, training, images, labels)
    return clock.measure(lambda: training.step_on_the_same(images, labels), shape[0])


def with_forward(clock, mode, model, shape, precision, use):
    """Calls `use` with a function that returns the logits of a batch in evaluation mode."""
    import torch

    check_mode(mode, clock)
    model, images = placed(model.eval(), mode, clock), placed(torch.randn(shape), mode, clock)
    if is_compiled(mode):
        import torch._inductor.config

        # Weights become constants, so that batch norm is folded and weights are packed once.
        torch._inductor.config.freezing = True
        model = compiled(model, mode)
    # PyTorch documents freezing, and graphs, under no_grad.
    plain = is_compiled(mode) or is_graph(mode)
    without_gradients = torch.no_grad() if plain else torch.inference_mode()
    with without_gradients, computed_in(precision, clock):
        return use(captured_forward(model, images) if is_graph(mode) else lambda: model(images))


def captured_forward(model, images):
    """A function that repeats a captured forward pass."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(PLAIN_STEPS):
            model(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = model(images)

    def forward():
        graph.replay()
        return logits

    return forward


def infer(clock, mode, model, shape, precision="f32"):
    """One forward pass in evaluation mode."""
    return with_forward(
        clock, mode, model, shape, precision, lambda forward: clock.measure(forward, shape[0])
    )


def latency(clock, mode, model, shape, precision="f32"):
    """The same until the logits have arrived on the host: the next pass begins only then."""

    def measure(forward):
        return clock.measure(lambda: forward().float().cpu(), shape[0])

    return with_forward(clock, mode, model, shape, precision, measure)


def start(clock, mode, model, shape):
    """The first pass of a process, until its logits have arrived on the host. What counts is the time since the
    process was started, which only its parent knows."""
    return with_forward(
        clock, mode, model, shape, "f32", lambda forward: clock.once(lambda: forward().cpu(), shape[0])
    )


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

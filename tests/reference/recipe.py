"""Tensors that any language can rebuild, so that tests need no stored inputs and no stored weights.

`u(name, i)` is a number in [0, 1): the upper 24 bits of `splitmix64(fnv1a64(name) + i)`, divided by 2**24.
`README.md` has the rules that make inputs and weights of `u`;
`tests/support/reference.rs` is the same code in Rust.
"""

import numpy as np

MASK = (1 << 64) - 1


def fnv1a64(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def uniform(name: str, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), float64."""
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint64) + np.uint64(fnv1a64(name))
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) / float(1 << 24)


def signed(name: str, shape) -> np.ndarray:
    """Output gradients: uniform in [-1, 1), float32."""
    u = uniform(name, int(np.prod(shape)))
    return (2.0 * u - 1.0).astype(np.float32).reshape(shape)


def image_batch(name: str, shape) -> np.ndarray:
    """Inputs like a normalised batch of images: uniform, with variance 1, float32."""
    u = uniform(name, int(np.prod(shape)))
    return ((2.0 * u - 1.0) * np.sqrt(3.0)).astype(np.float32).reshape(shape)


def labels(name: str, count: int, classes: int) -> np.ndarray:
    """`count` labels below `classes`, int64."""
    return (uniform(name, count) * classes).astype(np.int64)


def weight(name: str, shape, gain: float = 1.0) -> np.ndarray:
    """The parameter or buffer called `name` (torchvision's `state_dict` key), float32."""
    count = int(np.prod(shape))
    u = uniform(name, count)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if leaf == "running_var":
        values = 1.0 + 0.5 * u
    elif leaf == "weight" and len(shape) == 1:
        values = 1.0 + 0.1 * (2.0 * u - 1.0)
    elif leaf == "running_mean" or leaf.endswith("bias"):
        values = 0.1 * (2.0 * u - 1.0)
    else:
        fan_in = max(count // shape[0], 1)
        values = gain * (2.0 * u - 1.0) * np.sqrt(6.0 / fan_in)
    return values.astype(np.float32).reshape(shape)

"""Tensors that any language can rebuild, so that tests need no stored inputs and no stored weights.

`u(name, i)` is a number in [0, 1): the upper 24 bits of `splitmix64(fnv1a64(name) + i)`, divided by 2**24.
`README.md` has the rules that make inputs and weights of `u`;
`crates/ops/src/reference_tensors.rs` is the same code in Rust.
"""

import numpy as np

MASK = (1 << 64) - 1


def fnv1a64(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


# Numbers are made in pieces that stay in the caches.
PIECE = 1 << 16


def pieces(name: str, count: int):
    """The first place of each piece and its numbers in [0, 1), float64."""
    first = np.uint64(fnv1a64(name))
    for start in range(0, count, PIECE):
        with np.errstate(over="ignore"):
            x = np.arange(start, min(start + PIECE, count), dtype=np.uint64) + first
            x = x + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
        yield start, (x >> np.uint64(40)).astype(np.float64) / float(1 << 24)


def uniform(name: str, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), float64."""
    numbers = np.empty(count)
    for start, u in pieces(name, count):
        numbers[start : start + len(u)] = u
    return numbers


def tensor(name: str, shape, value) -> np.ndarray:
    """`value` of the numbers, float32."""
    count = int(np.prod(shape))
    numbers = np.empty(count, dtype=np.float32)
    for start, u in pieces(name, count):
        numbers[start : start + len(u)] = value(u)
    return numbers.reshape(shape)


def signed(name: str, shape) -> np.ndarray:
    """Output gradients: uniform in [-1, 1), float32."""
    return tensor(name, shape, lambda u: 2.0 * u - 1.0)


def image_batch(name: str, shape) -> np.ndarray:
    """Inputs like a normalised batch of images: uniform, with variance 1, float32."""
    return tensor(name, shape, lambda u: (2.0 * u - 1.0) * np.sqrt(3.0))


def labels(name: str, count: int, classes: int) -> np.ndarray:
    """`count` labels below `classes`, int64."""
    return (uniform(name, count) * classes).astype(np.int64)


def weight(name: str, shape, gain: float = 1.0) -> np.ndarray:
    """The parameter or buffer called `name` (torchvision's `state_dict` key), float32."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if leaf == "running_var":
        return tensor(name, shape, lambda u: 1.0 + 0.5 * u)
    if leaf == "weight" and len(shape) == 1:
        return tensor(name, shape, lambda u: 1.0 + 0.1 * (2.0 * u - 1.0))
    if leaf == "running_mean" or leaf.endswith("bias"):
        return tensor(name, shape, lambda u: 0.1 * (2.0 * u - 1.0))
    fan_in = max(int(np.prod(shape)) // shape[0], 1)
    return tensor(name, shape, lambda u: gain * (2.0 * u - 1.0) * np.sqrt(6.0 / fan_in))

"""Writes `reduced.safetensors`: the images of the folder `images` at a half, a quarter and an eighth of their size.

JPEG files are decoded at that size by libjpeg (Pillow's `draft`), the others are averaged (Pillow's `reduce`).

    pip install pillow numpy safetensors
    python crates/data/tests/reference/reduced.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, features
from safetensors.numpy import save_file

here = Path(__file__).parent
reduced = {}
for expectation in sorted((here / "images").glob("*.expected.png")):
    name = expectation.name.removesuffix(".expected.png")
    for factor in (2, 4, 8):
        image = Image.open(here / "images" / name)
        width, height = image.size
        if min(width, height) // factor < 1:
            continue
        if name.endswith(".jpg"):
            image.draft(image.mode, (width // factor, height // factor))
            image = image.convert("RGB")
        else:
            image = image.convert("RGB").reduce(factor)
        assert image.size == (-(-width // factor), -(-height // factor)), name
        reduced[f"{name}/{factor}"] = np.asarray(image)
versions = {"pillow": Image.__version__, "libjpeg_turbo": features.version("libjpeg_turbo") or ""}
save_file(reduced, here / "reduced.safetensors", metadata=versions)
print(len(reduced), versions)

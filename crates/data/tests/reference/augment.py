"""What torchvision makes of image.png, and how it draws: writes augment.safetensors and draws.json beside this file.

pip install torch torchvision safetensors pillow
"""

import json
import math
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import InterpolationMode as Mode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

here = Path(__file__).parent
image = Image.open(here / "image.png").convert("RGB")
width, height = image.size
made = {}


def keep(name, picture):
    made[name] = np.asarray(picture)


modes = {"nearest": Mode.NEAREST, "bilinear": Mode.BILINEAR, "bicubic": Mode.BICUBIC}
for name, mode in modes.items():
    keep(
        f"affine_{name}",
        F.affine(image, 20.0, [5, 3], 1.2, [10.0, -4.0], mode, [255, 0, 9], [12.0, 30.0]),
    )
    keep(f"affine_scaled_{name}", F.affine(image, 0.0, [3, -2], 0.7, [0.0, 0.0], mode, 7))
    keep(f"rotate_33_{name}", F.rotate(image, 33.0, mode, False, None, [1, 2, 3]))
    keep(f"rotate_expanded_{name}", F.rotate(image, -27.0, mode, True, None, 5))
    keep(f"rotate_about_{name}", F.rotate(image, 40.0, mode, False, [10.0, 40.0], 0))
    start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    end = [[5, 3], [width - 9, 6], [width - 2, height - 8], [3, height - 1]]
    keep(f"perspective_{name}", F.perspective(image, start, end, mode, [9, 8, 7]))
for name, mode in [("box", Mode.BOX), ("hamming", Mode.HAMMING), ("lanczos", Mode.LANCZOS)]:
    keep(f"resize_32x40_{name}", F.resize(image, [32, 40], mode))
    keep(f"resize_96x100_{name}", F.resize(image, [96, 100], mode))
keep("resize_short_40_most_44", F.resize(image, 40, max_size=44))

# The displacement in pixels, from a rule that any language can follow.
y, x = np.mgrid[0:height, 0:width].astype(np.float32)
across, down = 4 * np.sin(y / 5), 3 * np.cos(x / 7) - 1
shift = np.stack([2 * across / width, 2 * down / height], -1)[None].astype(np.float32)
for name in ["nearest", "bilinear"]:
    keep(f"elastic_{name}", F.elastic(image, torch.from_numpy(shift), modes[name], [200.0, 0.0, 50.0]))

for taps, sigma in [([3, 3], [0.5, 0.5]), ([23, 9], [2.0, 1.3])]:
    keep(f"blur_{taps[0]}x{taps[1]}_{sigma[0]}_{sigma[1]}", F.gaussian_blur(image, taps, sigma))
for factor in [0.0, 0.5, 3.0]:
    keep(f"sharpness_{factor}", F.adjust_sharpness(image, factor))
for bits in [1, 5]:
    keep(f"posterize_{bits}", F.posterize(image, bits))
for threshold in [0.0, 77.5, 255.0]:
    keep(f"solarize_{threshold}", F.solarize(image, threshold))
dark = F.adjust_brightness(image, 0.4)
keep("dark_autocontrast", F.autocontrast(dark))
keep("dark_equalize", F.equalize(dark))
for quality in [10, 50, 95]:
    keep(f"jpeg_{quality}", F.jpeg(image, quality))

operations = {
    "ShearX": 0.2, "ShearY": -0.25, "TranslateX": 11.7, "TranslateY": -9.2, "Rotate": -21.0,
    "Brightness": 0.45, "Color": -0.6, "Contrast": 0.81, "Sharpness": -0.9, "Posterize": 3.0,
    "Solarize": 0.4, "AutoContrast": 0.0, "Equalize": 0.0, "Invert": 0.0,
}  # fmt: skip
apply = v2.RandAugment()._apply_image_or_video_transform
for name, magnitude in operations.items():
    for mode in ["nearest", "bilinear"]:
        keep(f"op_{name}_{mode}", apply(image, name, magnitude, modes[mode], {type(image): [128]}))
save_file(made, here / "augment.safetensors")

# How parameters are drawn: for each, values and the share of draws that are not above them.
torch.manual_seed(0)
COUNT = 40_000
draws = {}


def distribution(name, values):
    values = np.sort(np.asarray(values, dtype=np.float64))
    points = np.unique(np.quantile(values, np.linspace(0.05, 0.95, 10), method="nearest"))
    shares = np.searchsorted(values, points, side="right") / len(values)
    draws[name] = [[round(float(p), 6), round(float(s), 4)] for p, s in zip(points, shares)]


def drawn(transform, size=(height, width)):
    picture = torch.zeros(3, *size, dtype=torch.uint8)
    return [transform.make_params([picture]) for _ in range(COUNT)]


params = drawn(v2.RandomAffine([-10, 30], (0.2, 0.1), (0.5, 1.5), [-5, 5, 10, 20]))
distribution("random_affine.angle", [p["angle"] for p in params])
distribution("random_affine.translate_x", [p["translate"][0] for p in params])
distribution("random_affine.translate_y", [p["translate"][1] for p in params])
distribution("random_affine.scale", [p["scale"] for p in params])
distribution("random_affine.shear_x", [p["shear"][0] for p in params])
distribution("random_affine.shear_y", [p["shear"][1] for p in params])
params = drawn(v2.RandomErasing(1.0))
covered = [p for p in params if p["v"] is not None]
draws["random_erasing.share"] = round(len(covered) / COUNT, 4)
for name, key in [("top", "i"), ("left", "j"), ("height", "h"), ("width", "w")]:
    distribution(f"random_erasing.{name}", [p[key] for p in covered])
params = drawn(v2.RandomZoomOut(side_range=(1.0, 3.0)))
for i, name in enumerate(["left", "top", "right", "bottom"]):
    distribution(f"random_zoom_out.{name}", [p["padding"][i] for p in params])
params = drawn(v2.RandomResizedCrop(32))
for name in ["top", "left", "height", "width"]:
    distribution(f"random_resized_crop.{name}", [p[name] for p in params])
params = drawn(v2.GaussianBlur(3))
distribution("gaussian_blur.sigma", [p["sigma"][0] for p in params])
params = drawn(v2.ColorJitter(0.4, 0.3, 0.2, 0.1))
for name in ["brightness", "contrast", "saturation", "hue"]:
    distribution(f"color_jitter.{name}", [p[f"{name}_factor"] for p in params])
params = drawn(v2.RandomPhotometricDistort())
for name in ["brightness", "contrast", "saturation", "hue"]:
    values = [p[f"{name}_factor"] for p in params]
    given = [value for value in values if value is not None]
    draws[f"random_photometric_distort.{name}.share"] = round(len(given) / COUNT, 4)
    distribution(f"random_photometric_distort.{name}", given)
params = drawn(v2.JPEG((20, 60)))
distribution("jpeg.quality", [p["quality"] for p in params])
params = drawn(v2.RandomCrop(24))
distribution("random_crop.top", [p["top"] for p in params])
distribution("random_crop.left", [p["left"] for p in params])
params = drawn(v2.RandomRotation([-20, 45]))
distribution("random_rotation.angle", [p["angle"] for p in params])

# Corners of a perspective, read from the matrix that leads them back.
corners = []
real = v2._geometry._get_perspective_coeffs
v2._geometry._get_perspective_coeffs = lambda start, end: corners.append(end) or real(start, end)
drawn(v2.RandomPerspective(0.4, 1.0))
v2._geometry._get_perspective_coeffs = real
for i, corner in enumerate(["upper_left", "upper_right", "lower_right", "lower_left"]):
    for axis, name in enumerate("xy"):
        distribution(f"random_perspective.{corner}_{name}", [end[i][axis] for end in corners])

# The displacements of single pixels, in pixels.
fields = [v2.ElasticTransform(30.0, 2.0).make_params([torch.zeros(3, 24, 16)]) for _ in range(COUNT // 8)]
distribution("elastic_transform.x", [p["displacement"][0, 12, 8, 0].item() * 8 for p in fields])
distribution("elastic_transform.y", [p["displacement"][0, 12, 8, 1].item() * 12 for p in fields])
noise = v2.GaussianNoise(0.02, 0.1)(torch.full((3, 200, 200), 100, dtype=torch.uint8))
distribution("gaussian_noise.value", noise.flatten().tolist())

# The operations of the automatic augmentations and their magnitudes.
seen = {}


def record(self, picture, name, magnitude, interpolation, fill):
    seen.setdefault(name, []).append(magnitude)
    return picture


for name, transform in {
    "rand_augment": v2.RandAugment(3, 11),
    "trivial_augment_wide": v2.TrivialAugmentWide(),
    "auto_augment.imagenet": v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
    "auto_augment.cifar10": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    "auto_augment.svhn": v2.AutoAugment(v2.AutoAugmentPolicy.SVHN),
    "aug_mix": v2.AugMix(severity=5),
}.items():
    seen = {}
    type(transform)._apply_image_or_video_transform = record
    for _ in range(COUNT):
        transform(torch.zeros(3, height, width, dtype=torch.uint8))
    del type(transform)._apply_image_or_video_transform
    for operation, magnitudes in seen.items():
        draws[f"{name}.{operation}.count"] = round(len(magnitudes) / COUNT, 4)
        draws[f"{name}.{operation}.mean"] = round(float(np.mean(magnitudes)), 4)
        draws[f"{name}.{operation}.std"] = round(float(np.std(magnitudes)), 4)

versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__}
rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in draws.items())
(here / "draws.json").write_text(f'{{\n  "versions": {json.dumps(versions)},\n{rows}\n}}\n')

#!/usr/bin/env python3
"""Images of every form that is read, each with what Pillow decodes.

`make.py` writes NAME and NAME.expected.png (`Image.open(NAME).convert("RGB")`) into its own folder;
crates/data/tests/formats.rs read them. Made with Pillow 13.0 (libjpeg-turbo 3.2, libwebp,
libtiff), numpy and, for the strips, torchvision 0.29. The files whose names begin with `case_` come from elsewhere and get their
expectation only. `sampling_*` and `four_*` come from the small encoder below, which writes what no
encoder at hand does: any sampling factors, in any scans.
"""

import io
import pathlib
import random
import struct

import numpy
from PIL import Image

FOLDER = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 33, 21


def photo(width=WIDTH, height=HEIGHT, shift=0):
    y, x = numpy.mgrid[0:height, 0:width]
    red = 128 + 100 * numpy.sin((x + shift) / 9)
    green = 128 + 90 * numpy.cos((x + y) / 13)
    values = numpy.stack([red, green, (x * 3 + y * 5) % 256], -1)
    return Image.fromarray(values.clip(0, 255).astype("uint8"))


def add(name, data):
    (FOLDER / name).write_bytes(data)
    Image.open(io.BytesIO(data)).convert("RGB").save(FOLDER / (name + ".expected.png"))


def save(name, image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    add(name, file.getvalue())
    return file.getvalue()


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def stuffed(bits):
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    return data.replace(b"\xff", b"\xff\0")


def jpeg(width, height, factors, scans, restart=0, adobe=None):
    """A baseline JPEG of random coefficients; `scans` lists the components of each scan."""
    draw = random.Random(width * height + len(scans))
    most = [max(f[i] for f in factors) for i in (0, 1)]
    units = [-(-size // (8 * m)) for size, m in zip((width, height), most)]
    blocks = [
        {
            (y, x): [draw.randint(-60, 60)] + [draw.choice((0, 0, -5, 3)) for _ in range(12)]
            for y in range(units[1] * v)
            for x in range(units[0] * h)
        }
        for h, v in factors
    ]
    symbols = [0] + [run << 4 | size for run in range(13) for size in (2, 3)]
    data = b"\xff\xd8"
    if adobe is not None:
        data += segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    data += segment(0xDB, bytes(1) + bytes([8] * 64))
    parts = [bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(factors)]
    data += segment(0xC0, struct.pack(">BHHB", 8, height, width, len(factors)) + b"".join(parts))
    data += segment(0xC4, b"\0" + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9)))
    data += segment(0xC4, b"\x10" + bytes([0] * 4 + [len(symbols)] + [0] * 11) + bytes(symbols))
    if restart:
        data += segment(0xDD, struct.pack(">H", restart))

    def number(value):
        size = abs(value).bit_length()
        return size, format(value if value > 0 else value + (1 << size) - 1, f"0{size}b") if size else ""

    for scan in scans:
        data += segment(0xDA, bytes([len(scan)]) + b"".join(bytes([c + 1, 0]) for c in scan) + b"\0\x3f\0")
        if len(scan) == 1:
            (c,) = scan
            sizes = [-(-size * f // m) for size, f, m in zip((width, height), factors[c], most)]
            order = [[(c, y, x)] for y in range(-(-sizes[1] // 8)) for x in range(-(-sizes[0] // 8))]
        else:
            order = [
                [
                    (c, row * factors[c][1] + v, column * factors[c][0] + h)
                    for c in scan
                    for v in range(factors[c][1])
                    for h in range(factors[c][0])
                ]
                for row in range(units[1])
                for column in range(units[0])
            ]
        bits, last = "", [0] * len(factors)
        for i, unit in enumerate(order):
            if restart and i and i % restart == 0:
                data += stuffed(bits) + bytes([0xFF, 0xD0 + (i // restart - 1) % 8])
                bits, last = "", [0] * len(factors)
            for c, y, x in unit:
                block = blocks[c][y, x]
                size, rest = number(block[0] - last[c])
                last[c] = block[0]
                bits += format(size, "04b") + rest
                run = 0
                for value in block[1:]:
                    if value == 0:
                        run += 1
                        continue
                    size, rest = number(value)
                    bits += format(symbols.index(run << 4 | size), "05b") + rest
                    run = 0
                bits += "00000"
        data += stuffed(bits)
    return data + b"\xff\xd9"


def jpegs():
    image = photo()
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        name = "jpeg_" + subsampling.replace(":", "")
        save(name + ".jpg", image, "JPEG", subsampling=subsampling)
        save(name + "_progressive.jpg", image, "JPEG", subsampling=subsampling, progressive=True)
        # Whole blocks, and hard colours at an edge that lies within one.
        save(name + "_48x32.jpg", photo(48, 32), "JPEG", subsampling=subsampling)
        noise = numpy.random.default_rng(1).integers(0, 256, (22, 26, 3)).astype("uint8")
        save(name + "_noise.jpg", Image.fromarray(noise), "JPEG", subsampling=subsampling, quality=90)
    for form in ("L", "CMYK"):
        save(f"jpeg_{form.lower()}.jpg", image.convert(form), "JPEG")
        save(f"jpeg_{form.lower()}_progressive.jpg", image.convert(form), "JPEG", progressive=True)
    save("jpeg_restart.jpg", image, "JPEG", restart_marker_blocks=1)
    save("jpeg_restart_progressive.jpg", image, "JPEG", restart_marker_blocks=2, progressive=True)
    save("jpeg_rgb.jpg", image, "JPEG", keep_rgb=True)
    save("jpeg_mpo.jpg", image, "MPO", save_all=True, append_images=[photo(shift=5)])
    for width, height in ((1, 1), (1, 40), (40, 1), (3, 60), (4, 50)):
        save(f"jpeg_{width}x{height}.jpg", photo(width, height), "JPEG")
    each = [[0], [1], [2]]
    layouts = {
        "22_11_11_each": ([(2, 2), (1, 1), (1, 1)], each, 3),
        "12_11_11_each": ([(1, 2), (1, 1), (1, 1)], each, 0),
        "22_21_12_mixed": ([(2, 2), (2, 1), (1, 2)], [[0], [1, 2]], 0),
        "31_11_11_one": ([(3, 1), (1, 1), (1, 1)], [[0, 1, 2]], 2),
        "14_12_11_each": ([(1, 4), (1, 2), (1, 1)], each, 0),
        "11_22_11_one": ([(1, 1), (2, 2), (1, 1)], [[0, 1, 2]], 0),
    }
    for name, (factors, scans, restart) in layouts.items():
        add(f"sampling_{name}.jpg", jpeg(45, 37, factors, scans, restart))
    for adobe in (None, 0, 2):
        factors = [(2, 1), (1, 1), (1, 1), (2, 1)]
        add(f"four_adobe_{adobe}.jpg", jpeg(29, 17, factors, [[0, 1, 2, 3]], adobe=adobe))


def others():
    image = photo()
    alpha = Image.fromarray((numpy.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % 256).astype("uint8"))
    rgba = image.convert("RGBA")
    rgba.putalpha(alpha)
    grey, one, few = image.convert("L"), image.convert("1"), image.quantize(13)
    grey_alpha = Image.merge("LA", (grey, alpha))
    images = {"rgb": image, "rgba": rgba, "l": grey, "la": grey_alpha, "1": one, "p": few}
    for name, form in images.items():
        save(f"png_{name}.png", form, "PNG")
    save("png_transparent.png", few, "PNG", transparency=3)
    save("png_animated.png", image, "PNG", save_all=True, append_images=[photo(shift=9)])
    for name in ("rgb", "rgba", "l", "p"):
        save(f"webp_{name}.webp", images[name], "WEBP", lossless=True, exact=True)
    save("webp_lossy.webp", image, "WEBP", quality=80)
    frames = {"save_all": True, "append_images": [photo(shift=9)]}
    save("webp_animated.webp", rgba, "WEBP", lossless=True, exact=True, **frames)
    for name in ("rgb", "rgba", "l", "p", "1"):
        save(f"bmp_{name}.bmp", images[name], "BMP")
    header = struct.pack("<IiiHHIIiiII", 40, 7, 5, 1, 16, 0, 80, 0, 0, 0, 0)
    rows = bytes(i * 37 % 256 for i in range(80))
    add("bmp_16.bmp", b"BM" + struct.pack("<IHHI", 134, 0, 0, 54) + header + rows)
    header = struct.pack("<IiiHHIIiiII", 40, 7, 5, 1, 8, 1, 26, 0, 0, 256, 0)
    palette = bytes(v for i in range(256) for v in (i, 255 - i, i * 3 % 256, 0))
    runs = b"\3\5\4\1\0\0\0\3\1\2\3\0\4\7\0\0\7\2\0\0\7\1\0\0\7\3\0\1"
    add("bmp_rle8.bmp", b"BM" + struct.pack("<IHHI", 1078 + 26, 0, 0, 1078) + header + palette + runs)
    for name in ("l", "p", "rgb"):
        save(f"gif_{name}.gif", images[name], "GIF")
    save("gif_interlaced.gif", few, "GIF", interlace=1)
    save("gif_animated.gif", image, "GIF", **frames)
    # A first frame that covers a part of the canvas alone.
    small = io.BytesIO()
    few.crop((0, 0, 20, 10)).save(small, "GIF")
    for name, control in (("", b""), ("_transparent", b"\x21\xf9\x04\1\0\0\3\0")):
        data = bytearray(small.getvalue())
        data[6:10] = struct.pack("<HH", 30, 24)
        at = data.index(b"\x2c")
        data[at + 1 : at + 5] = struct.pack("<HH", 7, 5)
        data[at:at] = control
        add(f"gif_small{name}.gif", bytes(data))
    for name, form in images.items():
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            short = (compression or "plain").removeprefix("tiff_").removeprefix("adobe_")
            if name in ("rgb", "p", "1") or compression == "tiff_lzw":
                save(f"tiff_{name}_{short}.tif", form, "TIFF", compression=compression)
    for name in ("rgb", "p"):
        save(f"tiff_{name}_big.tif", images[name], "TIFF", big_tiff=True)
    save("tiff_cmyk.tif", image.convert("CMYK"), "TIFF")
    save("tiff_fax.tif", one, "TIFF", compression="group4")
    save("tiff_jpeg.tif", image, "TIFF", compression="jpeg")
    save("tiff_pages.tif", image, "TIFF", **frames)
    for name in ("rgb", "l", "1"):
        save(f"pnm_{name}.pnm", images[name], "PPM")
    add("pnm_p1.pbm", b"P1\n# a comment\n3 2\n1 0 1\n0 1 0\n")
    add("pnm_p2.pgm", b"P2\n3 2\n15\n0 5 15 3 4 15\n")
    add("pnm_p3.ppm", b"P3 2 1 255 1 2 3 4 5 6\n")
    add("pnm_p6_16.ppm", b"P6 1 1 65535\n" + struct.pack(">HHH", 1000, 40000, 65535))
    save("icon.ico", rgba.resize((32, 32)), "ICO", sizes=[(16, 16), (32, 32)])


def strips():
    """What torchvision's evaluation makes of strips: Resize(256), CenterCrop(224)."""
    from torchvision.transforms import CenterCrop, Compose, Resize

    evaluation = Compose([Resize(256), CenterCrop(224)])
    for width, height in ((500, 4), (4, 500), (1, 1), (2000, 1), (1, 2000)):
        image = photo(width, height)
        image.save(FOLDER / f"strip_{width}x{height}.png")
        evaluation(image).save(FOLDER / f"strip_{width}x{height}.evaluated.png")


if __name__ == "__main__":
    jpegs()
    others()
    strips()
    for path in FOLDER.glob("case_*.jpg"):
        add(path.name, path.read_bytes())

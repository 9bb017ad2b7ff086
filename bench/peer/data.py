"""The peer's multi-crop pipeline: torchvision with Pillow, or its v2 on tensors.

    data.py --kind pillow|tensor --data DIR --crops 2x224,6x96 [--scales …] [--plain] [--images N]

It does what `swav bench data` does with the same flags: files are read and decoded,
CIFAR-10's binary batches are held in memory. It prints a line of JSON about itself,
then, for every line that it reads, makes the views of some images on one thread and
prints the images per second as JSON.
"""

import argparse
import glob
import io
import json
import os
import platform
import random
import resource
import sys
import time

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image, ImageFilter
from torchvision import transforms as v1
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)
SIGMA = (0.1, 2.0)


class PillowBlur:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*SIGMA)))


def pillow_views(size, scale, plain):
    steps = [v1.RandomResizedCrop(size, scale=scale), v1.RandomHorizontalFlip()]
    if not plain:
        steps += [v1.RandomApply([v1.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8), v1.RandomGrayscale(0.2), v1.RandomApply([PillowBlur()], p=0.5)]
    return v1.Compose(steps + [v1.ToTensor(), v1.Normalize(MEAN, STD)])


def tensor_views(size, scale, plain):
    steps = [v2.RandomResizedCrop(size, scale=scale, antialias=True), v2.RandomHorizontalFlip()]
    if not plain:
        # Seven pixels hold three deviations of the mean sigma: fewer than Pillow's blur reaches.
        steps += [v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8), v2.RandomGrayscale(0.2), v2.RandomApply([v2.GaussianBlur(7, SIGMA)], p=0.5)]
    return v2.Compose(steps + [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def read(path):
    with open(path, "rb") as f:
        return f.read()


def pillow_decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def tensor_decode(data):
    return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)


def source(kind, path):
    """Functions that give an image each."""
    batches = sorted(glob.glob(os.path.join(path, "data_batch_*.bin")))
    if batches:
        pixels = np.fromfile(batches[0], dtype=np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
        if kind == "pillow":
            rows = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
            return [lambda x=x: Image.fromarray(x) for x in rows]
        return [lambda x=x: x for x in torch.from_numpy(pixels.copy())]
    decode = pillow_decode if kind == "pillow" else tensor_decode
    files = [f for f in glob.glob(os.path.join(path, "**", "*"), recursive=True) if f.lower().endswith((".jpg", ".jpeg"))]
    return [lambda f=f: decode(read(f)) for f in sorted(files)]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--kind", choices=["pillow", "tensor"], required=True)
    a.add_argument("--data", required=True)
    a.add_argument("--crops", default="2x224,6x96")
    a.add_argument("--scales", default="0.14-1,0.05-0.14")
    a.add_argument("--plain", action="store_true")
    a.add_argument("--images", type=int, default=100)
    a = a.parse_args()

    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    images = source(a.kind, a.data)
    random.shuffle(images)
    make = pillow_views if a.kind == "pillow" else tensor_views
    scales = [tuple(float(v) for v in s.split("-")) for s in a.scales.split(",")]
    views = []
    for i, crop in enumerate(a.crops.split(",")):
        count, size = (int(v) for v in crop.split("x"))
        views += [make(size, scales[min(i, len(scales) - 1)], a.plain)] * count

    at = 0

    def some(n):
        nonlocal at
        for _ in range(n):
            image = images[at % len(images)]()
            for view in views:
                view(image)
            at += 1

    some(min(20, a.images))
    print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__, "python": platform.python_version(), "threads": 1}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        some(a.images)
        speed = a.images / (time.perf_counter() - start)
        print(json.dumps({"images_per_second": speed, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


if __name__ == "__main__":
    main()

"""Exports of swav against the libraries that load them, both ways.

  check.py SWAV PHOTOS WORK

A ResNet-50 with SwAV's head, made by torchvision with statistics from the photos, is
saved in the original's layout; swav reads it, and writes it in every format. Features
must agree within 1e-4, weights to the last bit. Photos are cut to 224 x 224 PNG first,
so that every side sees the same pixels; photos as they are come last.
"""
import collections
import csv
import os
import subprocess
import sys

import numpy
import onnx
import onnxruntime
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import nn

SWAV, PHOTOS, WORK = sys.argv[1:]
BOUND = 1e-4
MEAN, STD = [0.485, 0.456, 0.406], [0.228, 0.224, 0.225]  # swav's default, the original's
failed = []
largest = 0.0  # of the deviations of features, embeddings and scores


def swav(*args):
    out = subprocess.run([SWAV, *args], capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"swav {' '.join(args)}: exit {out.returncode}\n{out.stderr}")


def at(*names):
    return os.path.join(WORK, *names)


def check(what, worst, bound):
    ok = worst <= bound
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {worst:.2g} (at most {bound:g})", flush=True)
    if not ok:
        failed.append(what)


def near(what, got, want, bound=BOUND):
    global largest
    got, want = numpy.asarray(got), numpy.asarray(want)
    worst = float(numpy.abs(got - want).max()) if got.shape == want.shape else float("inf")
    if bound == BOUND:
        largest = max(largest, worst)
    check(what, worst, bound)


def embed(run, data, *more):
    """Features by swav, in float32, with the images' names."""
    swav("embed", "--run", run, "--data", data, "--out", at("f.npy"), "--set", "train.precision=fp32", *more)
    with open(at("f.csv")) as f:
        ids = [row["id"] for row in csv.DictReader(f)]
    return ids, numpy.load(at("f.npy"))


class SwAV(torchvision.models.ResNet):
    """The original's network: torchvision's with another head."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
        self.projection_head = nn.Sequential(nn.Linear(2048, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128))
        self.prototypes = nn.Linear(128, 300, bias=False)

    def forward(self, x):
        features = super().forward(x)
        embeddings = nn.functional.normalize(self.projection_head(features))
        return features, embeddings, self.prototypes(embeddings)


@torch.no_grad()
def by_parts(model, x):
    """In evaluation mode, a few images at a time."""
    model.eval()
    outs = [model(part) for part in x.split(8)]
    if isinstance(outs[0], tuple):
        return [torch.cat(o).numpy() for o in zip(*outs)]
    return torch.cat([getattr(o, "pooler_output", o).flatten(1) for o in outs]).numpy()


def prepare():
    """Cuts photos to 224 x 224 PNG."""
    for folder, _, names in os.walk(PHOTOS):
        for name in sorted(n for n in names if n.lower().endswith((".jpg", ".jpeg"))):
            image = Image.open(os.path.join(folder, name)).convert("RGB")
            image = torchvision.transforms.functional.resize(image, 256, torchvision.transforms.InterpolationMode.BILINEAR)
            to = at("cut", os.path.relpath(folder, PHOTOS))
            os.makedirs(to, exist_ok=True)
            torchvision.transforms.functional.center_crop(image, 224).save(os.path.join(to, os.path.splitext(name)[0] + ".png"))


def pixels(data, ids):
    normalize = torchvision.transforms.Normalize(MEAN, STD)
    load = lambda i: torchvision.transforms.functional.to_tensor(Image.open(os.path.join(data, i)).convert("RGB"))
    return torch.stack([normalize(load(i)) for i in ids])


def make(x):
    """The network, with batch norms that know the photos."""
    torch.manual_seed(1)
    model = SwAV()
    with torch.no_grad():
        nn.functional.normalize(model.prototypes.weight, out=model.prototypes.weight)
        norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d))]
        for m in norms:
            m.momentum = None  # plain average
            nn.init.uniform_(m.weight, 0.5, 1)
            nn.init.normal_(m.bias, 0, 0.2)
        model.train()
        for part in x[::3].split(16):
            model(part)
    return model


def layouts(model):
    """The weights as other repositories save them."""
    own = {k: v for k, v in model.state_dict().items()}
    backbone = {k: v for k, v in own.items() if not k.startswith(("projection_head", "prototypes"))}
    head = {k: v for k, v in own.items() if k not in backbone}
    torch.save({"epoch": 9, "state_dict": collections.OrderedDict(("module." + k, v) for k, v in own.items()),
                "optimizer": torch.optim.SGD(model.parameters(), lr=0.6).state_dict(), "amp": {"loss_scaler0": {"loss_scale": 65536.0}}},
               at("original.pth.tar"), _use_new_zipfile_serialization=False)
    trunk = {"_feature_blocks." + k: v for k, v in backbone.items()}
    heads = {"0." + k.replace("prototypes.", "prototypes0."): v for k, v in head.items()}
    torch.save({"phase_idx": 3, "classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": heads}}}}, at("vissl.torch"))
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    lightly = {"backbone." + places[k.split(".")[0]] + k[k.index("."):]: v for k, v in backbone.items()}
    lightly |= {k.replace("projection_head.", "projection_head.layers.").replace("prototypes.", "prototypes.heads.0."): v for k, v in head.items()}
    torch.save({"state_dict": lightly, "pytorch-lightning_version": "2.5"}, at("lightly.ckpt"))
    torch.save(backbone, at("torchvision.pth"))
    return own, backbone


def same(what, got, want):
    """Weights to the last bit, apart from counters."""
    differ = [k for k, v in want.items() if "num_batches" not in k and (k not in got or not torch.equal(got[k], v))]
    extra = [k for k in got if k not in want and not k.startswith("fc.")]
    check(f"{what}, weights that differ", len(differ) + len(extra), 0)


def onnx_file(name, x, want, *flags):
    path = at(name)
    swav("export", at("original.pth.tar"), "--format", "onnx", "--out", path, *flags)
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    parts = [session.run(None, {"images": part.numpy()}) for part in (x[:1], *x[1:].split(7))]  # several batch sizes
    for i, output in enumerate(names):
        near(f"{name}: {output} by onnxruntime", numpy.concatenate([p[i] for p in parts]), want[output])


def main():
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    prepare()
    cut = at("cut")
    ids = sorted(os.path.relpath(os.path.join(f, n), cut) for f, _, names in os.walk(cut) for n in names)
    model = make(pixels(cut, ids))
    own, backbone = layouts(model)

    ids, ours = embed(at("original.pth.tar"), cut)
    x = pixels(cut, ids)
    theirs = by_parts(model, x)
    print(f"{len(ids)} photos, features of absolute value up to {numpy.abs(ours).max():.3g}")
    near("the original's checkpoint: features by swav and PyTorch", ours, theirs[0])
    want = {"features": ours, "embeddings": theirs[1], "scores": theirs[2]}

    for name, weights in {"original.pth.tar": own, "vissl.torch": own, "lightly.ckpt": own, "torchvision.pth": backbone}.items():
        head = ["--head"] if weights is own else []
        swav("export", at(name), "--format", "safetensors", "--out", at("a.safetensors"), *head)
        same(f"{name} to safetensors", safetensors.torch.load_file(at("a.safetensors")), weights)
        swav("export", at("a.safetensors"), "--format", "pytorch", "--out", at("a.pth"), *head)
        same(f"{name} to safetensors to pytorch", torch.load(at("a.pth"), weights_only=True), weights)

    swav("export", at("original.pth.tar"), "--format", "pytorch", "--out", at("b.pth"))
    plain = torchvision.models.resnet50()
    plain.load_state_dict(torch.load(at("b.pth"), weights_only=True))
    plain.fc = nn.Identity()
    near("pytorch: features by torchvision's resnet50", by_parts(plain, x), ours)

    onnx_file("folded.onnx", x, want)
    onnx_file("head.onnx", x, want, "--head")
    onnx_file("keep.onnx", x, want, "--head", "--keep-bn")

    import timm
    swav("export", at("original.pth.tar"), "--format", "timm", "--out", at("timm"))
    near("timm: features", by_parts(timm.create_model("local-dir:" + at("timm"), pretrained=True), x), ours)
    import transformers
    swav("export", at("original.pth.tar"), "--format", "hf", "--out", at("hf"))
    near("hf: features", by_parts(transformers.AutoModel.from_pretrained(at("hf")), x), ours)
    for folder in ("timm", "hf"):
        swav("export", at(folder), "--format", "pytorch", "--out", at("c.pth"))
        same(f"{folder} back to pytorch", torch.load(at("c.pth"), weights_only=True), backbone)

    swav("train", "--init", at("original.pth.tar"), "--data", cut, "--run", at("run"), "--recipe", "swav_200ep_bs256",
         *(f"--set={s}" for s in ("model.hidden=512", "model.prototypes=300", "crops=2x64@0.2-1", "train.epochs=0", "train.steps=1", "train.batch_size=4",
                                  "optim.kind=sgd", "optim.lr=1e-12", "optim.final_lr=0", "swav.queue=0", "eval.baselines=false", "train.precision=fp32")))
    swav("export", at("run"), "--format", "safetensors", "--head", "--out", at("run.safetensors"))
    after = safetensors.torch.load_file(at("run.safetensors"))
    near("train --init: weights after a step at a rate of 1e-12", max(float((after[k] - v.detach()).abs().max()) for k, v in model.named_parameters()), 0, 1e-6)

    ids, ours = embed(at("original.pth.tar"), PHOTOS)
    t = torchvision.transforms
    transform = t.Compose([t.Resize(256), t.CenterCrop(224), t.ToTensor(), t.Normalize(MEAN, STD)])
    x = torch.stack([transform(Image.open(os.path.join(PHOTOS, i)).convert("RGB")) for i in ids])
    cosine = (nn.functional.normalize(torch.tensor(ours)) * nn.functional.normalize(torch.tensor(by_parts(plain, x)))).sum(1)
    check("photos as they are, decoded and resized by each side: 1 - cosine", float(1 - cosine.min()), 0.01)

    if failed:
        sys.exit(f"{len(failed)} checks failed: " + "; ".join(failed))
    print(f"all agree; the largest deviation of an output on the {len(ids)} photos: {largest:.2g} (at most {BOUND:g}, float32)")


main()

"""The peer: one SwAV training step in PyTorch, as fast as it goes on a CPU.

Our own code, for timing only: torchvision's ResNet, the same head, prototypes,
crops, loss and LARC as `swav bench step`. Channels-last, autocast for bf16, all
cores, multi-tensor optimizer arithmetic; --compile for torch.compile.

It prints one line in Go's benchmark format for each timed step, and answers
each line on standard input with one more step, so that a caller can alternate
two processes.

With --distributed it is one of several ranks (RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT): torch.distributed with Gloo, DistributedDataParallel with its buckets
beside the backward pass, the sums of Sinkhorn over all ranks, and with --sync-bn
those of batch norm. torch.nn.SyncBatchNorm refuses tensors of a CPU, so its place is
taken by SyncBatchNorm below: the same sums, one message a layer and direction.
"""

import argparse
import json
import platform
import resource
import sys
import time

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
import torchvision


class SyncedNorm(torch.autograd.Function):
    """Batch norm by mean and variance over all ranks."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        dims = [d for d in range(x.dim()) if d != 1]
        n = x.numel() // x.shape[1]
        var, mean = torch.var_mean(x.float() if x.dim() == 2 else x, dims, correction=0)
        sums = torch.cat([mean.float(), var.float() + mean.float() ** 2])
        dist.all_reduce(sums)
        mean, square = (sums / dist.get_world_size()).chunk(2)
        var = square - mean**2
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.count = n * dist.get_world_size()
        ctx.eps, ctx.var = eps, var
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, dy):
        x, weight, mean, invstd = ctx.saved_tensors
        shape = [1, -1] + [1] * (x.dim() - 2)
        # The fused kernel gives dy * weight * invstd and both sums.
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, ctx.var, mean, invstd, False, ctx.eps, [True, True, True])
        sums = torch.cat([dweight.float(), dbias.float()])
        dist.all_reduce(sums)
        sw, sb = (sums / ctx.count).chunk(2)
        # dx - weight * invstd * (mean dy + x^ * mean (dy x^)), as a line in x.
        slope = -weight * invstd * invstd * sw
        shift = -weight * invstd * sb - slope * mean
        dx.add_(torch.addcmul(shift.view(shape).to(x.dtype), x, slope.view(shape).to(x.dtype)))
        return dx, dweight, dbias, None


class SyncBatchNorm(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x):
        return SyncedNorm.apply(x, self.weight, self.bias, self.eps)


def synced(module):
    """Replaces every batch norm below a module."""
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, SyncBatchNorm(child))
        else:
            synced(child)
    return module


class Head(nn.Module):
    def __init__(self, dim, hidden, out, k):
        super().__init__()
        if hidden:
            self.projection = nn.Sequential(nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
        else:
            self.projection = nn.Linear(dim, out)
        self.prototypes = nn.Linear(out, k, bias=False)

    def forward(self, x):
        z = F.normalize(self.projection(x), dim=1)
        return z, self.prototypes(z)


class Network(nn.Module):
    def __init__(self, a):
        super().__init__()
        net = getattr(torchvision.models, a.arch)(weights=None)
        dim = net.fc.in_features
        net.fc = nn.Identity()
        if a.stem == "small":
            net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            net.maxpool = nn.Identity()
        self.backbone = net
        self.head = Head(dim, a.hidden, a.feature_dim, a.prototypes)

    def forward(self, groups):
        # One pass of the backbone for each resolution, the head once over all.
        return self.head(torch.cat([self.backbone(x) for x in groups]).float())


@torch.no_grad()
def sinkhorn(scores, epsilon, iterations):
    def total(x):
        if dist.is_initialized():
            dist.all_reduce(x)
        return x

    q = torch.exp((scores - scores.max()) / epsilon).t()
    q /= total(q.sum())
    k, n = q.shape
    n *= dist.get_world_size() if dist.is_initialized() else 1
    for _ in range(iterations):
        q /= total(q.sum(1, keepdim=True)) * k
        q /= q.sum(0, keepdim=True) * n
    return (q * n).t()


def swapped_loss(scores, views, batch, temperature=0.1, epsilon=0.05, assign=(0, 1)):
    logp = F.log_softmax(scores.float() / temperature, dim=1).view(views, batch, -1)
    loss = 0
    for a in assign:
        q = sinkhorn(scores[a * batch : (a + 1) * batch].detach().float(), epsilon, 3)
        others = [v for v in range(views) if v != a]
        loss = loss - sum((q * logp[v]).sum(1).mean() for v in others) / len(others)
    return loss / len(assign)


class LARC:
    """SGD with momentum and layer-wise adaptive rates, all tensors at once."""

    def __init__(self, params, lr, momentum=0.9, decay=1e-6, trust=1e-3, eps=1e-8):
        self.params = [p for p in params if p.requires_grad]
        self.buf = [torch.zeros_like(p) for p in self.params]
        self.lr, self.momentum, self.decay, self.trust, self.eps = lr, momentum, decay, trust, eps

    @torch.no_grad()
    def step(self):
        grads = [p.grad for p in self.params]
        pn, gn = torch._foreach_norm(self.params), torch._foreach_norm(grads)
        scale = [torch.where((p > 0) & (g > 0), self.trust * p / (g + self.decay * p + self.eps), torch.ones(())) for p, g in zip(pn, gn)]
        grads = torch._foreach_add(grads, self.params, alpha=self.decay)
        torch._foreach_mul_(grads, scale)
        torch._foreach_mul_(self.buf, self.momentum)
        torch._foreach_add_(self.buf, grads)
        torch._foreach_add_(self.params, self.buf, alpha=-self.lr)

    def zero_grad(self):
        for p in self.params:
            p.grad = None


def training(a):
    torch.manual_seed(1)
    net = Network(a)
    if a.sync_bn:
        synced(net)
    net = net.to(memory_format=torch.channels_last).train()
    crops = [tuple(map(int, c.split("x"))) for c in a.crops.split(",")]
    views = sum(n for n, _ in crops)
    x = [torch.randn(n * a.batch_size, 3, s, s).contiguous(memory_format=torch.channels_last) for n, s in crops]
    opt = LARC(net.parameters(), 0.1)
    forward = torch.compile(net) if a.compile else net
    if a.distributed:
        # Gradients in the buckets' own memory; running statistics are not sent, as the original has them.
        forward = nn.parallel.DistributedDataParallel(forward, broadcast_buffers=False, gradient_as_bucket_view=True)
        if a.wire == "bf16":
            from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

            forward.register_comm_hook(None, default_hooks.bf16_compress_hook)
    bf16 = a.precision == "bf16"

    def step():
        with torch.no_grad():
            net.head.prototypes.weight.copy_(F.normalize(net.head.prototypes.weight, dim=1))
        opt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            _, scores = forward(x)
        swapped_loss(scores, views, a.batch_size).backward()
        opt.step()

    return step


def inference(a):
    torch.manual_seed(1)
    net = Network(a).backbone.eval().to(memory_format=torch.channels_last)
    size = int(a.crops.split(",")[0].split("x")[1])
    x = torch.randn(a.batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    bf16 = a.precision == "bf16"
    forward = torch.compile(net) if a.compile else net

    @torch.no_grad()
    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            forward(x)

    return step


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--arch", default="resnet50")
    p.add_argument("--stem", default="imagenet")
    p.add_argument("--crops", default="2x224,6x96")
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--prototypes", type=int, default=3000)
    p.add_argument("--hidden", type=int, default=2048)
    p.add_argument("--feature-dim", type=int, default=128)
    p.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--infer", action="store_true", help="features only")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--distributed", action="store_true", help="one of several ranks, by Gloo")
    p.add_argument("--sync-bn", action="store_true", help="with --distributed: batch norm over all ranks")
    p.add_argument("--wire", default="fp32", choices=["bf16", "fp32"], help="with --distributed: how gradients travel")
    a = p.parse_args()
    if a.distributed:
        dist.init_process_group("gloo")

    step = inference(a) if a.infer else training(a)
    for _ in range(a.warmup):
        step()
    print(json.dumps({"ready": True, "torch": torch.__version__, "torchvision": torchvision.__version__,
                      "python": platform.python_version(), "threads": torch.get_num_threads()}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "images_per_second": a.batch_size / seconds, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()

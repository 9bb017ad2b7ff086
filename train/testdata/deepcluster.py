"""Writes deepcluster.json and deepcluster.safetensors: three epochs of DeepCluster-v2
on a small network in plain PyTorch, in float64 from float32 inputs, for
TestDeepClusterIsPyTorchs. Run it in this folder; made with PyTorch 2.15 on the CPU."""

import json
import struct

import torch
import torch.nn.functional as F

torch.manual_seed(4)
torch.set_default_dtype(torch.float64)

images, batch, steps, epochs = 11, 4, 2, 3  # an epoch leaves out 3 images
groups = [(2, 8), (1, 6)]  # views and their sides
heads, dim, hidden, width = [4, 3], 6, 8, 8
temperature, iterations, lr, momentum, decay = 0.1, 10, 0.05, 0.9, 1e-4
rows = batch * steps

params = {}


def add(name, *shape, std):
    params[name] = (std * torch.randn(shape)).float().double()


def norm(name, c):
    params[name + ".weight"] = (1 + 0.1 * torch.randn(c)).float().double()
    params[name + ".bias"] = (0.1 * torch.randn(c)).float().double()


add("conv1.weight", width, 1, 3, 3, std=0.4)
norm("bn1", width)
for layer, (cin, cout) in enumerate([(width, width), (width, 2 * width)], 1):
    block = f"layer{layer}.0."
    add(block + "conv1.weight", cout, cin, 3, 3, std=0.2)
    norm(block + "bn1", cout)
    add(block + "conv2.weight", cout, cout, 3, 3, std=0.2)
    norm(block + "bn2", cout)
    if cin != cout:
        add(block + "downsample.0.weight", cout, cin, 1, 1, std=0.4)
        norm(block + "downsample.1", cout)
add("projection_head.0.weight", hidden, 2 * width, std=0.3)
add("projection_head.0.bias", hidden, std=0.1)
norm("projection_head.1", hidden)
add("projection_head.3.weight", dim, hidden, std=0.3)
add("projection_head.3.bias", dim, std=0.1)
add("prototypes.weight", sum(heads), dim, std=0.3)
tensors = {"init/" + n: p.clone() for n, p in params.items()}


def bn(x, name):
    return F.batch_norm(x, None, None, params[name + ".weight"], params[name + ".bias"], training=True)


def backbone(x):
    x = F.relu(bn(F.conv2d(x, params["conv1.weight"], padding=1), "bn1"))
    for layer, stride in [(1, 1), (2, 2)]:
        block = f"layer{layer}.0."
        y = F.relu(bn(F.conv2d(x, params[block + "conv1.weight"], stride=stride, padding=1), block + "bn1"))
        y = bn(F.conv2d(y, params[block + "conv2.weight"], padding=1), block + "bn2")
        if block + "downsample.0.weight" in params:
            x = bn(F.conv2d(x, params[block + "downsample.0.weight"], stride=stride), block + "downsample.1")
        x = F.relu(x + y)
    return x.mean((2, 3))


def embed(inputs):
    x = torch.cat([backbone(x) for x in inputs])
    x = F.linear(x, params["projection_head.0.weight"], params["projection_head.0.bias"])
    x = F.relu(bn(x, "projection_head.1"))
    x = F.linear(x, params["projection_head.3.weight"], params["projection_head.3.bias"])
    return F.normalize(x)


margin = 1.0  # between the nearest centroid and the next, at the least


def kmeans(x, start):
    global margin
    centroids = x[start].clone()
    for it in range(iterations + 1):
        products = x @ centroids.T
        top = products.topk(2, dim=1).values
        margin = min(margin, (top[:, 0] - top[:, 1]).min().item())
        labels = products.argmax(1)
        if it == iterations:
            return centroids, labels
        for k in range(len(centroids)):
            if (labels == k).any():
                centroids[k] = F.normalize(x[labels == k].mean(0), dim=0)


# Images are noise around a few patterns, views noise around images.
patterns = torch.randn(5, 1, 8, 8)
base = [patterns[i % 5] + 0.5 * torch.randn(1, 8, 8) for i in range(images)]


def views(image):
    return [[(base[image][:, :size, :size] + 0.4 * torch.randn(1, size, size)).float().double() for _ in range(n)] for n, size in groups]


case = {"images": images, "batch": batch, "heads": heads, "groups": groups, "temperature": temperature, "iterations": iterations,
        "lr": lr, "momentum": momentum, "decay": decay, "epochs": []}
bank = torch.zeros(2, rows, dim)
index = [0] * rows
buffers = {n: torch.zeros_like(p) for n, p in params.items()}
for epoch in range(epochs):
    order = torch.randperm(images)[:rows].tolist()
    record = {"order": order, "starts": [torch.randperm(rows)[:k].tolist() for k in heads], "labels": [], "losses": []}
    batches = []
    for step in range(steps):
        ids = order[step * batch:(step + 1) * batch]
        drawn = [views(i) for i in ids]
        inputs = [torch.cat([torch.stack([drawn[b][g][v] for b in range(batch)]) for v in range(n)]) for g, (n, _) in enumerate(groups)]
        batches.append((ids, inputs))
        for g, x in enumerate(inputs):
            tensors[f"input/{epoch}/{step}/{g}"] = x.permute(0, 2, 3, 1).contiguous()
        if epoch == 0:  # the first pass
            z = embed(inputs)
            index[step * batch:(step + 1) * batch] = ids
            for v in range(2):
                bank[v, step * batch:(step + 1) * batch] = z[v * batch:(v + 1) * batch]
    labels = []
    for h, k in enumerate(heads):
        centroids, found = kmeans(bank[h % 2], record["starts"][h])
        params["prototypes.weight"][sum(heads[:h]):sum(heads[:h]) + k] = centroids
        of = [-100] * images
        for row, image in enumerate(index):
            of[image] = found[row].item()
        labels.append(of)
        record["labels"].append([max(l, -1) for l in of])
    for step, (ids, inputs) in enumerate(batches):
        for n, p in params.items():
            p.requires_grad_(n != "prototypes.weight")
        z = embed(inputs)
        scores = z @ params["prototypes.weight"].T
        loss = 0
        for h, k in enumerate(heads):
            target = torch.tensor([labels[h][i] for i in ids]).repeat(sum(n for n, _ in groups))
            part = scores[:, sum(heads[:h]):sum(heads[:h]) + k]
            loss = loss + F.cross_entropy(part / temperature, target, ignore_index=-100) / len(heads)
        loss.backward()
        record["losses"].append(loss.item())
        index[step * batch:(step + 1) * batch] = ids
        with torch.no_grad():
            for v in range(2):
                bank[v, step * batch:(step + 1) * batch] = z[v * batch:(v + 1) * batch]
            for n, p in params.items():
                if p.requires_grad:
                    buffers[n] = momentum * buffers[n] + p.grad + decay * p
                    p -= lr * buffers[n]
                    p.grad = None
                p.requires_grad_(False)
    case["epochs"].append(record)
assert margin > 1e-3, f"clusters hang on {margin}: take another seed"
for n, p in params.items():
    tensors["expect/" + n] = p
case["margin"] = margin

header, data = {}, b""
for name, x in tensors.items():
    raw = x.float().numpy().tobytes()
    header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
head = json.dumps(header).encode()
head += b" " * (-len(head) % 8)
with open("deepcluster.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(head)) + head + data)
with open("deepcluster.json", "w") as f:
    json.dump(case, f)
    f.write("\n")
print("losses", [[round(l, 4) for l in r["losses"]] for r in case["epochs"]], "margin", margin)

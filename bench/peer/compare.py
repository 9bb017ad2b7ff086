"""Times swav and PyTorch alternately on this machine and prints the ratios.

    bench/peer/run [--rows step-bf16,…] [--rounds 3]

Both do the same work (step.py and data.py say what the peer is). Each round gives
the peer, in both of its ways, some steps and then swav some, so that a machine that
changes its speed changes it for all. The peer's figure is the better of its two:
eager and compiled; for data, Pillow and tensors; for nearest neighbours, faiss. Data is timed on one core, from
$SWAV_SHARED/data/photos (../shared where that is not set) and build/cifar10.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

PHOTOS = os.path.join(os.environ.get("SWAV_SHARED", os.path.join(ROOT, "..", "shared")), "data", "photos")
CIFAR10 = os.path.join(ROOT, "build", "cifar10")
RESNET50 = ["--arch", "resnet50", "--crops", "2x224,6x96", "--prototypes", "3000"]
RESNET18 = ["--arch", "resnet18", "--stem", "small", "--crops", "2x32,4x16", "--prototypes", "512", "--batch-size", "256"]
ROWS = {
    "step-bf16": ("ResNet-50 step, 2x224+6x96, K 3000, batch 16, bf16", "step", RESNET50 + ["--batch-size", "16", "--precision", "bf16"]),
    "step-fp32": ("the same, float32", "step", RESNET50 + ["--batch-size", "16", "--precision", "fp32"]),
    "small-bf16": ("ResNet-18 step, small stem, 2x32+4x16, K 512, batch 256, bf16", "step", RESNET18 + ["--precision", "bf16"]),
    "infer-bf16": ("ResNet-50 features, 224, batch 32, bf16", "infer", ["--arch", "resnet50", "--crops", "1x224", "--batch-size", "32", "--precision", "bf16"]),
    "infer-fp32": ("the same, float32", "infer", ["--arch", "resnet50", "--crops", "1x224", "--batch-size", "32", "--precision", "fp32"]),
    "data-photos": ("2x224+6x96 from photos, one core", "data", ["--data", PHOTOS, "--crops", "2x224,6x96"]),
    "data-cifar10": ("2x32+4x16 from CIFAR-10 in memory, one core", "data", ["--data", CIFAR10, "--crops", "2x32,4x16"]),
    "data-plain": ("decoding, RandomResizedCrop 224 and flip only, one core", "data", ["--data", PHOTOS, "--crops", "1x224", "--scales", "0.08-1", "--plain"]),
    "knn": ("nearest neighbours of 10,000 queries among 50,000 by 512 features, k 20", "knn", ["--k", "20"]),
    "knn-200": ("the same, k 200", "knn", ["--k", "200"]),
    "memory": ("ResNet-50 step, batch 32, bf16", "step", RESNET50 + ["--batch-size", "32", "--precision", "bf16"]),
}


def one_core():
    """Puts a child on one core, at the priority of loader workers."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.setpriority(os.PRIO_PROCESS, 0, 10)


class Peer:
    """A process of PyTorch, or faiss, that does a step, or some images, whenever it is asked."""

    def __init__(self, kind, flags, way):
        if kind == "knn":
            command = ["knn.py", *flags]
        elif kind == "data":
            command = ["data.py", "--kind", way, *flags]
        else:
            command = ["step.py", *flags] + (["--infer"] if kind == "infer" else []) + (["--compile"] if way == "compiled" else [])
        # Settings for old OpenBLAS builds slow a current numpy.
        env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, command[0]), *command[1:]], preexec_fn=one_core if kind == "data" else None,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the peer did not start: " + "".join(self.log[-3:]).strip())
        self.info = json.loads(line)
        self.peak = 0

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        r = json.loads(self.process.stdout.readline())
        self.peak = r["peak_bytes"]
        return r["images_per_second"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


UNITS = {"knn": "queries/s"}
WAYS = {"knn": ("faiss",), "data": ("pillow", "tensor")}


def images(flags):
    """Images that swav takes for each of the peer's steps, which are of 100."""
    return 20000 if CIFAR10 in flags else 400


def ours(kind, flags, steps):
    """img/s (or queries/s) of some steps of a swav process, and its peak memory."""
    amount = {"data": ["--images", str(images(flags) * steps)], "knn": ["--steps", str(steps)]}.get(kind, ["--warmup", "1", "--steps", str(steps)])
    command = [os.path.join(ROOT, "bin", "swav"), "bench", kind, *flags, *amount]
    with tempfile.TemporaryFile("w+") as out:
        pid = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=one_core if kind == "data" else None).pid
        _, status, usage = os.wait4(pid, 0)
        out.seek(0)
        text = out.read()
    m = re.search(r"([\d.]+) " + UNITS.get(kind, "img/s"), text)
    if status or not m:
        raise RuntimeError("swav: " + text.strip())
    return float(m[1]), usage.ru_maxrss * 1024, text


def compare(name, rounds, steps):
    title, kind, flags = ROWS[name]
    if kind == "data" and not os.path.isdir(flags[1]):
        print(f"{title}\n  left out: {flags[1]} is not there\n", flush=True)
        return None
    peers = {}
    for label in WAYS.get(kind, ("eager", "compiled")):
        try:
            peers[label] = Peer(kind, flags, label)
        except RuntimeError as e:
            print(f"  {label}: {e}", file=sys.stderr)
    if not peers:
        sys.exit("no peer runs")
    theirs = {label: [] for label in peers}
    mine, peak = [], 0
    for _ in range(rounds):
        for label, p in peers.items():
            theirs[label] += [p.step() for _ in range(steps)]
        speed, rss, text = ours(kind, flags, steps)
        mine.append(speed)
        peak = max(peak, rss)
    best = max(theirs, key=lambda label: statistics.median(theirs[label]))
    ratio = statistics.median(mine) / statistics.median(theirs[best])
    shares = re.search(r"([\d.]+) %peak", text)
    unit, who = UNITS.get(kind, "img/s"), "faiss  " if kind == "knn" else "PyTorch"
    print(f"{title}\n  swav    {statistics.median(mine):8.2f} {unit} ({min(mine):.2f} to {max(mine):.2f})"
          f"{', ' + shares[1] + '% of the peak' if shares else ''}, {peak / 1e9:.2f} GB")
    for label, values in theirs.items():
        print(f"  {who} {statistics.median(values):8.2f} {unit} ({min(values):.2f} to {max(values):.2f}), {label}, {peers[label].peak / 1e9:.2f} GB")
    print(f"  ratio   {ratio:8.2f}x ({min(mine) / max(theirs[best]):.2f} to {max(mine) / min(theirs[best]):.2f}) over {best}; "
          f"memory {peak / peers[best].peak:.2f}x\n", flush=True)
    for p in peers.values():
        p.close()
    return peers[best].info


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rows", default="step-bf16,step-fp32,small-bf16,infer-bf16,infer-fp32,data-photos,data-cifar10,data-plain,memory", help="of " + ", ".join(ROWS))
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--steps", type=int, default=2, help="steps of a round")
    a = a.parse_args()
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    print(f"{cpu}, {os.cpu_count()} cores")
    print(subprocess.run([os.path.join(ROOT, "bin", "swav"), "bench", "peak"], capture_output=True, text=True).stdout)
    info = None
    for name in a.rows.split(","):
        info = compare(name, a.rounds, a.steps) or info
    if info and "torch" in info:
        print("PyTorch {torch}, torchvision {torchvision}, Python {python}, {threads} threads".format(**info))
    elif info:
        print("faiss {faiss}, NumPy {numpy}, Python {python}, {threads} threads".format(**info))


if __name__ == "__main__":
    main()

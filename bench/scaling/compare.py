"""Scaling efficiency of two ranks over a slow link: swav by MPI, PyTorch by Gloo.

    bench/scaling/run [--rates 1gbit,10gbit] [--rows r50-b4,…] [--rounds 3]

Each rank has one thread on a core of its own, in a network namespace of its own; a veth
pair connects the two, each end limited by tc's token bucket. (Delay takes netem, which not
every kernel has: the link adds none here.) The efficiency is the speed of two ranks as a
share of twice the speed of one rank of one thread. What is compared is alternated: each
round times one rank and two ranks of each, so that a machine that changes its speed
changes it for all. Both sum batch norm, codes and gradients (../peer/step.py says how the
peer does), and once more each rank keeps its batch norm to itself, as PyTorch's
DistributedDataParallel does by default on processors.
--wire bf16 sends gradients in half the bytes on both sides.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SWAV = os.path.join(ROOT, "bin", "swav")
RESNET50 = ["--arch", "resnet50", "--crops", "2x224,6x96", "--prototypes", "3000"]
ROWS = {
    "r50-b2": ("ResNet-50, 2x224+6x96, K 3000, batch 2 a rank, bf16", RESNET50 + ["--batch-size", "2"]),
    "r50-b4": ("ResNet-50, 2x224+6x96, K 3000, batch 4 a rank, bf16", RESNET50 + ["--batch-size", "4"]),
    "r50-b8": ("ResNet-50, 2x224+6x96, K 3000, batch 8 a rank, bf16", RESNET50 + ["--batch-size", "8"]),
    "r50-2x96-b8": ("ResNet-50, 2x96, K 3000, batch 8 a rank, bf16", ["--arch", "resnet50", "--crops", "2x96", "--prototypes", "3000", "--batch-size", "8"]),
    "r18-b32": ("ResNet-18, small stem, 2x32+4x16, K 512, batch 32 a rank, bf16",
                ["--arch", "resnet18", "--stem", "small", "--crops", "2x32,4x16", "--prototypes", "512", "--batch-size", "32"]),
}


APART = "swav, batch norm apart"


def sh(*command, **more):
    subprocess.run(command, check=True, **more)


def address(n):
    return f"10.77.0.{n}"


class Link:
    """Two namespaces, swav1 and swav2, with a veth pair between them."""

    def __init__(self):
        self.close()
        for n in (1, 2):
            sh("ip", "netns", "add", f"swav{n}")
            sh("ip", "-n", f"swav{n}", "link", "set", "lo", "up")
        sh("ip", "-n", "swav1", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", "swav2")
        for n in (1, 2):
            sh("ip", "-n", f"swav{n}", "addr", "add", f"{address(n)}/24", "dev", "eth0")
            sh("ip", "-n", f"swav{n}", "link", "set", "eth0", "up")

    def limit(self, rate):
        """Of each direction; none takes the limit away."""
        for n in (1, 2):
            subprocess.run(["tc", "-n", f"swav{n}", "qdisc", "del", "dev", "eth0", "root"], stderr=subprocess.DEVNULL)
            if rate != "none":
                sh("tc", "-n", f"swav{n}", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms")

    def close(self):
        for n in (1, 2):
            subprocess.run(["ip", "netns", "del", f"swav{n}"], stderr=subprocess.DEVNULL)


def environment():
    # Settings for old OpenBLAS builds slow a current numpy.
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    env.update(OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return env


class Peer:
    """One or two processes of PyTorch that do a step whenever they are asked."""

    def __init__(self, python, flags, ranks, sync, wire="fp32"):
        self.ranks, self.processes = ranks, []
        for r in range(ranks):
            command = [python, os.path.join(HERE, "..", "peer", "step.py"), *flags, "--precision", "bf16", "--warmup", "1"]
            env = environment()
            if ranks > 1:
                command = ["ip", "netns", "exec", f"swav{r + 1}", *command, "--distributed"] + (["--sync-bn"] if sync else []) + ["--wire", wire]
                env.update(RANK=str(r), WORLD_SIZE=str(ranks), MASTER_ADDR=address(1), MASTER_PORT="29511" if sync else "29512", GLOO_SOCKET_IFNAME="eth0")
            self.processes.append(subprocess.Popen(["taskset", "-c", str(r), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                   stderr=subprocess.PIPE, text=True, env=env))
        self.logs = [[] for _ in self.processes]
        for p, log in zip(self.processes, self.logs):
            threading.Thread(target=lambda p=p, log=log: log.extend(p.stderr), daemon=True).start()
        for p, log in zip(self.processes, self.logs):
            line = p.stdout.readline()
            if not line:
                raise RuntimeError("the peer did not start: " + "".join(log[-5:]).strip())
            self.info = json.loads(line)

    def step(self):
        """Images per second of all ranks."""
        for p in self.processes:
            p.stdin.write("\n")
            p.stdin.flush()
        speeds = [json.loads(p.stdout.readline())["images_per_second"] for p in self.processes]
        return self.ranks * min(speeds)

    def close(self):
        for p in self.processes:
            p.stdin.close()
        for p in self.processes:
            p.wait()


def swav_alone(flags, steps):
    out = subprocess.run(["taskset", "-c", "0", SWAV, "bench", "step", *flags, "--threads", "1", "--warmup", "1", "--steps", str(steps)],
                         capture_output=True, text=True, env=environment())
    m = re.search(r"([\d.]+) img/s", out.stdout)
    if out.returncode or not m:
        raise RuntimeError("swav: " + out.stderr.strip())
    return float(m[1])


def swav_pair(flags, steps, more):
    """Speed of two ranks, and what else swav printed."""
    tcp = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "eth0", "--mca", "oob_tcp_if_include", "eth0"]
    ranked = ["sh", "-c", 'exec taskset -c "$OMPI_COMM_WORLD_RANK" "$@"', "sh"]
    command = ["mpirun.openmpi", "-n", "2", "--host", f"{address(1)}:1,{address(2)}:1", "--bind-to", "none", *tcp,
               "--mca", "plm_rsh_agent", os.path.join(HERE, "agent"), "-x", "OMP_NUM_THREADS", *ranked,
               SWAV, "bench", "scaling", *flags, *more, "--threads", "1", "--warmup", "1", "--steps", str(steps)]
    out = subprocess.run(["ip", "netns", "exec", "swav1", "unshare", "--uts", "sh", "-c", 'hostname swav1; exec "$@"', "sh", *command],
                         capture_output=True, text=True, env=environment(), timeout=300)
    m = re.search(r"^BenchmarkScaling.* ([\d.]+) img/s|^BenchmarkScaling.*\t([\d.]+) img/s", out.stdout, re.M)
    if out.returncode or not m:
        raise RuntimeError("swav: " + out.stderr.strip() + out.stdout)
    return float(m[1] or m[2]), out.stdout


def spread(values):
    return f"{statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(name, rate, a, link):
    title, flags = ROWS[name]
    link.limit(rate)
    own = {"swav": [], APART: ["--sync-bn", "off"]}
    one = {"swav": []}
    two = {k: [] for k in own}
    peers = {}
    if not a.no_peer:
        # Both ways of the peer have the same single rank.
        peers = {"Gloo": Peer(a.peer_python, flags, 2, True, a.wire), "Gloo, batch norm apart": Peer(a.peer_python, flags, 2, False, a.wire)}
        alone = Peer(a.peer_python, flags, 1, False)
        one["Gloo"] = []
        two.update({k: [] for k in peers})
    for _ in range(a.rounds):
        text = ""
        one["swav"].append(swav_alone(flags, a.steps))
        for k, more in own.items():
            speed, said = swav_pair(flags, a.steps, ["--wire", a.wire, *more, *a.swav_flags.split()])
            two[k].append(speed)
            text += f"{k}\n{said}"
        if peers:
            one["Gloo"] += [alone.step() for _ in range(a.steps)]
            for k, p in peers.items():
                two[k] += [p.step() for _ in range(a.steps)]
    print(f"{title}, {rate}, gradients in {a.wire}" + (f", {a.swav_flags}" if a.swav_flags else ""))
    best = {}
    for k, values in two.items():
        base = one[k.split(",")[0]]
        best[k] = statistics.median(values) / (2 * statistics.median(base))
        print(f"  {k:24} 1 rank {spread(base)} img/s, 2 ranks {spread(values)} img/s, efficiency {100 * best[k]:.1f}%")
    for k, ours in zip(peers, own):
        print(f"  {ours:24} {best[ours] / best[k]:.2f}x of the efficiency of {k}, {statistics.median(two[ours]) / statistics.median(two[k]):.2f}x of the speed")
    if a.verbose:
        print("".join("    " + line + "\n" for line in text.splitlines()))
    print(flush=True)
    if peers:
        alone.close()
        for p in peers.values():
            p.close()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rows", default="r50-b4,r50-b8", help="of " + ", ".join(ROWS))
    a.add_argument("--rates", default="1gbit,10gbit", help="of the link, as tc has it; none: no limit")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--steps", type=int, default=2, help="steps of a round")
    a.add_argument("--wire", default="fp32", choices=["bf16", "fp32"], help="how gradients travel")
    a.add_argument("--swav-flags", default="", help="more flags of swav bench scaling")
    a.add_argument("--peer-python", default=os.path.join(ROOT, "build", "peer", "bin", "python"))
    a.add_argument("--no-peer", action="store_true")
    a.add_argument("--verbose", action="store_true", help="also what swav prints of messages and predictions")
    a = a.parse_args()
    if not a.no_peer and not os.path.exists(a.peer_python):
        sys.exit(f"swav: error: there is no {a.peer_python}\nswav: hint: bench/peer/run installs PyTorch; or give --peer-python, or --no-peer")
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
    link = Link()
    try:
        for rate in a.rates.split(","):
            for name in a.rows.split(","):
                compare(name, rate, a, link)
    finally:
        link.close()


if __name__ == "__main__":
    main()

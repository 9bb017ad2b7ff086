"""What runs give to other tools: features as tables, TensorBoard's files, MLflow.

  runs.py SWAV PHOTOS WORK

A small network is trained on the photos, interrupted and resumed, while a real MLflow
server listens. pandas, pyarrow, TensorBoard and MLflow must then say what swav's own
files say.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import mlflow
import numpy
import pandas
import pyarrow.parquet
import safetensors.numpy
from google.protobuf import text_format
from PIL import Image
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

SWAV, PHOTOS, WORK = sys.argv[1:]
failed = []


def at(*names):
    return os.path.join(WORK, *names)


def check(what, got, want):
    ok = got == want
    text = lambda v: v if len(str(v)) < 60 else str(v)[:60] + "…"
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {text(got)}" + ("" if ok else f", want {text(want)}"), flush=True)
    if not ok:
        failed.append(what)


def swav(*args):
    out = subprocess.run([SWAV, *args], capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"swav {' '.join(args)}: exit {out.returncode}\n{out.stdout}{out.stderr}")
    return out.stdout


def wait_for(what, ready, seconds=180):
    until = time.time() + seconds
    while not ready():
        if time.time() > until:
            sys.exit(f"{what}: nothing after {seconds} seconds")
        time.sleep(0.2)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as r:
            return r.read()
    except OSError:
        return b""


def metrics():
    with open(at("run", "metrics.jsonl")) as f:
        return [json.loads(line) for line in f]


def train(server):
    """Trains 60 steps, interrupted on the way."""
    small = ["model.arch=resnet18", "model.width=0.125", "model.hidden=32", "model.feature_dim=16", "model.prototypes=12", "crops=2x48@0.3-1,2x32@0.1-0.3",
             "train.epochs=0", "train.steps=60", "train.batch_size=16", "train.log_every=10", "optim.kind=adamw", "optim.lr=1e-3", "optim.final_lr=0", "swav.queue=0",
             "swav.freeze_prototypes=0 steps", f"log.mlflow={server}", "log.projector=50", "log.mlflow_experiment=photos"]
    run = subprocess.Popen([SWAV, "train", "--data", PHOTOS, "--run", at("run"), "--recipe", "swav_200ep_bs256", *(f"--set={s}" for s in small)],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for("training", lambda: run.poll() is not None or os.path.exists(at("run", "metrics.jsonl")) and len(metrics()) > 15)
    run.send_signal(signal.SIGINT)
    text = run.communicate()[0]
    check("interrupted, exit status", run.returncode, 130)
    if run.returncode != 130:
        sys.exit(text)
    print(swav("train", "--resume", "--run", at("run")))


def tables():
    swav("embed", "--run", at("run"), "--out", at("f.npy"))
    swav("embed", "--run", at("run"), "--out", at("g.parquet"))
    swav("embed", "--run", at("run"), "--out", at("h.csv"))
    swav("embed", "--run", at("run"), "--out", at("i.safetensors"))
    want, names = numpy.load(at("f.npy")), pandas.read_csv(at("f.csv"), keep_default_na=False)
    check("safetensors: features", (safetensors.numpy.load_file(at("i.safetensors"))["features"] == want).all(), True)
    t = pyarrow.parquet.read_table(at("g.parquet"))
    check("parquet: columns by pyarrow", [f"{f.name}: {f.type}" for f in t.schema], ["id: string", "label: string", "features: list<element: float not null>"])
    p = pandas.read_parquet(at("g.parquet"))
    check("parquet: features by pandas", (numpy.stack(p.features) == want).all(), True)
    check("parquet: names and labels", (list(p.id), list(p.label)), (list(names.id), list(names.label)))
    c = pandas.read_csv(at("h.csv"), keep_default_na=False, dtype={f"f{i}": "float32" for i in range(want.shape[1])})
    check("csv: features by pandas", (c.iloc[:, 2:].to_numpy() == want).all(), True)
    check("csv: names and labels", (list(c.id), list(c.label)), (list(names.id), list(names.label)))
    return dict(zip(names.id, want))


def tensorboard(features):
    swav("export", at("run"), "--format", "tensorboard", "--images", "30", "--out", at("tb"))
    lines = metrics()
    with open(at("run", "prototypes.png"), "rb") as f:
        sheet = f.read()
    for folder, every, points in (("run", 2, 50), ("tb", 1, 30)):
        e = EventAccumulator(at(folder), size_guidance={"scalars": 0, "images": 0})
        e.Reload()
        got = [(s.step, s.value) for s in e.Scalars("train/loss")]
        check(f"{folder}: losses by EventAccumulator", got, [(m["step"], float(numpy.float32(m["loss"]))) for m in lines if m["step"] % every == 0])
        check(f"{folder}: curves", sorted(t for t in e.Tags()["scalars"] if not t.startswith("final/")),
              ["health/code_entropy", "health/effective_rank", "health/loss_ratio", "health/marginal_error", "health/perplexity",
               "speed/images_per_second", "speed/wait_seconds", "train/grad_norm", "train/loss", "train/lr"])
        pictures = e.Images("prototypes")
        size = Image.open(at("run", "prototypes.png")).size
        check(f"{folder}: sheet", [(p.step, (p.width, p.height), p.encoded_image_string == sheet) for p in pictures], [(60, size, True)])
        with open(at(folder, "projector_config.pbtxt")) as f:
            config = text_format.Parse(f.read(), ProjectorConfig()).embeddings[0]
        tensor = numpy.loadtxt(at(folder, config.tensor_path), delimiter="\t", dtype="float32")
        known = pandas.read_csv(at(folder, config.metadata_path), sep="\t")
        check(f"{folder}: projector's vectors", (tensor == numpy.stack([features[i] for i in known.id])).all() and len(tensor) == points, True)
        sprite = Image.open(at(folder, config.sprite.image_path))
        columns = int(numpy.ceil(numpy.sqrt(points)))
        check(f"{folder}: sprite", sprite.size, (columns * config.sprite.single_image_dim[0], columns * config.sprite.single_image_dim[1]))
        sprite.save(at(folder + "-sprite.png"))

        board = program.TensorBoard()
        board.configure(argv=["tensorboard", "--logdir", at(folder), "--port", "0", "--load_fast", "false"])
        url = board.launch()
        wait_for("TensorBoard", lambda: b"train/loss" in get(url + "data/plugin/scalars/tags") and get(url + "data/plugin/projector/runs") not in (b"", b"[]"))
        check(f"{folder}: TensorBoard shows the projector", json.loads(get(url + "data/plugin/projector/info?run=."))["embeddings"][0]["tensorName"], "features")
        check(f"{folder}: TensorBoard gives the vectors", len(get(url + "data/plugin/projector/tensor?run=.&name=features&num_rows=1000")), 4 * tensor.size)
        check(f"{folder}: TensorBoard shows the sheet", sorted(json.loads(get(url + "data/plugin/images/tags"))["."]), ["prototypes", "views"] if folder == "run" else ["prototypes"])


def tracking(server):
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("photos")
    runs = client.search_runs([experiment.experiment_id])
    check("MLflow: runs and how they ended", [r.info.status for r in runs], ["FINISHED"])
    run = runs[0]
    lines = metrics()
    # Steps that were done twice, before the interruption and after, have two equal values.
    got = sorted({(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")})
    check("MLflow: losses", got, [(m["step"], m["loss"]) for m in lines if m["step"] % 2 == 0])
    check("MLflow: parameters", {k: run.data.params.get(k) for k in ("optim.kind", "optim.lr", "crops.1.size", "model.prototypes", "log.mlflow")},
          {"optim.kind": "adamw", "optim.lr": "0.001", "crops.1.size": "32", "model.prototypes": "12", "log.mlflow": None})
    check("MLflow: outcome", "final/knn" in run.data.metrics, True)
    check("MLflow: files", sorted(f.path for f in client.list_artifacts(run.info.run_id)), ["prototypes.png", "recipe.toml", "report.html"])
    with open(client.download_artifacts(run.info.run_id, "report.html"), "rb") as a, open(at("run", "report.html"), "rb") as b:
        check("MLflow: the report, byte for byte", a.read() == b.read(), True)


def main():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    with open(at("mlflow.log"), "w") as log:
        mlflow_server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", "sqlite:///" + at("mlflow.db"),
             "--artifacts-destination", at("artifacts")], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for("MLflow", lambda: get(server + "/health") == b"OK" or mlflow_server.poll() is not None)
        train(server)
        tensorboard(tables())
        tracking(server)
    finally:
        os.killpg(mlflow_server.pid, signal.SIGTERM)
        mlflow_server.wait()
    if failed:
        sys.exit(f"{len(failed)} checks failed: " + "; ".join(failed))
    print("all agree")


main()

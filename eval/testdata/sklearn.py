"""Writes sklearn.json beside this file: what scikit-learn and NumPy say of small data.

    pip install scikit-learn numpy && python eval/testdata/sklearn.py
"""
import json
import pathlib
import sys

sys.path.pop(0)  # this file's own name is sklearn

import numpy as np
import sklearn
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (adjusted_rand_score, average_precision_score, log_loss, normalized_mutual_info_score,
                             silhouette_score)
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(7)
classes, dim, n, q = 4, 6, 160, 90
centres = rng.normal(size=(classes, dim)) * 0.9


def draw(count):
    labels = rng.integers(0, classes, count)
    x = (centres[labels] + rng.normal(size=(count, dim)) + 0.5).astype(np.float32)
    return x, labels


ref, ref_labels = draw(n)
query, query_labels = draw(q)

clusterings = []
for k in (1, 3, 4, 9, 40):
    assign = np.where(rng.random(n) < 0.6, ref_labels * 7 % k, rng.integers(0, k, n))
    table = np.zeros((k, classes), int)
    np.add.at(table, (assign, ref_labels), 1)
    rows, cols = linear_sum_assignment(-table)
    unit = ref / np.linalg.norm(ref, axis=1, keepdims=True)
    clusterings.append(dict(
        k=k, assign=assign.tolist(), nmi=normalized_mutual_info_score(ref_labels, assign), ari=adjusted_rand_score(ref_labels, assign),
        hungarian=table[rows, cols].sum() / n, silhouette=float(silhouette_score(unit, assign)) if k > 1 else None))

scale = StandardScaler().fit(ref.astype(np.float64))
logistic = []
for c in (0.01, 0.1, 1.0, 10.0):
    m = LogisticRegression(C=c, tol=1e-10, max_iter=10000).fit(scale.transform(ref), ref_labels)
    p = m.predict_proba(scale.transform(query))
    logistic.append(dict(c=c, log_loss=log_loss(query_labels, p), accuracy=float((p.argmax(1) == query_labels).mean())))

a = ref.astype(np.float64) / np.linalg.norm(ref.astype(np.float64), axis=1, keepdims=True)
b = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64), axis=1, keepdims=True)
sims = b @ a.T
same = query_labels[:, None] == ref_labels[None]
order = np.argsort(-sims, axis=1, kind="stable")
ranked = np.take_along_axis(same, order, 1)
retrieval = dict(map=float(np.mean([average_precision_score(same[i], sims[i]) for i in range(q)])),
                 recall={str(k): float(ranked[:, :k].any(1).mean()) for k in (1, 5, 10)})

out = dict(versions=dict(sklearn=sklearn.__version__, numpy=np.__version__), dim=dim, classes=classes,
           ref=ref.ravel().tolist(), ref_labels=ref_labels.tolist(), query=query.ravel().tolist(), query_labels=query_labels.tolist(),
           clusterings=clusterings, logistic=logistic, retrieval=retrieval)
pathlib.Path(__file__).with_name("sklearn.json").write_text(json.dumps(out) + "\n")

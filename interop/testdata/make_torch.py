"""Writes zip.pth, legacy.pth and protocol4.pth by PyTorch 2.15: python make_torch.py"""
import argparse
import collections
import os

import torch

here = os.path.dirname(os.path.abspath(__file__))
weight = torch.arange(6, dtype=torch.float32).reshape(2, 3)
state = collections.OrderedDict()
state["module.weight"] = weight
state["transposed"] = weight.t()  # the same storage, other strides
state["view"] = weight[1, 1:]
state["half"] = torch.tensor([0.5, -1.5], dtype=torch.float16)
state["bias"] = torch.nn.Parameter(torch.tensor([0.25]))
state["bn.num_batches_tracked"] = torch.tensor(3)
state._metadata = {"": {"version": 1}}
checkpoint = {
    "epoch": 3,
    "state_dict": state,
    "list": [torch.tensor([9.0], dtype=torch.bfloat16), 1.5, None, 2**100, -7],
    "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2, dtype=torch.float64)}}, "param_groups": [{"lr": 0.6, "params": [0]}]},
    "args": argparse.Namespace(arch="resnet50", queue=(1, 2), names={"a"}),  # a class that is not known to swav
}
torch.save(checkpoint, os.path.join(here, "zip.pth"))
torch.save(checkpoint, os.path.join(here, "legacy.pth"), _use_new_zipfile_serialization=False)
torch.save(checkpoint, os.path.join(here, "protocol4.pth"), pickle_protocol=4)

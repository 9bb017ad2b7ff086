"""Writes original.pth.tar: a small network in the layout of the original's checkpoints.

As the original's training saves it: DistributedDataParallel's "module." before every
name, projection_head and prototypes, the optimizer's momenta and apex's state beside
them, PyTorch's older file format. Made with PyTorch 2.x, seed 1.
"""
import torch
from torch import nn

torch.manual_seed(1)


def conv(i, o, k, stride=1):
    return nn.Conv2d(i, o, k, stride, k // 2, bias=False)


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = conv(i, o, 3, stride), nn.BatchNorm2d(o), conv(o, o, 3), nn.BatchNorm2d(o)
        if i != o:
            self.downsample = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))


class SwAV(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 8, 3), nn.BatchNorm2d(8)
        self.layer1, self.layer2 = nn.Sequential(Block(8, 8, 1)), nn.Sequential(Block(8, 16, 2))
        self.projection_head = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Linear(16, 8))
        self.prototypes = nn.Linear(8, 6, bias=False)


model = nn.ModuleDict({"module": SwAV()})
optimizer = torch.optim.SGD(model.parameters(), lr=0.6, momentum=0.9, weight_decay=1e-6)
for p in model.parameters():
    p.grad = torch.randn_like(p)
optimizer.step()
torch.save({"epoch": 800, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 3}}},
           "original.pth.tar", _use_new_zipfile_serialization=False)

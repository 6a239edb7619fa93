"""The three networks, in PyTorch. All are fully convolutional up to their heads, without attention.

Inputs are HU; the window is inside, so that nobody can apply a wrong one. Batch normalisation
folds into the convolutions at export and costs nothing when it runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# What is darker or brighter tells nothing more about a nodule.
_LOW_HU, _HIGH_HU = -1000.0, 400.0


def windowed(hu: Tensor) -> Tensor:
    """Map HU, any integer or float type, [B, D, H, W] to −1 … 1, [B, 1, D, H, W]."""
    x = hu.unsqueeze(1).to(torch.float32)
    return (x.clamp(_LOW_HU, _HIGH_HU) - _LOW_HU) * (2 / (_HIGH_HU - _LOW_HU)) - 1


class Block(nn.Module):
    """Residual block of two 3 x 3 x 3 convolutions (He et al., CVPR 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm_one = nn.BatchNorm3d(width)
        self.two = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm_two = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm_one(self.one(x)))
        return functional.relu(x + self.norm_two(self.two(inner)))


def _down(wide: int, to: int, size: int = 2, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(wide, to, size, stride=2, padding=padding, bias=False),
        nn.BatchNorm3d(to),
        nn.ReLU(),
    )


def _up(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Detector(nn.Module):
    """Nodule centres as a heat map at half the resolution (CenterNet, Zhou et al., 2019, in 3D).

    hu [B, D, H, W] on voxels of 1 mm, sizes multiples of 8 →
    heat [B, D/2, H/2, W/2] logit that a centre is here, size (ln of the diameter in mm), and
    offset [B, 3, …] from the voxel's centre to the nodule's, mm along z, y, x.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 64)) -> None:
        super().__init__()
        a, b, c = widths
        # 4 x 4 x 4 with stride 2 sees every voxel twice an axis: small nodules lose nothing.
        self.stem = _down(1, a, 4, 1)
        self.level_one = Block(a)
        self.down_two = _down(a, b)
        self.level_two = nn.Sequential(Block(b), Block(b))
        self.down_three = _down(b, c)
        self.level_three = Block(c)
        self.up_two = nn.Conv3d(c, b, 1)
        self.merge_two = Block(b)
        self.up_one = nn.Conv3d(b, a, 1)
        self.merge_one = nn.Sequential(
            nn.Conv3d(a, a, 3, padding=1, bias=False), nn.BatchNorm3d(a), nn.ReLU()
        )
        self.head = nn.Conv3d(a, 5, 1)
        # So rare is a centre at the start: the loss does not begin with a flood of false ones.
        nn.init.constant_(self.head.bias[:1], -6.0)  # type: ignore[index]
        nn.init.constant_(self.head.bias[1:2], 2.0)  # type: ignore[index]

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = self.level_one(self.stem(windowed(hu)))
        two = self.level_two(self.down_two(one))
        three = self.level_three(self.down_three(two))
        two = self.merge_two(two + _up(self.up_two(three)))
        one = self.merge_one(one + _up(self.up_one(two)))
        out = self.head(one)
        return out[:, 0], out[:, 1], out[:, 2:]


class Reducer(nn.Module):
    """Nodule or not, and of which kind, from a crop around a candidate.

    hu [B, 40, 40, 40] on voxels of 0.8 mm → logits [B, 1] and [B, 4] (solid, part-solid,
    non-solid, calcified).
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 96)) -> None:
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            _down(1, a, 4, 1),
            Block(a),
            _down(a, b),
            Block(b),
            Block(b),
            _down(b, c),
            Block(c),
        )
        self.nodule = nn.Linear(2 * c, 1)
        self.kind = nn.Linear(2 * c, 4)

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(windowed(hu))
        # The middle says what the candidate is, the mean what it lies in.
        middle = x[:, :, 1:4, 1:4, 1:4].mean(dim=(2, 3, 4))
        features = torch.cat([middle, x.mean(dim=(2, 3, 4))], 1)
        return self.nodule(features), self.kind(features)


class Segmenter(nn.Module):
    """How much of each voxel is nodule, and its solid part (a small U-Net, Çiçek et al., 2016).

    hu [B, 64, 64, 64], the nodule in the middle → logits [B, 2, 64, 64, 64].
    """

    def __init__(self, widths: tuple[int, int, int, int] = (12, 24, 48, 64)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.full = nn.Sequential(
            nn.Conv3d(1, a, 3, padding=1, bias=False), nn.BatchNorm3d(a), nn.ReLU()
        )
        self.down_one = _down(a, b)
        self.level_one = Block(b)
        self.down_two = _down(b, c)
        self.level_two = Block(c)
        self.down_three = _down(c, d)
        self.level_three = nn.Sequential(Block(d), Block(d))
        self.up_two = nn.Conv3d(d, c, 1)
        self.merge_two = Block(c)
        self.up_one = nn.Conv3d(c, b, 1)
        self.merge_one = Block(b)
        self.up_full = nn.Conv3d(b, a, 1)
        self.merge_full = nn.Sequential(
            nn.Conv3d(a, a, 3, padding=1, bias=False), nn.BatchNorm3d(a), nn.ReLU()
        )
        self.head = nn.Conv3d(a, 2, 1)

    def forward(self, hu: Tensor) -> Tensor:
        full = self.full(windowed(hu))
        one = self.level_one(self.down_one(full))
        two = self.level_two(self.down_two(one))
        three = self.level_three(self.down_three(two))
        two = self.merge_two(two + _up(self.up_two(three)))
        one = self.merge_one(one + _up(self.up_one(two)))
        out: Tensor = self.head(self.merge_full(full + _up(self.up_full(one))))
        return out

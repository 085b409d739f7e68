# SPDX-License-Identifier: Apache-2.0
"""Training rays through points whose distance is known, as structure from motion finds them in photos.

Deng et al. 2022 (Depth-supervised NeRF) learn from such points; here by the loss of depth maps, losses.depth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield import ops
from neurfield.data.scene import Normalization
from neurfield.data.seen_points import SeenPoints
from neurfield.ops.pixel import SampledPixels
from neurfield.sampling.hand_over import hand_over
from neurfield.sampling.pixels import PixelSampler
from neurfield.training.step_random import step_generator


class PointRays:
    """Rays from training cameras to points that they see; they move with their cameras.

    Left out are points outside of the field's box, and those that lie outside of a picture, are ignored by its mask or
    are transparent in it.

    Args:
        seen: of the scene; `views` are those of it that `pixels` has, in its order.
        pixels: cameras in unit space, and images.

    Attributes:
        views, local, distances, targets: of each ray: int64 row of its camera, unit direction in the camera's axes
            `[n, 3]`, distance in unit space, RGBA `[n, 4]`.
    """

    def __init__(
        self, seen: SeenPoints, views: Sequence[int], pixels: PixelSampler, normalization: Normalization
    ) -> None:
        cameras = pixels.cameras
        rows = torch.full((max(int(seen.views.max()), max(views)) + 1,), -1)
        rows[torch.tensor(views)] = torch.arange(len(views))
        positions = normalization.to_unit(seen.positions)
        low, high = positions.new_tensor(normalization.aabb).view(2, 3)
        inside = ((positions > low) & (positions < high)).all(dim=1)
        kept = (rows[seen.views] >= 0) & inside[seen.points]
        row, points = rows[seen.views][kept], positions[seen.points[kept]]
        xy, _ = ops.project(cameras, row, points)
        size = cameras.sizes[row]
        kept = ((xy >= 0) & (xy < size)).all(dim=1)  # not of NaN, which is no image
        row, points, xy = row[kept], points[kept], xy[kept].long()
        targets, is_seen = pixels.at(row, xy[:, 0], xy[:, 1])
        row, points = row[is_seen], points[is_seen]
        towards = points - cameras.c2w[row, :, 3]
        self.distances = towards.norm(dim=1)
        self.local = torch.einsum("nij,ni->nj", cameras.c2w[row, :, :3], towards / self.distances[:, None])
        self.views, self.targets = row, targets[is_seen]

    def __len__(self) -> int:
        return self.views.shape[0]

    def to(self, device: torch.device) -> None:
        self.views, self.local = self.views.to(device), self.local.to(device)
        self.distances, self.targets = self.distances.to(device), self.targets.to(device)

    def sample(self, n: int, c2w: Tensor, step: int, seed: int, rays_per_pixel: int) -> tuple[SampledPixels, Tensor]:
        """Draws `n` of them, each as often as a pixel has rays, and their distances `[n * rays_per_pixel]`.

        Args:
            c2w: `[n_views, 3, 4]` where the cameras are now.
        """
        chosen = torch.randint(len(self), (n,), generator=step_generator(seed, step))
        chosen = hand_over(chosen, self.views.device)
        views, rays = self.views[chosen], chosen.repeat_interleave(rays_per_pixel)
        pose = c2w[self.views[rays]]
        directions = torch.einsum("nij,nj->ni", pose[:, :, :3], self.local[rays])
        picks = torch.nn.functional.pad(views[:, None].int(), (0, 2))
        drawn = SampledPixels(pose[:, :, 3].contiguous(), directions, self.targets[chosen], picks)
        return drawn, self.distances[rays]


def weighted(distances: Tensor, weight: float) -> Tensor:
    """`[n_rays, 2]` for RayBatch, of distances, 0 where they are not known, whose mean error has this weight."""
    known = distances > 0
    return torch.stack([distances, known * (weight / known.sum().clamp_min(1))], dim=1)


def woven(few: Tensor, many: Tensor, every: int) -> Tensor:
    """Rows of two tensors as one: a row of `few`, `every` - 1 of `many`, and so on; `few` has those that there are."""
    at = torch.arange(len(many), device=many.device)
    both = many.new_empty(len(few) + len(many), *many.shape[1:])
    both[::every] = few
    both[at + at // (every - 1) + 1] = many
    return both

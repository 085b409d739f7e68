# SPDX-License-Identifier: Apache-2.0
"""One training step of a field and its coarse companion, as the original NeRF is trained: every ray everywhere.

Both fields learn the same pixels (Mildenhall et al. 2020, section 5.3): L = |C_coarse - C|^2 + |C_fine - C|^2, in
whatever loss the method names. The samples of the field are drawn where the coarse one has found something.
"""

import torch
from torch import Tensor

from neurfield import losses
from neurfield.fields.radiance_module import RadianceModule
from neurfield.ops.composite import Composite
from neurfield.rendering.hierarchical import hierarchical
from neurfield.sampling.hand_over import hand_over
from neurfield.training.composed_step import RayBatch, RayStepFn, descend, loss_terms
from neurfield.training.method import MethodConfig
from neurfield.training.optimizer import Adam
from neurfield.training.sampler import SamplerConfig
from neurfield.training.step_random import step_generator
from neurfield.training.task import StepResult


def hierarchical_step(
    field: RadianceModule,
    coarse: RadianceModule,
    optimizer: Adam,
    method: MethodConfig,
    sampler: SamplerConfig,
    seed: int,
    aabb: tuple[float, ...],
) -> RayStepFn:
    """A step on all rays of a batch; a loss or gradient that is not finite changes nothing.

    Args:
        sampler: the method's, which says how many places a ray has.
        aabb: of unit space, `(min x, y, z, max x, y, z)`: rays are looked at within it.
    """
    loss_fn, regularizers = loss_terms(method.loss)

    def step(batch: RayBatch, learning_rate: float, number: int) -> StepResult:
        device = batch.origins.device
        generator = step_generator(seed, number)
        hit, first, second, first_t, second_t = hierarchical(
            coarse, field, batch.origins, batch.directions, sampler.n_coarse, sampler.n_fine, aabb,
            lambda rows, columns: hand_over(torch.rand(rows, columns, generator=generator, device="cpu"), device),
        )  # fmt: skip

        def colors(rays: Composite) -> Tensor:
            """Of pixels, `[n_pixels, 3]`."""
            rgb = batch.origins.new_zeros(batch.n_rays, 3).index_copy(0, hit, rays.rgb)
            acc = batch.origins.new_zeros(batch.n_rays, 1).index_copy(0, hit, rays.acc[:, None])
            rgb, acc = (x.view(batch.n_pixels, -1, x.shape[1]).mean(1) for x in (rgb, acc))
            return rgb + (1 - acc) * batch.background

        seen = colors(second)
        squared_error = float((seen.detach() - batch.target).square().mean())
        if not len(hit):
            return StepResult(squared_error, squared_error, batch.n_rays, 0)
        loss = loss_fn(colors(first), batch.target).mean() + loss_fn(seen, batch.target).mean()
        for term, weight in regularizers:
            loss = loss + weight * (term(first).sum() + term(second).sum()) / batch.n_rays
        if batch.distances is not None:
            distance, share = batch.distances.unbind(1)
            for rays, t in ((first, first_t), (second, second_t)):
                agreed = rays.weights.view_as(t) * losses.depth_agreement(t, distance[hit, None])
                loss = loss + share.sum() - (share[hit, None] * agreed).sum()
        rate = torch.full((), learning_rate, dtype=torch.float64, device=device)
        value = descend(loss, field, optimizer, method.loss.view_dependence, rate)
        return StepResult(float(value), squared_error, batch.n_rays, len(hit) * (2 * sampler.n_coarse + sampler.n_fine))

    return step

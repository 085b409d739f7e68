# SPDX-License-Identifier: Apache-2.0
"""nerfacc's estimators over neurfield's operators, on the CPU as well: same arguments, buffers and definitions.

    from neurfield.nerfacc import OccGridEstimator      # instead of `from nerfacc import OccGridEstimator`
    ray_indices, t_starts, t_ends = estimator.sampling(rays_o, rays_d, sigma_fn, render_step_size=5e-3)

Where they differ, see docs/interop.md. What `sampling` gives is rendered by neurfield.rendering.volume.
"""

from neurfield.nerfacc.occ_grid import OccGridEstimator
from neurfield.nerfacc.prop_net import PropNetEstimator, get_proposal_requires_grad_fn

__all__ = ["OccGridEstimator", "PropNetEstimator", "get_proposal_requires_grad_fn"]

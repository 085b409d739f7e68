# SPDX-License-Identifier: Apache-2.0
"""PyTorch operators over the native core, each with a fake implementation, and a backward where it is differentiable.

One file per operator, with the stem of its mathematics in csrc/math and of its oracle in neurfield/reference. Native
code runs inside of registered operators only; outside of them it answers for sizes, layouts and memory. Functions whose
result has as many rows as the data says (occupancy_select, occupied_pixel_blocks, march, visible_samples), or is a
number (fused_gradients), break a traced graph where they read that from a tensor.
"""

from neurfield.ops.aabb import ray_aabb
from neurfield.ops.adam import adam_step, adam_step_by_clock, hash_grid_adam_step
from neurfield.ops.camera import camera_rays, project
from neurfield.ops.carve import carve, close_unseen, occupied_pixel_blocks
from neurfield.ops.composite import Composite, composite
from neurfield.ops.depth_fusion import fuse_depths, seen_in_depths
from neurfield.ops.fourier_features import fourier_features
from neurfield.ops.frequency import frequency
from neurfield.ops.fused_field import FusedField, FusedMarch, fused_reason, fused_supported
from neurfield.ops.fused_mlp import MLPConfig, fused_mlp
from neurfield.ops.fused_radiance import (
    FusedImage,
    FusedLoss,
    FusedReport,
    FusedWorkspace,
    fused_density,
    fused_gradients,
    fused_render,
    fused_table_adam,
    fused_table_gradient,
)
from neurfield.ops.gates import gates
from neurfield.ops.half_copy import current_half_copy, half_copy, mark_half_copy_current, renew_half_copy
from neurfield.ops.hash_grid import GridConfig, hash_grid
from neurfield.ops.kilo_grid import KiloCells, kilo_locate
from neurfield.ops.kilo_mlp import KiloConfig, kilo_mlp
from neurfield.ops.kilo_render import kilo_render
from neurfield.ops.kilo_visible import kilo_visible
from neurfield.ops.march import PackedSamples, march
from neurfield.ops.mesh_distance import MeshTree, mesh_distance, mesh_inside, mesh_tree
from neurfield.ops.modulation import modulation, modulation_gradient
from neurfield.ops.occupancy import (
    morton_cells,
    occupancy_bits,
    occupancy_coarse,
    occupancy_draw,
    occupancy_mean,
    occupancy_select,
    occupancy_select_padded,
    occupancy_update,
)
from neurfield.ops.pixel import SampledPixels, over_background, sample_pixels
from neurfield.ops.spherical_harmonics import spherical_harmonics
from neurfield.ops.trunc_exp import trunc_exp
from neurfield.ops.visible import visible_samples
from neurfield.ops.wavelet import wavelet

__all__ = [
    "Composite",
    "FusedField",
    "FusedImage",
    "FusedLoss",
    "FusedMarch",
    "FusedReport",
    "FusedWorkspace",
    "GridConfig",
    "KiloCells",
    "KiloConfig",
    "MLPConfig",
    "MeshTree",
    "PackedSamples",
    "SampledPixels",
    "adam_step",
    "adam_step_by_clock",
    "camera_rays",
    "carve",
    "close_unseen",
    "composite",
    "current_half_copy",
    "fourier_features",
    "frequency",
    "fuse_depths",
    "fused_density",
    "fused_gradients",
    "fused_mlp",
    "fused_reason",
    "fused_render",
    "fused_supported",
    "fused_table_adam",
    "fused_table_gradient",
    "gates",
    "half_copy",
    "hash_grid",
    "hash_grid_adam_step",
    "kilo_locate",
    "kilo_mlp",
    "kilo_render",
    "kilo_visible",
    "march",
    "mark_half_copy_current",
    "mesh_distance",
    "mesh_inside",
    "mesh_tree",
    "modulation",
    "modulation_gradient",
    "morton_cells",
    "occupancy_bits",
    "occupancy_coarse",
    "occupancy_draw",
    "occupancy_mean",
    "occupancy_select",
    "occupancy_select_padded",
    "occupancy_update",
    "occupied_pixel_blocks",
    "over_background",
    "project",
    "ray_aabb",
    "renew_half_copy",
    "sample_pixels",
    "seen_in_depths",
    "spherical_harmonics",
    "trunc_exp",
    "visible_samples",
    "wavelet",
]

# SPDX-License-Identifier: Apache-2.0
import math
import sys
import types

import pytest
import torch

from neurfield import metrics
from neurfield.errors import UserError
from neurfield.metrics import METRICS, psnr, ssim
from neurfield.metrics.psnr import decibels
from tests.cases import uniform


def images(height: int = 40, width: int = 33) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a noisy copy."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 5, width), indexing="ij")
    image = torch.stack([0.5 + 0.4 * torch.sin(x), 0.5 + 0.4 * torch.cos(x * y), 0.1 + 0.2 * y / 3], dim=-1)
    return image, (image + uniform(height, width, 3, low=-0.1, high=0.1)).clamp(0, 1)


def test_psnr_golden_values() -> None:
    black = torch.zeros(4, 5, 3)
    assert psnr(black, black) == math.inf
    assert psnr(black, black + 1) == 0
    assert psnr(black, black + 0.1) == pytest.approx(20, abs=1e-5)  # 0.1 is a rounded float32
    assert (decibels(1e-2), decibels(1e-30), decibels(0.0), decibels(math.inf)) == (20, 200, 200, -math.inf)


def test_what_is_no_number_is_no_perfect_picture() -> None:
    black = torch.zeros(4, 5, 3)
    assert math.isnan(psnr(black, black * math.nan)) and math.isnan(decibels(math.nan))


def test_ssim_matches_scikit_image() -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    image, target = images()
    expected = structural_similarity(
        image.double().numpy(),
        target.double().numpy(),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert 0.3 < expected < 0.99
    assert ssim(image, target) == pytest.approx(expected, abs=1e-12)


def test_ssim_properties() -> None:
    image, target = images(11, 30)
    assert ssim(image, image) == pytest.approx(1, abs=1e-15)
    assert ssim(image, target) == pytest.approx(ssim(target, image), abs=1e-15)
    # constant pictures: only the luminance term is left
    dark, light = torch.full((16, 16, 3), 0.25), torch.full((16, 16, 3), 0.75)
    assert ssim(dark, light) == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4), abs=1e-9)
    with pytest.raises(UserError, match=r"ssim: the image must be at least 11 x 11 pixels, got \[10, 30, 3\]"):
        ssim(image[:10], target[:10])


@pytest.mark.parametrize("name", METRICS)
def test_shapes_are_checked(name: str) -> None:
    image, target = images()
    for wrong in (target[:, :, :1], target[:20], target[None]):
        with pytest.raises(ValueError, match=rf"{name}: image and target must be \[height, width, 3\] of one size"):
            METRICS[name].measure(image, wrong)


def lpips_module() -> types.ModuleType:
    module = sys.modules["neurfield.metrics.lpips"]
    module._model.cache_clear()
    return module


def test_lpips_needs_package_and_weights(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    module = lpips_module()
    image, target = images()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError, match="lpips: the package is not installed; run: pip install"):
        metrics.lpips(image, target)
    assert METRICS["lpips"].why_not() == "the package is not installed; run: pip install lpips torchvision"

    class Distance(torch.nn.Module):  # stands for the network: checks its input, returns a distance
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            assert x.shape == y.shape == (1, 3, 40, 33) and x.min() < 0
            return (x - y).abs().mean().view(1, 1, 1, 1)

    package = types.SimpleNamespace(LPIPS=lambda net, verbose: Distance())
    monkeypatch.setitem(sys.modules, "lpips", package)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"lpips: no weights at .*vgg16-397923af.pth; .* not downloaded"):
        metrics.lpips(image, target)

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / module.BACKBONE_WEIGHTS).touch()
    assert METRICS["lpips"].why_not() is None
    expected = 2 * (image - target).abs().mean()
    assert metrics.lpips(image, target) == pytest.approx(float(expected), rel=1e-5)
    module._model.cache_clear()

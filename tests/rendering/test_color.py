# SPDX-License-Identifier: Apache-2.0
import torch

from neurfield.rendering.color import encoded, flat_background, linear_to_srgb, over_background


def test_srgb_encoding_of_known_values():
    # IEC 61966-2-1: the linear part, the middle grey of 18 %, the ends
    x = torch.tensor([-1.0, 0.0, 0.001, 0.18, 1.0, 7.0])
    assert torch.allclose(linear_to_srgb(x), torch.tensor([0.0, 0.0, 0.01292, 0.46136, 1.0, 1.0]), atol=1e-5)


def test_only_linear_images_are_encoded():
    stored = torch.tensor([[[10, 20, 30, 40]]], dtype=torch.uint8)
    assert encoded(stored) is stored
    linear = torch.tensor([[[0.18, 2.0, 0.0, 1.5]]])
    assert torch.allclose(encoded(linear), torch.tensor([[[0.46136, 1.0, 0.0, 1.0]]]), atol=1e-5)


def test_straight_alpha_goes_over_the_background():
    image = torch.tensor([[[255, 0, 0, 51]]], dtype=torch.uint8)
    assert torch.allclose(over_background(image, torch.tensor([0.0, 1.0, 0.5])), torch.tensor([[[0.2, 0.8, 0.4]]]))
    assert torch.equal(over_background(image[..., :3], torch.ones(3)), torch.tensor([[[1.0, 0, 0]]]))


def test_opaque_images_that_end_in_one_colour_lie_over_it():
    """Three quarters of the edges of all images count: the object may reach out of some."""
    black = torch.zeros(8, 8, 3, dtype=torch.uint8)
    inner, cut = black.clone(), black.clone()
    inner[1:-1, 1:-1] = 200
    cut[-1] = 200
    assert flat_background([black, inner, cut]) == "black"
    assert flat_background([cut, cut]) is None  # 20 of 28 pixels
    assert flat_background([255 - inner, 252 - black]) == "white"
    assert flat_background([black, 255 - black]) is None
    assert flat_background([torch.zeros(8, 8, 4, dtype=torch.uint8)]) is None
    assert flat_background([torch.full((8, 8, 3), 1.0)]) == "white"  # linear
    kept = torch.ones(8, 8, dtype=torch.uint8)
    kept[-1] = 0
    assert flat_background([cut, inner], [kept, None]) == flat_background([cut], [kept]) == "black"
    assert flat_background([black], [torch.zeros(8, 8)]) is None

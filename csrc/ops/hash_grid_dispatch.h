// SPDX-License-Identifier: Apache-2.0
// From the sizes of a GridConfig to template arguments.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "math/hash_grid.h"

namespace nf {

// Calls body(D, F) with integral constants. Sizes were checked by the caller; others throw.
template <typename Body>
void dispatch_grid(const GridConfig& config, const Body& body) {
  const auto with_dims = [&](auto D) {
    switch (config.n_features_per_level) {
      case 1:
        return body(D, std::integral_constant<int, 1>());
      case 2:
        return body(D, std::integral_constant<int, 2>());
      case 4:
        return body(D, std::integral_constant<int, 4>());
      case 8:
        return body(D, std::integral_constant<int, 8>());
    }
    throw std::invalid_argument("hash_grid: n_features_per_level must be 1, 2, 4 or 8");
  };
  switch (config.n_dims) {
    case 1:
      return with_dims(std::integral_constant<int, 1>());
    case 2:
      return with_dims(std::integral_constant<int, 2>());
    case 3:
      return with_dims(std::integral_constant<int, 3>());
    case 4:
      return with_dims(std::integral_constant<int, 4>());
  }
  throw std::invalid_argument("hash_grid: n_dims must be 1, 2, 3 or 4");
}

}  // namespace nf

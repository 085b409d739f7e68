// SPDX-License-Identifier: Apache-2.0
// The memory roof of table look-ups on this machine, to put beside measured kernels.
#pragma once

#include <cstdint>

namespace nf::cpu {

// Million loads per second of `row_bytes` (4 or 8) at random places of a table of `table_bytes` (a power of two), on
// num_threads() threads that share the table, for about `seconds`. Addresses do not depend on what was loaded.
double measure_random_loads(int64_t table_bytes, int row_bytes, double seconds);

}  // namespace nf::cpu

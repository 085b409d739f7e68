// Rays through the occupancy grid (math/march.h, math/occupancy.h), composited front to back (math/composite.h).
uniform usampler2D cells;   // a byte per 2^3 cells, as the bits lie in Morton order
uniform usampler2D blocks;  // a byte per 8^3 cells: how many blocks around are empty
uniform vec3 box_low, box_scale;
uniform vec3 origin, right, up, back, background;
uniform float focal;
uniform vec2 size;
uniform int rays_per_side;  // of a pixel
uniform float stride;       // steps of the lattice from one sample to the next: 1, or more for a hurried picture
out vec4 pixel;

const float HUGE = 1e30;
// Samples of less weight than this together have the colour of the last of them.
const float LEAST_WEIGHT = 1e-4;

float count(float t) {
  return t <= T_A ? (t - T_A) / DT_MIN + N_A : t >= T_B ? (t - T_B) / DT_MAX + N_B : log(t) / GROWTH;
}
float lattice_start(float t) { return CONE > 0.0 ? count(t) : t; }
float distance_of(float start, float i) {
  if (!(CONE > 0.0)) return start + i * DT_MIN;
  float n = start + i;
  return n <= N_A ? T_A + (n - N_A) * DT_MIN : n >= N_B ? T_B + (n - N_B) * DT_MAX : exp(n * GROWTH);
}
float step_of(float start, float t) { return CONE > 0.0 ? count(t) - start : (t - start) / DT_MIN; }
float step_length(float t) { return CONE > 0.0 ? clamp(t * CONE, DT_MIN, DT_MAX) : DT_MIN; }

// The exponent e of frexp: x in [2^(e-1), 2^e).
int exponent(float x) { return int(floatBitsToUint(x) >> 23) - 126; }
int cascade_of(vec3 x, float dt) {
  vec3 away = abs(x - 0.5);
  int by_position = exponent(max(max(away.x, away.y), away.z)) + 1;
  return clamp(max(by_position, exponent(dt * float(2 * RESOLUTION))), 0, CASCADES - 1);
}
vec3 cell_coordinate(vec3 x, int cascade) {
  return (x - 0.5) * float(RESOLUTION) / float(1 << cascade) + 0.5 * float(RESOLUTION);
}
ivec3 cell_of(vec3 x, int cascade) {
  return ivec3(clamp(cell_coordinate(x, cascade), 0.0, float(RESOLUTION) - 0.5));
}
uint byte_of(usampler2D bytes, ivec3 place, int cascade, int width) {
  int i = ((cascade * width + place.z) * width + place.y) * width + place.x;
  return texelFetch(bytes, ivec2(i & 4095, i >> 12), 0).r;
}
int empty_blocks(ivec3 cell, int cascade) { return int(byte_of(blocks, cell >> 3, cascade, RESOLUTION / 8)); }
bool is_occupied(ivec3 cell, int cascade) {
  int bit = (cell.x & 1) | (cell.y & 1) << 1 | (cell.z & 1) << 2;
  return (byte_of(cells, cell >> 1, cascade, RESOLUTION / 2) >> bit & 1u) != 0u;
}

// Where a ray in `cell` leaves the empty blocks around it.
float exit_of_blocks(vec3 x, vec3 d, float t, float far, ivec3 cell, int blocks_away, int cascade) {
  float width = float(1 << cascade) / float(RESOLUTION);
  ivec3 corner = cell & -8;
  vec3 ahead = vec3(min(corner + blocks_away * 8, ivec3(RESOLUTION)));
  vec3 behind = vec3(max(corner - (blocks_away - 1) * 8, ivec3(0)));
  vec3 border = mix(behind, ahead, greaterThan(d, vec3(0.0)));
  vec3 planes = t + (border - cell_coordinate(x, cascade)) * width / d;
  for (int axis = 0; axis < 3; ++axis)
    if (d[axis] != 0.0 && planes[axis] < far) far = planes[axis];
  return far;
}

vec3 render(vec3 o, vec3 d) {
  float half_side = 0.5 * float(1 << (CASCADES - 1));
  vec3 low = (0.5 - half_side - o) / d, high = (0.5 + half_side - o) / d;
  float near = NEAR, far = HUGE;
  for (int axis = 0; axis < 3; ++axis) {
    if (d[axis] == 0.0) {
      if (abs(o[axis] - 0.5) > half_side) return background;
      continue;
    }
    near = max(near, min(low[axis], high[axis]));
    far = min(far, max(low[axis], high[axis]));
  }
  vec3 sum = vec3(0.0);
  float through = 1.0, weight = 0.0, start = lattice_start(near), i = 0.0;
  vec4 looked[COLOR], geometry[GEOMETRY];
  look(d, looked);
  int n_samples = 0;
  for (int tests = 0; tests < 8192; ++tests) {
    float t = distance_of(start, i);
    if (!(t < far)) break;
    vec3 x = o + t * d;
    int cascade = cascade_of(x, step_length(t));
    ivec3 cell = cell_of(x, cascade);
    int away = empty_blocks(cell, cascade);
    if (away > 0) {
      while (cascade + 1 < CASCADES) {
        ivec3 above = cell_of(x, cascade + 1);
        int away_above = empty_blocks(above, cascade + 1);
        if (away_above == 0) break;
        cell = above;
        away = away_above;
        ++cascade;
      }
      float leaves = exit_of_blocks(x, d, t, far, cell, away, cascade);
      if (CONE > 0.0 && cascade + 1 < CASCADES)
        leaves = min(leaves, float(1 << cascade) / float(RESOLUTION) / (2.0 * CONE));
      i = max(i + 1.0, floor(step_of(start, leaves) + 0.9375));
      continue;
    }
    i += stride;
    if (!is_occupied(cell, cascade)) continue;
    float dt = distance_of(start, i) - t;
    vec3 place = (x - box_low) * box_scale;
    float opacity = 1.0 - exp(-sigma(density(place, geometry), place) * dt);
    weight += through * opacity;
    if (weight > LEAST_WEIGHT) {
      sum += weight * color(geometry, looked);
      weight = 0.0;
    }
    through *= 1.0 - opacity;
    if (through < STOP || ++n_samples >= MAX_SAMPLES) break;
  }
  return sum + through * background;
}

void main() {
  vec3 sum = vec3(0.0);
  vec2 corner = floor(gl_FragCoord.xy);
  for (int k = 0; k < rays_per_side * rays_per_side; ++k) {
    vec2 place = corner + (vec2(k % rays_per_side, k / rays_per_side) + 0.5) / float(rays_per_side) - 0.5 * size;
    sum += render(origin, normalize(right * place.x + up * place.y - back * focal));
  }
  pixel = vec4(sum / float(rays_per_side * rays_per_side), 1.0);
}

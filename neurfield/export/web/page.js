// A field in a page of its own: loads what the page holds, draws the view, and lets people look around.
const scene = JSON.parse(document.getElementById("scene").textContent);
const canvas = document.querySelector("canvas");
const status = document.querySelector("p");
const WIDTH = 4096;  // texels in a row of what the shader counts through
// Of one draw: of a whole picture while the view moves, of a strip when it rests. Fewer rays than that take as long, as
// their slowest does.
const MOVING_MS = 30, RESTING_MS = 80, LEAST_RAYS = 4096;
const MOVING_STRIDE = 2;
const REST_AFTER_MS = 150;
const FINEST = 2;  // rays along each side of a pixel of the last picture
const clock = scene.seconds ? new Clock(scene.seconds, moved) : null;

// ---- vectors and views ----

const add = (a, b, k = 1) => a.map((v, i) => v + k * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => a.map((v) => v / Math.hypot(...a));

function turned(v, axis, angle) {  // Rodrigues
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const across = [axis[1] * v[2] - axis[2] * v[1], axis[2] * v[0] - axis[0] * v[2], axis[0] * v[1] - axis[1] * v[0]];
  return v.map((x, i) => x * c + across[i] * s + axis[i] * dot(axis, v) * (1 - c));
}

// Axes and position of a camera in unit space, and how far ahead of it lies what it turns around.
let view;

function viewOf(numbers) {  // null where they are none
  if (numbers.length !== 13 || !numbers.every(Number.isFinite) || !(numbers[12] > 0)) return null;
  const [right, up, back, position] = [0, 3, 6, 9].map((i) => numbers.slice(i, i + 3));
  if ([right, up, back].some((axis) => Math.abs(Math.hypot(...axis) - 1) > 0.01)) return null;
  return { right: unit(right), up: unit(up), back: unit(back), position, ahead: numbers[12] };
}

function link() {  // of a clock that stands it has the time, too
  const { right, up, back, position, ahead } = view;
  const time = clock && !clock.plays ? [clock.time] : [];
  return "#" + [...right, ...up, ...back, ...position, ahead, ...time].map((v) => +v.toFixed(5)).join(",");
}

function start() {
  const numbers = location.hash.slice(1).split(/,|%2C/i).map(Number);
  if (clock && numbers.length === 14 && numbers[13] >= 0 && numbers[13] <= 1) clock.set(numbers.pop(), false);
  view = viewOf(numbers) ?? structuredClone(scene.view);
}

const target = () => add(view.position, view.back, -view.ahead);

// Around the target: to the side about the scene's upright axis, up and down about the camera's own.
function orbit(x, y) {
  const at = target();
  const level = Math.asin(Math.max(-1, Math.min(1, dot(view.back, scene.up))));
  const tilt = Math.max(-1.5, Math.min(1.5, level + y)) - level;
  for (const [axis, angle] of [[view.right, -tilt], [scene.up, -x]])
    for (const name of ["right", "up", "back"]) view[name] = turned(view[name], axis, angle);
  view.position = add(at, view.back, view.ahead);
}

function move(x, y, z) {  // to the right, up and ahead, in distances to the target
  for (const [axis, amount] of [[view.right, x], [view.up, y], [view.back, -z]])
    view.position = add(view.position, axis, amount * view.ahead);
}

function zoom(factor) {
  const at = target();
  view.ahead = Math.max(1e-3, Math.min(1e3, view.ahead * factor));
  view.position = add(at, view.back, view.ahead);
}

// ---- the graphics ----

const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });

const LOST = "the graphics unit was taken away: load the page again";

function fail(message) {
  status.textContent = message;
  document.documentElement.dataset.state = "failed";
  throw new Error(message);
}

function program(fragment) {
  const vertex = `#version 300 es
    void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) {
    const log = gl.getAttachedShaders(made).map((shader) => gl.getShaderInfoLog(shader)).join(" ");
    fail(`this browser cannot draw the scene: ${log} ${gl.getProgramInfoLog(made)}`);
  }
  return made;
}

async function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function texture(internal, format, type, values, perTexel) {
  const n = values.length / perTexel, height = Math.ceil(n / WIDTH);
  const largest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  if (Math.max(height, WIDTH) > largest)
    fail(`this field needs pictures of ${WIDTH} x ${height} values, this graphics unit has ${largest}`);
  const padded = new values.constructor(WIDTH * height * perTexel);
  padded.set(values);
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  gl.texStorage2D(gl.TEXTURE_2D, 1, internal, WIDTH, height);
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, WIDTH, height, format, type, padded);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
  return made;
}

async function upload(field) {
  gl.useProgram(field);
  const [table, cells, blocks, weights] = await Promise.all(["table", "cells", "blocks", "weights"].map(bytesOf));
  const [format, perTexel] = { R16F: [gl.RED, 1], RG16F: [gl.RG, 2], RGBA16F: [gl.RGBA, 4] }[scene.texel];
  const textures = {
    table: texture(gl[scene.texel], format, gl.HALF_FLOAT, new Uint16Array(table.buffer), perTexel),
    cells: texture(gl.R8UI, gl.RED_INTEGER, gl.UNSIGNED_BYTE, cells, 1),
    blocks: texture(gl.R8UI, gl.RED_INTEGER, gl.UNSIGNED_BYTE, blocks, 1),
  };
  Object.entries(textures).forEach(([name, made], i) => {
    gl.activeTexture(gl.TEXTURE0 + i);
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.uniform1i(gl.getUniformLocation(field, name), i);
  });
  let first = 0;
  scene.blocks.forEach(([name, size], i) => {
    const buffer = gl.createBuffer();
    gl.bindBufferBase(gl.UNIFORM_BUFFER, i, buffer);
    gl.bufferData(gl.UNIFORM_BUFFER, weights.subarray(first, first + size), gl.STATIC_DRAW);
    gl.uniformBlockBinding(field, gl.getUniformBlockIndex(field, `Block_${name}`), i);
    first += size;
  });
  for (const name of ["box_low", "box_scale", "background"]) gl.uniform3fv(gl.getUniformLocation(field, name), scene[name]);
}

// A picture that is drawn to, and shown as large as the page.
function surface(width, height) {
  const made = gl.createTexture(), frame = gl.createFramebuffer();
  gl.activeTexture(gl.TEXTURE3);
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
  gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, made, 0);
  return { made, frame };
}

function copy(from, width, height, to) {  // the lower left width x height of a surface, stretched
  gl.bindFramebuffer(gl.READ_FRAMEBUFFER, from.frame);
  gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, to ? to.frame : null);
  gl.disable(gl.SCISSOR_TEST);
  gl.blitFramebuffer(0, 0, width, height, 0, 0, canvas.width, canvas.height, gl.COLOR_BUFFER_BIT, gl.LINEAR);
}

// ---- when what is drawn ----

let field, places, coarse, fine;
let raysPerMs = 20;  // measured anew with every draw
let job = null;  // what is left of the picture at rest: {side, row}, and the most rays of a strip
let lastMoved = -Infinity, isDirty = true, isLinked = false;
const held = new Set();  // keys

// Rows [bottom, top) of a picture of width x height, `side`^2 rays a pixel that take each `stride`th step. It waits for
// the graphics unit without holding up the page: browsers hardly call pages that do.
async function draw(to, width, height, bottom, top, side, stride) {
  const started = performance.now();
  const focal = Math.min(width / scene.fov[0], height / scene.fov[1]);
  gl.bindFramebuffer(gl.FRAMEBUFFER, to.frame);
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.enable(gl.SCISSOR_TEST);
  gl.scissor(0, bottom, width + 1, top - bottom);
  gl.uniform3fv(places.origin, view.position);
  for (const name of ["right", "up", "back"]) gl.uniform3fv(places[name], view[name]);
  gl.uniform1f(places.focal, focal);
  gl.uniform2f(places.size, width, height);
  gl.uniform1i(places.rays_per_side, side);
  gl.uniform1f(places.stride, stride);
  gl.uniform1f(places.time, clock ? clock.time : 0);
  gl.drawArrays(gl.TRIANGLES, 0, 3);
  const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
  gl.flush();
  while (gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED) {
    if (gl.isContextLost()) fail(LOST);
    await new Promise((done) => setTimeout(done, 1));
  }
  gl.deleteSync(fence);
  const rays = width * (top - bottom) * side ** 2;
  raysPerMs = 0.5 * raysPerMs + 0.5 * (rays / Math.max(performance.now() - started, 0.1));
}

const affordable = (ms) => Math.max(raysPerMs * ms, LEAST_RAYS);

function fit() {
  const ratio = Math.min(devicePixelRatio, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * ratio)));
  if (fine && canvas.width === width && canvas.height === height) return;
  for (const old of [coarse, fine]) if (old) gl.deleteTexture(old.made), gl.deleteFramebuffer(old.frame);
  [canvas.width, canvas.height] = [width, height];
  [coarse, fine] = [surface(width, height), surface(width, height)];
  isDirty = true;
}

async function drawMoving() {
  isDirty = false;
  document.documentElement.dataset.state = "drawing";
  const scale = Math.min(1, Math.sqrt(affordable(MOVING_MS) / (canvas.width * canvas.height)));
  const [width, height] = [canvas.width, canvas.height].map((n) => Math.max(1, Math.round(n * scale)));
  await draw(coarse, width, height, 0, height + 1, 1, MOVING_STRIDE);  // and what is beside it: stretching blends it in
  copy(coarse, width, height, null);
  copy(coarse, width, height, fine);
  // A strip is never longer than the whole picture's mean allows: below an empty sky, whose rays are quick, a strip as
  // long as they allow would take seconds, after which browsers take the graphics unit away.
  job = { side: 1, row: canvas.height, most: affordable(RESTING_MS) };
}

async function drawResting() {
  const rows = Math.ceil(Math.min(affordable(RESTING_MS), job.most) / (canvas.width * job.side ** 2));
  const bottom = Math.max(0, job.row - rows);
  await draw(fine, canvas.width, canvas.height, bottom, job.row, job.side, 1);
  if (isDirty) return;  // the view has moved on
  copy(fine, canvas.width, canvas.height, null);
  if (bottom > 0) job.row = bottom;
  else job = job.side < FINEST ? { ...job, side: FINEST, row: canvas.height } : null;
  if (!job) document.documentElement.dataset.state = "finished";
}

function keepLink() {
  isLinked = true;
  try {
    history.replaceState(null, "", link());
  } catch {
    // within the frame of another page there may be no link of its own
  }
}

function walk(seconds) {
  const along = (plus, minus) => seconds * (held.has(plus) - held.has(minus));
  move(along("KeyD", "KeyA"), along("KeyE", "KeyQ"), along("KeyW", "KeyS"));
  orbit(2 * along("ArrowLeft", "ArrowRight"), 2 * along("ArrowUp", "ArrowDown"));
}

async function drawForever() {
  for (let before = performance.now(); ; ) {
    const now = performance.now(), passed = (now - before) / 1000;
    if (held.size) walk(Math.min(passed, 0.1)), moved();
    if (clock?.pass(passed)) isDirty = true;
    before = now;
    fit();
    const rests = now - lastMoved > REST_AFTER_MS;
    if (rests && !isLinked) keepLink();
    if (!isDirty && job && rests) {
      await drawResting();
      continue;
    }
    if (isDirty) await drawMoving();
    await new Promise(requestAnimationFrame);
  }
}

function moved() {
  [isDirty, isLinked] = [true, false];
  lastMoved = performance.now();
  status.className = "over";
}

// ---- hands ----

const pointers = new Map();
const KEYS = ["KeyW", "KeyA", "KeyS", "KeyD", "KeyQ", "KeyE", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

function pointerMoved(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const [dx, dy] = [event.clientX - before.x, event.clientY - before.y].map((v) => v / canvas.clientHeight);
  const fov = 1 / Math.min(canvas.clientWidth / canvas.clientHeight / scene.fov[0], 1 / scene.fov[1]);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const apart = (p) => Math.max(Math.hypot(p.clientX - other.x, p.clientY - other.y), 1);
    zoom(apart({ clientX: before.x, clientY: before.y }) / apart(event));
    move((-dx * fov) / 2, (dy * fov) / 2, 0);
  } else if (before.button === 0 && !event.shiftKey) orbit(4 * dx, 4 * dy);
  else move(-dx * fov, dy * fov, 0);
  Object.assign(before, { x: event.clientX, y: event.clientY });
  moved();
}

function listen() {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, button: event.button });
  });
  canvas.addEventListener("pointermove", pointerMoved);
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY * (event.deltaMode ? 30 : 1))) * 0.002));
    moved();
  }, { passive: false });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS.includes(event.code)) held.add(event.code), event.preventDefault();
    if (event.code === "KeyR") (view = structuredClone(scene.view)), moved();
  });
  addEventListener("keyup", (event) => held.delete(event.code));
  addEventListener("blur", () => held.clear());
  addEventListener("hashchange", () => (start(), moved()));
  canvas.addEventListener("webglcontextlost", () => fail(LOST));
}

async function main() {
  if (!gl) fail("this browser has no WebGL 2, with which the scene is drawn");
  if (typeof DecompressionStream === "undefined") fail("this browser is too old for this page (no DecompressionStream)");
  start();
  field = program(scene.shader);
  await upload(field);
  places = {};
  for (const name of ["origin", "right", "up", "back", "focal", "size", "rays_per_side", "stride", "time"])
    places[name] = gl.getUniformLocation(field, name);
  listen();
  status.textContent = "drag: turn · right button or two fingers: move · wheel: nearer · W A S D Q E: walk · R: first view" +
    (clock ? " · space: play, pause" : "");
  setTimeout(() => (status.className = "over"), 8000);
  await drawForever();
}

main().catch((error) => fail(error.message));

/** @file Where on the map we look from, and which point lies where. Positions are in [-1, 1], y upwards. */

const CLOSEST = 400;

/** The camera that shows all. */
export const WHOLE = { x: 0, y: 0, zoom: 1 };

/** Pixels for one unit. */
const scale = (camera, width, height) => (Math.min(width, height) / 2) * 0.88 * camera.zoom;

/** Where points lie on the screen. */
export function project(camera, width, height, x, y, out) {
  const s = scale(camera, width, height), left = width / 2 - camera.x * s, top = height / 2 + camera.y * s;
  for (let i = 0; i < x.length; i++) { out.x[i] = left + x[i] * s; out.y[i] = top - y[i] * s; }
}

/** What lies under a pixel. */
export function unproject(camera, width, height, px, py) {
  const s = scale(camera, width, height);
  return [camera.x + (px - width / 2) / s, camera.y - (py - height / 2) / s];
}

/** Move by pixels. */
export function pan(camera, width, height, dx, dy) {
  const s = scale(camera, width, height), hold = (value) => Math.max(-1.2, Math.min(1.2, value));
  return { ...camera, x: hold(camera.x - dx / s), y: hold(camera.y + dy / s) };
}

/** Come closer by a factor; what lies under the pixel stays there. */
export function zoomAt(camera, width, height, factor, px, py) {
  const zoom = Math.max(0.7, Math.min(CLOSEST, camera.zoom * factor));
  const [x, y] = unproject(camera, width, height, px, py), s = scale({ zoom }, width, height);
  return { x: x - (px - width / 2) / s, y: y + (py - height / 2) / s, zoom };
}

/** A camera as text for the address, and back. */
export const cameraText = ({ x, y, zoom }) => (zoom === 1 && x === 0 && y === 0 ? "" : `${x.toFixed(4)},${y.toFixed(4)},${zoom.toFixed(3)}`);

/** The camera of a text; the whole map where it is none. */
export function cameraOf(text) {
  const [x, y, zoom] = (text ?? "").split(",").map(Number);
  return [x, y, zoom].every(Number.isFinite) && zoom > 0 ? { x, y, zoom } : WHOLE;
}

const CELLS = 160;

/** Points sorted into cells, so that the nearest one is found without looking at all. */
export class Nearest {
  constructor(x, y) {
    this.x = x;
    this.y = y;
    const cell = (i) => this.cell(y[i]) * CELLS + this.cell(x[i]);
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < x.length; i++) this.starts[cell(i) + 1] += 1;
    for (let c = 0; c < CELLS * CELLS; c++) this.starts[c + 1] += this.starts[c];
    this.order = new Uint32Array(x.length);
    const filled = this.starts.slice();
    for (let i = 0; i < x.length; i++) this.order[filled[cell(i)]++] = i;
  }

  cell(value) { return Math.max(0, Math.min(CELLS - 1, Math.floor(((value + 1) / 2) * CELLS))); }

  /** The point nearest to a place, at most `reach` away; -1 if there is none. */
  find(x, y, reach, passes = () => true) {
    let best = -1, least = reach * reach;
    const [left, right, low, high] = [this.cell(x - reach), this.cell(x + reach), this.cell(y - reach), this.cell(y + reach)];
    for (let row = low; row <= high; row++) {
      for (let at = this.starts[row * CELLS + left]; at < this.starts[row * CELLS + right + 1]; at++) {
        const i = this.order[at], d = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (d < least && passes(i)) { least = d; best = i; }
      }
    }
    return best;
  }

  /** The points nearest to a place, nearest first. */
  around(x, y, reach, most, passes = () => true) {
    const found = [];
    const [left, right, low, high] = [this.cell(x - reach), this.cell(x + reach), this.cell(y - reach), this.cell(y + reach)];
    for (let row = low; row <= high; row++) {
      for (let at = this.starts[row * CELLS + left]; at < this.starts[row * CELLS + right + 1]; at++) {
        const i = this.order[at], d = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (d < reach * reach && passes(i)) found.push([d, i]);
      }
    }
    return found.sort((a, b) => a[0] - b[0]).slice(0, most).map(([, i]) => i);
  }
}

/** Whether a place lies within a polygon of [x, y] corners. */
export function within(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if ((yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

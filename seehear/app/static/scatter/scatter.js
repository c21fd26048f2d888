/** @file The map's canvas: points below, names and marks above; moving, zooming, choosing with a lasso or a box. */

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { Nearest, WHOLE, pan, project, unproject, within, zoomAt } from "./camera.js";
import { disc, pixelOf, splat } from "./raster.js";

const REACH_PX = 14;

/**
 * @param {{points: {x: Float32Array, y: Float32Array}, colours: string[], colour: Uint16Array, strong: Uint8Array,
 *   selected: Set<number>, labels: Array<{text: string, x: number, y: number, colour: string}>, camera: Object,
 *   onCamera: Function, tool: "move"|"lasso"|"box", onTool: Function, onHover: (index: number, at: Object|null) => void,
 *   onOpen: (index: number) => void, onSelect: (indices: number[], add: boolean) => void, ground: string}} props
 *   colours: the palette, `colour`: which of them a point has, `strong`: 0 (hidden) to 255
 */
export function Scatter(props) {
  const { points, camera, tool, selected } = props;
  const box = useRef(null), below = useRef(null), above = useRef(null);
  const latest = useRef(props);
  latest.current = props;
  const nearest = useMemo(() => new Nearest(points.x, points.y), [points]);
  const work = useRef({ frame: 0, hover: -1, shape: null, pixels: null });
  const [focused, setFocused] = useState(-1);
  const near = useRef([]);

  const draw = () => {
    work.current.frame = 0;
    if (box.current) paint(box.current, below.current, above.current, latest.current, work.current);
  };
  const soon = () => { if (!work.current.frame) work.current.frame = requestAnimationFrame(draw); };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(soon);
    observer.observe(box.current);
    addEventListener("seehear:theme", soon);
    return () => { observer.disconnect(); removeEventListener("seehear:theme", soon); cancelAnimationFrame(work.current.frame); };
  }, []);
  useLayoutEffect(soon, [points, camera, props.colours, props.colour, props.strong, selected, props.labels]);
  useEffect(() => { near.current = []; }, [camera, points]);

  const size = () => [box.current.clientWidth, box.current.clientHeight];
  const visible = (i) => latest.current.strong[i] > 60;
  const indexAt = (px, py) => {
    const [width, height] = size(), view = latest.current.camera;
    const [x, y] = unproject(view, width, height, px, py), [edge] = unproject(view, width, height, px + REACH_PX, py);
    return nearest.find(x, y, edge - x, visible);
  };
  const hover = (index, at = null) => {
    if (index === work.current.hover) return;
    work.current.hover = index;
    latest.current.onHover(index, at);
    soon();
  };
  useGestures(box, { latest, work, soon, size, indexAt, hover, nearest, visible });

  const inside = () => box.current?.contains(document.activeElement) || document.activeElement === document.body;
  const move = (dx, dy) => () => {
    if (!inside()) return false;
    const [width, height] = size();
    props.onCamera(pan(latest.current.camera, width, height, dx * width * 0.12, dy * height * 0.12));
    return true;
  };
  const zoom = (factor) => () => { const [w, h] = size(); props.onCamera(zoomAt(latest.current.camera, w, h, factor, w / 2, h / 2)); };
  /** From one point to the next, beginning with the one nearest to the middle. */
  const walk = (by) => () => {
    const [width, height] = size(), view = latest.current.camera;
    if (!near.current.length) {
      const [edge] = unproject(view, width, height, Math.min(width, height) * 0.45 + width / 2, height / 2);
      near.current = nearest.around(view.x, view.y, edge - view.x, 400, visible);
    }
    const next = near.current[Math.max(0, Math.min(near.current.length - 1, near.current.indexOf(work.current.hover) + by))];
    if (next === undefined) return;
    const place = { x: new Float32Array(1), y: new Float32Array(1) };
    project(view, width, height, [points.x[next]], [points.y[next]], place);
    hover(next, { x: place.x[0], y: place.y[0] });
    setFocused(next);
  };
  useKeys({
    arrowleft: move(1, 0), arrowright: move(-1, 0), arrowup: move(0, 1), arrowdown: move(0, -1), "+": zoom(1.4), "=": zoom(1.4), "-": zoom(1 / 1.4),
    0: () => props.onCamera(WHOLE), j: walk(1), k: walk(-1), b: () => props.onTool(tool === "lasso" ? "move" : "lasso"),
    enter: () => { if (work.current.hover < 0 || !inside()) return false; props.onOpen(work.current.hover); return true; },
    "shift+space": () => { if (work.current.hover < 0) return false; props.onSelect([work.current.hover], true); return true; },
  });
  return html`<div class=${`scatter tool-${tool}`} ref=${box} tabindex="0" role="application" aria-roledescription="map"
    aria-label=${`Map of ${points.x.length} segments. Arrows move, plus and minus zoom, j and k go from segment to segment, Enter opens.`}
    aria-describedby="map-now" data-focused=${focused}><canvas ref=${below} /><canvas ref=${above} class="above" /></div>`;
}

/** Draw everything as the props say. */
function paint(box, below, above, props, work) {
  const dense = Math.min(2, devicePixelRatio || 1);
  const width = Math.round(box.clientWidth * dense), height = Math.round(box.clientHeight * dense);
  if (!width || !height) return;
  const { points, camera, colours, colour, strong, selected } = props;
  const count = points.x.length;
  if (below.width !== width || below.height !== height || !work.pixels) {
    below.width = above.width = width;
    below.height = above.height = height;
    work.image = below.getContext("2d").createImageData(width, height);
    work.pixels = new Uint32Array(work.image.data.buffer);
  }
  if (!work.place || work.place.x.length !== count) {
    work.place = { x: new Float32Array(count), y: new Float32Array(count) };
    work.colours = new Uint32Array(count);
  }
  const style = getComputedStyle(box);
  work.pixels.fill((0xff000000 | pixelOf(style.backgroundColor)) >>> 0);
  project(camera, width, height, points.x, points.y, work.place);
  const palette = colours.map(pixelOf);
  for (let i = 0; i < count; i++) work.colours[i] = palette[colour[i]];
  // Points grow as one comes closer, so that they can be told apart and touched.
  const room = Math.sqrt((width * height) / Math.max(1, count));
  const radius = Math.min(9 * dense, Math.max(1.15 * dense, Math.min(5 * dense, room * 0.2) * camera.zoom ** 0.35));
  splat(work.pixels, width, height, work.place.x, work.place.y, work.colours, strong, disc(radius));
  below.getContext("2d").putImageData(work.image, 0, 0);

  const context = above.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  const ink = style.color;
  if (selected.size) {
    context.strokeStyle = ink;
    context.lineWidth = 1.5 * dense;
    context.beginPath();
    for (const i of selected) {
      const x = work.place.x[i], y = work.place.y[i];
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      context.moveTo(x + radius + dense, y);
      context.arc(x, y, radius + dense, 0, 7);
    }
    context.stroke();
  }
  paintLabels(context, width, height, dense, radius, props, style);
  if (work.hover >= 0 && work.hover < count) {
    context.strokeStyle = ink;
    context.lineWidth = 2.5 * dense;
    context.beginPath();
    context.arc(work.place.x[work.hover], work.place.y[work.hover], radius + 4 * dense, 0, 7);
    context.stroke();
  }
  if (work.shape?.length > 1) {
    context.setLineDash([5 * dense, 4 * dense]);
    context.strokeStyle = ink;
    context.lineWidth = 1.5 * dense;
    context.beginPath();
    work.shape.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x * dense, y * dense));
    context.closePath();
    context.globalAlpha = 0.1;
    context.fillStyle = ink;
    context.fill();
    context.globalAlpha = 1;
    context.stroke();
    context.setLineDash([]);
  }
}

/** Names where their segments are, the largest first; one that would cover another is left out. */
function paintLabels(context, width, height, dense, radius, { camera, labels }, style) {
  const taken = [], place = { x: new Float32Array(1), y: new Float32Array(1) };
  context.font = `600 ${13 * dense}px ${style.fontFamily}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const label of labels) {
    project(camera, width, height, [label.x], [label.y], place);
    const wide = context.measureText(label.text).width / 2 + 6 * dense, high = 11 * dense;
    const x = Math.max(wide, Math.min(width - wide, place.x[0])), y = place.y[0] - radius - high;
    if (place.x[0] < 0 || y < 0 || place.x[0] > width || y > height) continue;
    if (taken.some((t) => Math.abs(t.x - x) < t.wide + wide && Math.abs(t.y - y) < t.high + high)) continue;
    taken.push({ x, y, wide, high });
    context.lineWidth = 4 * dense;
    context.strokeStyle = style.backgroundColor;
    context.globalAlpha = 0.9;
    context.strokeText(label.text, x, y);
    context.globalAlpha = 1;
    context.fillStyle = style.color;
    context.fillText(label.text, x, y);
  }
}

/** Pointers and wheel: one finger or button moves or draws, two fingers zoom. */
function useGestures(box, { latest, work, soon, size, indexAt, hover, nearest, visible }) {
  useEffect(() => {
    const element = box.current, pointers = new Map();
    let start = null;
    const at = (event) => { const area = element.getBoundingClientRect(); return [event.clientX - area.left, event.clientY - area.top]; };
    const onDown = (event) => {
      if (event.button !== 0) return;
      element.focus({ preventScroll: true });
      element.setPointerCapture(event.pointerId);
      const place = at(event);
      pointers.set(event.pointerId, place);
      const kind = event.shiftKey && latest.current.tool === "move" ? "lasso" : latest.current.tool;
      start = { place, kind, moved: false, add: event.shiftKey || event.ctrlKey || event.metaKey, touch: event.pointerType !== "mouse" };
      if (kind !== "move") work.current.shape = [place];
      if (pointers.size > 1) work.current.shape = null;
    };
    const onMove = (event) => {
      const place = at(event);
      if (!pointers.has(event.pointerId)) {
        if (event.pointerType === "mouse") hover(indexAt(...place), { x: place[0], y: place[1] });
        return;
      }
      const before = pointers.get(event.pointerId), [width, height] = size();
      if (start && !start.moved && Math.hypot(place[0] - start.place[0], place[1] - start.place[1]) < (start.touch ? 9 : 4)) return;
      if (start) start.moved = true;
      const { camera, onCamera } = latest.current;
      if (pointers.size === 2) {
        const [, other] = [...pointers].find(([id]) => id !== event.pointerId);
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]), is = Math.hypot(place[0] - other[0], place[1] - other[1]);
        const middle = [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2];
        const moved = pan(camera, width, height, (place[0] - before[0]) / 2, (place[1] - before[1]) / 2);
        onCamera(zoomAt(moved, width, height, is / Math.max(1, was), ...middle));
      } else if (start?.kind === "move") {
        onCamera(pan(camera, width, height, place[0] - before[0], place[1] - before[1]));
        hover(-1);
      } else if (start && work.current.shape) {
        const [x0, y0] = start.place, [x, y] = place;
        work.current.shape = start.kind === "box" ? [[x0, y0], [x, y0], [x, y], [x0, y]] : [...work.current.shape, place];
        soon();
      }
      pointers.set(event.pointerId, place);
    };
    const onUp = (event) => {
      const place = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      if (!start || !place || pointers.size) return;
      const { moved, kind, add } = start;
      if (event.type === "pointerup" && !moved) {
        const index = indexAt(...place);
        if (index >= 0 && start.touch && work.current.hover !== index) hover(index, { x: place[0], y: place[1] }); // first look, then open
        else if (index >= 0) { if (add) latest.current.onSelect([index], true); else latest.current.onOpen(index); }
        else { hover(-1); if (!add) latest.current.onSelect([], false); }
      } else if (moved && kind !== "move" && work.current.shape?.length > 2) {
        const [width, height] = size(), { camera, points } = latest.current;
        const corners = work.current.shape.map(([x, y]) => unproject(camera, width, height, x, y));
        const found = [];
        for (let i = 0; i < points.x.length; i++) if (visible(i) && within(corners, points.x[i], points.y[i])) found.push(i);
        latest.current.onSelect(found, add);
      }
      work.current.shape = null;
      start = null;
      soon();
    };
    const onWheel = (event) => {
      event.preventDefault();
      const [width, height] = size(), factor = Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : event.ctrlKey ? 0.01 : 0.0016));
      latest.current.onCamera(zoomAt(latest.current.camera, width, height, factor, ...at(event)));
    };
    const onLeave = (event) => { if (event.pointerType === "mouse") hover(-1); };
    const all = { pointerdown: onDown, pointermove: onMove, pointerup: onUp, pointercancel: onUp, pointerleave: onLeave };
    for (const [name, handler] of Object.entries(all)) element.addEventListener(name, handler);
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => {
      for (const [name, handler] of Object.entries(all)) element.removeEventListener(name, handler);
      element.removeEventListener("wheel", onWheel);
    };
  }, [nearest]);
}

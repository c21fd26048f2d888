/** @file A grid of segments that draws only what is in sight: 50 000 are as quick as 50. Selection by pointer and keys. */

import { html, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { toggleSound } from "../sound.js";
import { Tile, placingFocus } from "./tile.js";

const GAP = 10, CAPTION = 24, LEAST = 148, LEAST_NARROW = 108, SPARE_ROWS = 2;

/** Columns and sizes for a width in pixels. */
export function layout(width) {
  const least = width < 520 ? LEAST_NARROW : LEAST;
  const columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
  const wide = (width - GAP * (columns - 1)) / columns;
  const high = Math.round(wide * 0.75) + CAPTION;
  return { columns, wide, high, step: high + GAP };
}

/**
 * Selection by row, with an anchor for ranges and a place in focus.
 * @param {number[]} rows what is shown, in order; what leaves it leaves the selection too
 */
export function useSelection(rows) {
  const [selected, setSelected] = useState(() => new Set());
  const [focus, setFocus] = useState(0); // index
  const anchor = useRef(0);
  const lastRow = useRef(null);
  useEffect(() => {
    if (selected.size) {
      const there = new Set(rows);
      const kept = [...selected].filter((row) => there.has(row));
      if (kept.length !== selected.size) setSelected(new Set(kept));
    }
    // The same segment stays in focus when others come or go; where it has gone, its place does.
    const place = lastRow.current === null ? -1 : rows.indexOf(lastRow.current);
    if (place >= 0) setFocus(place); else setFocus((old) => Math.max(0, Math.min(rows.length - 1, old)));
  }, [rows]);
  const focusOn = (index) => { lastRow.current = rows[index] ?? null; setFocus(index); };
  return {
    selected, focus, focusOn,
    only(index) { anchor.current = index; focusOn(index); setSelected(new Set([rows[index]])); },
    toggle(index) {
      anchor.current = index;
      focusOn(index);
      setSelected((old) => {
        const next = new Set(old);
        if (!next.delete(rows[index])) next.add(rows[index]);
        return next;
      });
    },
    range(index, add = false) {
      focusOn(index);
      const [a, b] = [Math.min(anchor.current, index), Math.max(anchor.current, index)];
      setSelected((old) => new Set([...(add ? old : []), ...rows.slice(a, b + 1)]));
    },
    setAnchor(index) { anchor.current = index; },
    set(list) { setSelected(new Set(list)); },
    all() { setSelected(new Set(rows)); },
    clear() { setSelected(new Set()); },
    /** What an action is about: the selection, or the one in focus. */
    subject() { return selected.size ? rows.filter((row) => selected.has(row)) : rows[focus] === undefined ? [] : [rows[focus]]; },
  };
}

/**
 * @param {{rows: number[], selection: Object, onOpen: (row: number) => void, label: string, showCluster?: boolean,
 *   scores?: Map<number, number>}} props
 */
export function SegmentGrid({ rows, selection, onOpen, label, showCluster = false, scores }) {
  const element = useRef(null), id = useId();
  const [width, setWidth] = useState(0);
  const [range, setRange] = useState([0, 0]); // rows of tiles drawn
  const [focusing, setFocusing] = useState(false);
  const band = useRubberBand(element, rows, selection, width);
  const size = useMemo(() => layout(Math.max(width, 240)), [width]);
  const lines = Math.ceil(rows.length / size.columns);

  useLayoutEffect(() => {
    const measure = () => setWidth(element.current.clientWidth);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      if (!element.current) return;
      const { top } = element.current.getBoundingClientRect();
      const first = Math.max(0, Math.floor(-top / size.step) - SPARE_ROWS);
      const last = Math.min(lines, Math.ceil((innerHeight - top) / size.step) + SPARE_ROWS);
      setRange((old) => (old[0] === first && old[1] === last ? old : [first, Math.max(first, last)]));
    };
    const soon = () => { if (!frame) frame = requestAnimationFrame(look); };
    look();
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", soon);
      removeEventListener("resize", soon);
    };
  }, [size, lines]);

  /** Bring a tile into sight, below the bars that stick to the edges. */
  const reveal = (index) => {
    const top = element.current.getBoundingClientRect().top + Math.floor(index / size.columns) * size.step;
    const above = 130, below = innerHeight - 90 - size.high;
    if (top < above) scrollBy({ top: top - above, behavior: "instant" });
    else if (top > below) scrollBy({ top: top - below, behavior: "instant" });
  };
  const moveTo = (index, event) => {
    const to = Math.max(0, Math.min(rows.length - 1, index));
    if (event.shiftKey) {
      if (!selection.selected.size) selection.setAnchor(selection.focus);
      selection.range(to);
    } else selection.focusOn(to);
    setFocusing(true);
    reveal(to);
  };
  const inside = () => element.current?.contains(document.activeElement) || document.activeElement === document.body;
  const step = (by) => (event) => {
    if (!rows.length || !inside()) return false;
    moveTo(document.activeElement === document.body ? selection.focus : selection.focus + by(), event);
    return true;
  };
  const page = () => Math.max(1, Math.floor((innerHeight - 200) / size.step)) * size.columns;
  const moves = {
    arrowleft: step(() => -1), arrowright: step(() => 1), arrowup: step(() => -size.columns),
    arrowdown: step(() => size.columns), home: step(() => -rows.length), end: step(() => rows.length),
    pageup: step(() => -page()), pagedown: step(page),
  };
  const focused = (act) => () => (element.current?.contains(document.activeElement) ? act(selection.focus) : false);
  useKeys({
    ...moves,
    ...Object.fromEntries(Object.entries(moves).map(([name, act]) => [`shift+${name}`, act])),
    "mod+a": () => selection.all(),
    enter: focused((index) => onOpen(rows[index])),
    space: focused((index) => toggleSound(rows[index])),
    l: focused((index) => toggleSound(rows[index])),
    "shift+space": focused((index) => selection.toggle(index)),
    "mod+space": focused((index) => selection.toggle(index)),
    escape: () => { if (!selection.selected.size) return false; selection.clear(); return true; },
  });

  const onClick = (event) => {
    if (band.justEnded()) return;
    const tile = event.target.closest("[data-index]");
    if (!tile) return;
    const index = Number(tile.dataset.index);
    setFocusing(true);
    if (event.shiftKey) selection.range(index, event.ctrlKey || event.metaKey);
    else if (event.ctrlKey || event.metaKey || (band.touch() && selection.selected.size)) selection.toggle(index);
    else if (band.touch()) onOpen(rows[index]);
    else selection.only(index);
  };
  const onDoubleClick = (event) => {
    const tile = event.target.closest("[data-row]");
    if (tile && !event.shiftKey && !event.ctrlKey && !event.metaKey) onOpen(Number(tile.dataset.row));
  };
  const onFocus = (event) => {
    const tile = placingFocus() ? null : event.target.closest("[data-index]");
    if (tile && Number(tile.dataset.index) !== selection.focus) selection.focusOn(Number(tile.dataset.index));
  };
  const onBlur = (event) => { if (!element.current?.contains(event.relatedTarget)) setFocusing(false); };

  const tiles = [];
  const drawn = new Set();
  const draw = (index) => {
    if (index < 0 || index >= rows.length || drawn.has(index)) return;
    drawn.add(index);
    const row = rows[index], line = Math.floor(index / size.columns), column = index % size.columns;
    const x = column * (size.wide + GAP), y = line * size.step;
    tiles.push(html`<${Tile} key=${row} row=${row} index=${index} total=${rows.length} id=${`${id}-${row}`}
      place=${{ width: `${size.wide}px`, height: `${size.high}px`, transform: `translate(${x}px, ${y}px)` }}
      selected=${selection.selected.has(row)} focused=${index === selection.focus}
      takesFocus=${focusing && index === selection.focus} showCluster=${showCluster} score=${scores?.get(row)}
      onOpen=${onOpen} />`);
  };
  for (let i = range[0] * size.columns; i < range[1] * size.columns; i++) draw(i);
  draw(selection.focus); // so that it keeps the focus when it is scrolled out of sight
  return html`<div class="segments" role="listbox" aria-multiselectable="true" aria-label=${label} ref=${element}
    style=${{ height: `${Math.max(0, lines * size.step - GAP)}px` }} onClick=${onClick} onDblClick=${onDoubleClick}
    onFocusIn=${onFocus} onFocusOut=${onBlur} ...${band.handlers}>${tiles}
    <div class="band" ref=${band.mark} hidden></div></div>`;
}

/** Selecting by dragging a frame with the mouse, or by a long press with a finger. */
function useRubberBand(element, rows, selection, width) {
  const state = useRef({ on: false, ended: 0, pointer: "mouse", press: 0 });
  const mark = useRef(null);
  const latest = useRef({});
  latest.current = { rows, selection, width };

  const onPointerDown = (event) => {
    const now = state.current;
    now.pointer = event.pointerType;
    if (event.pointerType !== "mouse") {
      const tile = event.target.closest("[data-index]");
      clearTimeout(now.press);
      if (tile) now.press = setTimeout(() => { latest.current.selection.toggle(Number(tile.dataset.index)); now.ended = Date.now(); }, 480);
      return;
    }
    if (event.button !== 0 || event.target.closest("button")) return;
    const box = element.current.getBoundingClientRect();
    Object.assign(now, {
      on: true, moved: false, x: event.clientX - box.left, y: event.clientY - box.top, clientX: event.clientX,
      clientY: event.clientY, before: event.ctrlKey || event.metaKey || event.shiftKey ? [...latest.current.selection.selected] : [],
    });
    addEventListener("pointermove", onMove);
    addEventListener("pointerup", onUp, { once: true });
    addEventListener("pointercancel", onUp, { once: true });
  };

  const update = () => {
    const now = state.current;
    if (!now.on || !element.current) return;
    const box = element.current.getBoundingClientRect(), { rows: all, width: wide, selection: selecting } = latest.current;
    const x = now.clientX - box.left, y = now.clientY - box.top;
    if (!now.moved && Math.hypot(x - now.x, y - now.y) < 7) return;
    now.moved = true;
    const [left, right, top, bottom] = [Math.min(x, now.x), Math.max(x, now.x), Math.min(y, now.y), Math.max(y, now.y)];
    Object.assign(mark.current.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
    mark.current.hidden = false;
    const { columns, wide: tileWide, high, step } = layout(wide);
    const hit = [];
    const firstLine = Math.max(0, Math.floor(top / step)), lastLine = Math.floor(bottom / step);
    for (let line = firstLine; line <= lastLine; line++) {
      if (line === firstLine && top - line * step > high) continue; // only the gap below it
      for (let column = 0; column < columns; column++) {
        const from = column * (tileWide + GAP), index = line * columns + column;
        if (index < all.length && from < right && from + tileWide > left) hit.push(all[index]);
      }
    }
    const key = `${hit[0]}-${hit.length}-${hit[hit.length - 1]}`;
    if (key !== now.key) { now.key = key; selecting.set([...now.before, ...hit]); }
    const edge = now.clientY < 90 ? now.clientY - 90 : now.clientY > innerHeight - 60 ? now.clientY - innerHeight + 60 : 0;
    if (edge && !now.rolling) {
      now.rolling = requestAnimationFrame(() => { now.rolling = 0; scrollBy({ top: edge * 0.4, behavior: "instant" }); update(); });
    }
  };
  const onMove = (event) => { state.current.clientX = event.clientX; state.current.clientY = event.clientY; update(); };
  const onUp = () => {
    const now = state.current;
    removeEventListener("pointermove", onMove);
    cancelAnimationFrame(now.rolling);
    if (now.moved) now.ended = Date.now();
    Object.assign(now, { on: false, moved: false, rolling: 0, key: "" });
    if (mark.current) mark.current.hidden = true;
  };
  const release = () => clearTimeout(state.current.press);
  useEffect(() => () => { removeEventListener("pointermove", onMove); release(); }, []);
  return {
    mark,
    justEnded: () => Date.now() - state.current.ended < 350,
    touch: () => state.current.pointer !== "mouse",
    handlers: {
      onPointerDown, onPointerUp: release, onPointerCancel: release, onPointerMove: (event) => { if (event.pointerType !== "mouse" && event.movementX ** 2 + event.movementY ** 2 > 16) release(); },
      onContextMenu: (event) => { if (state.current.pointer !== "mouse") event.preventDefault(); },
    },
  };
}

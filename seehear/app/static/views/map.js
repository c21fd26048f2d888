/** @file The map: every segment as a point, near to those it is like. */

import { call, LostError } from "../api.js";
import { clusterName, fileName, percent, plural, thousands } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { darkness } from "../prefs.js";
import { link, setParams } from "../route.js";
import { useSegment } from "../segments.js";
import { session, useCluster } from "../session.js";
import { hush, listen } from "../sound.js";
import { useStore } from "../store.js";
import { toast } from "../toasts.js";
import { SegmentActions } from "../components/actions.js";
import { Choice, Empty, toneOf } from "../components/basics.js";
import { IconButton } from "../components/icons.js";
import { Strip } from "../components/strip.js";
import { colourOf } from "../components/timeline.js";
import { WHOLE, cameraOf, cameraText, zoomAt } from "../scatter/camera.js";
import { Scatter } from "../scatter/scatter.js";
import { openPlayer } from "./player.js";

const STEPS = 24; // of the scale of confidence
const STRONG = 215, WEAK = 24;

/** The points of the run, asked for again when clusters change. */
function usePoints() {
  const { by, revision, generation, epoch } = useStore(session);
  const [found, setFound] = useState(null);
  useEffect(() => {
    if (!generation) return undefined;
    const abort = new AbortController();
    call("/api/map", { params: { by }, signal: abort.signal }).then((map) => setFound((old) => ({
      // Positions stay the same while only clusters change: then the index of what is near need not be made anew.
      points: old?.by === by && old.generation === generation && old.points.x.length === map.x.length ? old.points
        : { x: Float32Array.from(map.x), y: Float32Array.from(map.y) },
      by, generation, cluster: Int32Array.from(map.cluster), ids: map.ids, confidence: Float32Array.from(map.confidence),
    }))).catch((error) => { if (error.name !== "AbortError" && !(error instanceof LostError)) toast(error.message, { bad: true }); });
    return () => abort.abort();
  }, [by, revision, generation, epoch]);
  return found?.by === by ? found : null;
}

/** The palette, which of its colours each point has, and how strongly it is drawn. */
function useColours(map, colourBy, only, byId, dark) {
  return useMemo(() => {
    if (!map) return null;
    const grey = dark ? "#80848e" : "#9a9da6", count = map.cluster.length;
    const colour = new Uint16Array(count), strong = new Uint8Array(count);
    const clusters = map.ids.map((id) => byId.get(id) ?? null);
    let colours;
    if (colourBy === "confidence") {
      colours = Array.from({ length: STEPS }, (_, i) => {
        const t = i / (STEPS - 1);
        return dark ? `oklch(${0.42 + 0.46 * t} ${0.07 + 0.09 * t} ${300 - 200 * t})` : `oklch(${0.84 - 0.44 * t} ${0.08 + 0.08 * t} ${100 + 190 * t})`;
      });
      for (let i = 0; i < count; i++) colour[i] = Math.max(0, Math.min(STEPS - 1, Math.floor(map.confidence[i] * STEPS)));
    } else {
      colours = [grey, ...clusters.map((c) => (c && (colourBy !== "name" || c.name) ? colourOf(c, dark) : grey))];
      for (let i = 0; i < count; i++) colour[i] = map.cluster[i] + 1;
    }
    const lit = only ? map.ids.indexOf(only) : -1;
    for (let i = 0; i < count; i++) strong[i] = map.cluster[i] < 0 ? WEAK : only && map.cluster[i] !== lit ? WEAK : colourBy === "name" && !clusters[map.cluster[i]]?.name ? 90 : STRONG;
    return { colours, colour, strong };
  }, [map, colourBy, only, byId, dark]);
}

const REACH = 0.09; // how far from its middle a crowd of points may reach and still have its name on top

/** Where a cluster's name stands: above the crowd round the segment that is nearest to the middle of all. */
function labelPlace({ x, y }, rows) {
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  const mx = middle(rows.map((i) => x[i])), my = middle(rows.map((i) => y[i]));
  const nearest = rows.reduce((best, i) => (Math.hypot(x[i] - mx, y[i] - my) < Math.hypot(x[best] - mx, y[best] - my) ? i : best), rows[0]);
  const crowd = rows.filter((i) => Math.hypot(x[i] - x[nearest], y[i] - y[nearest]) < REACH).map((i) => y[i]).sort((a, b) => a - b);
  return { x: x[nearest], y: crowd[Math.floor(crowd.length * 0.95)] };
}

/** A name for each cluster, the named and the largest first. */
function useLabels(map, byId, only) {
  return useMemo(() => {
    if (!map) return [];
    const members = map.ids.map(() => []);
    for (let i = 0; i < map.cluster.length; i++) if (map.cluster[i] >= 0) members[map.cluster[i]].push(i);
    return map.ids.map((id, k) => ({ id, cluster: byId.get(id), rows: members[k] }))
      .filter(({ id, cluster, rows }) => cluster && rows.length && (!only || id === only))
      .sort((a, b) => Number(Boolean(b.cluster.name)) - Number(Boolean(a.cluster.name)) || b.rows.length - a.rows.length)
      .map(({ cluster, rows }) => ({ text: clusterName(cluster), ...labelPlace(map.points, rows) }));
  }, [map, byId, only]);
}

export function MapView({ params }) {
  const { byId, clusters } = useStore(session);
  const dark = useStore(darkness);
  const map = usePoints();
  const { colour: colourBy = "cluster", only = "" } = params;
  const [camera, setCamera] = useState(() => cameraOf(params.at));
  const [tool, setTool] = useState("move");
  const [selected, setSelected] = useState(() => new Set());
  const [hovered, setHovered] = useState(null); // {index, x, y}
  const frame = useRef(null), timer = useRef(0);
  const shown = useColours(map, colourBy, only, byId, dark);
  const labels = useLabels(map, byId, only);
  useEffect(() => {
    clearTimeout(timer.current);
    // Browsers refuse too many changes of the address in a short time.
    timer.current = setTimeout(() => setParams({ at: cameraText(camera) }), 400);
    return () => clearTimeout(timer.current);
  }, [camera]);
  useEffect(() => hush, []);
  const onSelect = (rows, add) => setSelected((old) => new Set(add ? [...old, ...rows] : rows));
  const onHover = (index, at) => {
    setHovered(index < 0 ? null : { index, ...at });
    if (index < 0) hush(); else listen(index, { after: 260 });
  };
  useKeys({ escape: () => { if (!selected.size) return false; setSelected(new Set()); return true; }, "mod+a": () => setSelected(new Set(Array.from(map?.points.x ?? [], (_, i) => i))) });
  const zoom = (factor) => () => { const { clientWidth: w, clientHeight: h } = frame.current; setCamera((old) => zoomAt(old, w, h, factor, w / 2, h / 2)); };
  if (map && !map.points.x.length) return html`<${Empty} title="There are no segments to place" />`;
  const sizes = clusters ? [...clusters].sort((a, b) => Number(Boolean(b.name)) - Number(Boolean(a.name)) || b.size - a.size) : [];
  return html`<h1 class="unseen">Map</h1><div class="map-view"><div class="map-frame" ref=${frame}>
      ${map && shown ? html`<${Scatter} points=${map.points} ...${shown} selected=${selected} labels=${labels} camera=${camera} onCamera=${setCamera} tool=${tool} onTool=${setTool}
        onHover=${onHover} onSelect=${onSelect} onOpen=${(index) => openPlayer(index, selected.size ? [...selected] : [])} />` : html`<p class="quiet loading">Placing the segments …</p>`}
      <div class="map-tools" role="toolbar" aria-label="The map">
        <${IconButton} icon="hand" label="Move the map" pressed=${tool === "move"} onClick=${() => setTool("move")} />
        <${IconButton} icon="lasso" label="Choose with a lasso" keys="b, or Shift and drag" pressed=${tool === "lasso"} onClick=${() => setTool("lasso")} />
        <${IconButton} icon="box" label="Choose with a box" pressed=${tool === "box"} onClick=${() => setTool("box")} />
        <span class="bar-line"></span><${IconButton} icon="plus" label="Closer" keys="+" onClick=${zoom(1.5)} /><${IconButton} icon="minus" label="Farther" keys="−" onClick=${zoom(1 / 1.5)} />
        <${IconButton} icon="whole" label="All" keys="0" onClick=${() => setCamera(WHOLE)} /></div>
      <p class="unseen" id="map-now" aria-live="polite">${hovered && html`<${Now} row=${hovered.index} />`}</p>
      ${hovered && html`<${Tip} ...${hovered} width=${frame.current?.clientWidth ?? 0} height=${frame.current?.clientHeight ?? 0} />`}</div>
    <aside class="legend"><div class="legend-head"><${Choice} label="Colour by" value=${colourBy} onChange=${(value) => setParams({ colour: value === "cluster" ? "" : value })}
        options=${[{ value: "cluster", text: "Cluster" }, { value: "name", text: "Name" }, { value: "confidence", text: "Confidence" }]} /></div>
      ${colourBy === "confidence" ? html`<div class="scale"><span class="ramp">${shown?.colours.map((c) => html`<i key=${c} style=${{ background: c }} />`)}</span><span>unsure</span><span>sure</span></div>` : ""}
      ${selected.size > 0 && html`<section class="chosen-some"><h2>${plural(selected.size, "segment")}</h2><ul>${[...selected].slice(0, 8).map((row) => html`<li key=${row}><button type="button"
        aria-label="Open" onClick=${() => openPlayer(row, [...selected])}><${Strip} row=${row} still /></button></li>`)}</ul></section>`}
      <ul class="legend-list" aria-label="Clusters">${sizes.map((c) => html`<li key=${c.id} style=${toneOf(c)} class=${colourBy === "confidence" || (colourBy === "name" && !c.name) ? "plain" : ""}><button type="button" aria-pressed=${String(only === c.id)}
        title="Show it alone" onClick=${() => setParams({ only: only === c.id ? "" : c.id })}><span class="dot"></span><span class="grow">${clusterName(c)}</span><span class="quiet">${thousands(c.size)}</span></button>
        <a href=${link("cluster", c.id)} aria-label=${`Open ${clusterName(c)}`}>open</a></li>`)}</ul></aside></div>
    <${SegmentActions} subject=${() => (selected.size ? [...selected] : hovered ? [hovered.index] : [])} count=${selected.size} onClear=${() => setSelected(new Set())} />`;
}

function Now({ row }) {
  const segment = useSegment(row);
  const cluster = useCluster(segment?.cluster);
  return segment ? `${segment.title}, ${clusterName(cluster)}, confidence ${percent(segment.confidence)}` : "";
}

/** What is under the pointer: its moving picture, its name. */
function Tip({ index, x, y, width, height }) {
  const segment = useSegment(index);
  const cluster = useCluster(segment?.cluster);
  const wide = 176, high = 176;
  const left = Math.max(6, Math.min(width - wide - 6, x + 18)), top = y + 18 + high > height ? Math.max(6, y - high - 14) : y + 18;
  return html`<div class="map-tip" style=${{ left: `${left}px`, top: `${top}px`, width: `${wide}px`, ...toneOf(cluster) }}>
    <${Strip} row=${index} sound=${segment ? !segment.has_video : false} /><p><span class="dot"></span><b>${cluster ? clusterName(cluster) : "…"}</b></p>
    <p class="quiet">${segment ? `${fileName(segment.title)} · ${percent(segment.confidence)}` : ""}</p></div>`;
}

/** @file Lines of time: a whole video with the clusters of its segments, and a part of it with its sound drawn. */

import { call, media } from "../api.js";
import { clock, clusterName } from "../format.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { isDark } from "../prefs.js";
import { session } from "../session.js";
import { useStore } from "../store.js";

/** The colour of a cluster on a canvas; the same as CSS makes of --hue. */
export function colourOf(cluster, dark = isDark()) {
  if (!cluster) return dark ? "#80848e" : "#8d9099";
  return `oklch(${dark ? 0.76 : 0.6} ${dark ? 0.12 : 0.14} ${cluster.hue})`;
}

/** Draw on a canvas when it changes size, when `inputs` change and when the theme does. */
export function useCanvas(draw, inputs) {
  const canvas = useRef(null), latest = useRef(draw);
  latest.current = draw;
  const paint = () => {
    const element = canvas.current;
    if (!element?.clientWidth) return;
    const dense = devicePixelRatio || 1;
    element.width = Math.round(element.clientWidth * dense);
    element.height = Math.round(element.clientHeight * dense);
    const context = element.getContext("2d");
    context.scale(dense, dense);
    latest.current(context, element.clientWidth, element.clientHeight);
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(paint);
    observer.observe(canvas.current);
    addEventListener("seehear:theme", paint);
    return () => { observer.disconnect(); removeEventListener("seehear:theme", paint); };
  }, []);
  useLayoutEffect(paint, inputs);
  return canvas;
}

/**
 * All segments of a video in the colours of their clusters.
 * @param {{video: Object, window?: number[], now?: number, current?: number, onPick: (seconds: number, row: number|null) => void}} props
 */
export function Overview({ video, window: part, now, current, onPick, high = 26 }) {
  const byId = useStore(session, (s) => s.byId);
  const [hint, setHint] = useState(null);
  const start = video.start ?? 0, whole = Math.max(video.seconds, 0.001);
  const place = (seconds) => (seconds - start) / whole;
  const canvas = useCanvas((context, width, height) => {
    const segments = video.segments;
    segments.forEach((segment, i) => {
      const end = Math.min(segment.end, segments[i + 1]?.start > segment.start ? segments[i + 1].start : Infinity);
      const x = place(segment.start) * width, wide = Math.max(1, (place(end) - place(segment.start)) * width);
      context.globalAlpha = 0.35 + 0.65 * segment.confidence;
      context.fillStyle = colourOf(byId.get(segment.cluster));
      context.fillRect(x, 0, wide > 3 ? wide - 1 : wide, height);
    });
  }, [video, byId]);
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const seconds = start + ((event.clientX - box.left) / box.width) * whole;
    const segment = [...video.segments].reverse().find((s) => s.start <= seconds && seconds < s.end) ?? null;
    return { seconds, segment, share: (event.clientX - box.left) / box.width };
  };
  const chosen = video.segments.find((s) => s.row === current);
  return html`<div class="overview" style=${{ height: `${high}px` }} onPointerMove=${(event) => setHint(at(event))} onPointerLeave=${() => setHint(null)}
    onClick=${(event) => { const { seconds, segment } = at(event); onPick(seconds, segment?.row ?? null); }}>
    <canvas ref=${canvas} role="img" aria-label=${`${video.segments.length} segments of the video by cluster`} />
    ${part && html`<span class="part" style=${{ left: `${place(part[0]) * 100}%`, width: `${((part[1] - part[0]) / whole) * 100}%` }} />`}
    ${chosen && html`<span class="current" style=${{ left: `${place(chosen.start) * 100}%`, width: `${((chosen.end - chosen.start) / whole) * 100}%` }} />`}
    ${now !== undefined && html`<span class="playhead" style=${{ left: `${place(now) * 100}%` }} />`}
    ${hint && html`<span class=${`hint ${hint.share > 0.6 ? "left" : ""}`} style=${{ left: `${hint.share * 100}%` }}>${clock(hint.seconds)}${hint.segment
      ? ` · ${clusterName(byId.get(hint.segment.cluster) ?? { id: hint.segment.cluster, name: hint.segment.name })}` : ""}</span>`}</div>`;
}

/**
 * A part of a video: waveform and spectrogram, the segment marked, a stretch that can be drawn with the pointer.
 * @param {{video: Object, window: number[], segment?: Object, stretch: number[]|null, now: number, onSeek: Function,
 *   onStretch: Function}} props
 */
export function Detail({ video, window: part, segment, stretch, now, onSeek, onStretch }) {
  const [peaks, setPeaks] = useState(null);
  const [shown, setShown] = useState(""); // the address of the spectrogram that has come, which may be before effects run
  const drag = useRef(null), box = useRef(null);
  const [from, to] = part, long = Math.max(to - from, 0.001);
  const picture = media.spectrogram(video.video, from, to);
  useEffect(() => {
    setPeaks(null);
    if (!video.has_audio) return undefined;
    const abort = new AbortController();
    call(media.wave(video.video, from, to), { signal: abort.signal }).then((wave) => setPeaks(wave.peaks)).catch(() => {});
    return () => abort.abort();
  }, [video.video, from, to]);
  const canvas = useCanvas((context, width, height) => {
    if (!peaks?.length) return;
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--soft");
    context.fillStyle = getComputedStyle(canvas.current).color; // resolves light-dark()
    const middle = height / 2, loud = Math.max(0.05, ...peaks.map(([low, high]) => Math.max(-low, high)));
    const columns = Math.floor(width / 2);
    for (let i = 0; i < columns; i++) {
      const slice = peaks.slice(Math.floor((i / columns) * peaks.length), Math.max(Math.floor((i / columns) * peaks.length) + 1,
        Math.floor(((i + 1) / columns) * peaks.length)));
      const high = Math.max(...slice.map((p) => p[1])) / loud, low = Math.min(...slice.map((p) => p[0])) / loud;
      context.fillRect(i * 2, middle - high * middle, 1.4, Math.max(1, (high - low) * middle));
    }
  }, [peaks]);
  const secondsAt = (event) => {
    const area = box.current.getBoundingClientRect();
    return from + Math.max(0, Math.min(1, (event.clientX - area.left) / area.width)) * long;
  };
  const onPointerDown = (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    box.current.setPointerCapture(event.pointerId);
    drag.current = { at: secondsAt(event), x: event.clientX, moved: false };
  };
  const onPointerMove = (event) => {
    const now_ = drag.current;
    if (!now_) return;
    if (Math.abs(event.clientX - now_.x) > 5) now_.moved = true;
    if (now_.moved) onStretch([Math.min(now_.at, secondsAt(event)), Math.max(now_.at, secondsAt(event))]);
  };
  const onPointerUp = (event) => {
    if (drag.current && !drag.current.moved) { onSeek(secondsAt(event)); }
    drag.current = null;
  };
  const mark = (kind, a, b) => html`<span class=${kind} style=${{ left: `${((Math.max(a, from) - from) / long) * 100}%`,
    width: `${(Math.max(0, Math.min(b, to) - Math.max(a, from)) / long) * 100}%` }} />`;
  return html`<div class="detail" ref=${box} role="slider" tabindex="0" aria-label="Time in the video" aria-valuemin=${from.toFixed(2)}
    aria-valuemax=${to.toFixed(2)} aria-valuenow=${now.toFixed(2)} aria-valuetext=${`${clock(now, 1)} of ${clock(video.seconds, 1)}`}
    onPointerDown=${onPointerDown} onPointerMove=${onPointerMove} onPointerUp=${onPointerUp} onPointerCancel=${() => { drag.current = null; }}>
    <canvas ref=${canvas} class="wave" aria-hidden="true" />
    ${video.has_audio ? html`<img class=${`spectrogram ${shown === picture ? "there" : ""}`} alt="" draggable=${false} key=${picture}
      src=${picture} onLoad=${() => setShown(picture)} />`
      : html`<p class="no-sound">no sound</p>`}
    ${segment && mark("segment", segment.start, segment.end)}
    ${stretch && mark("stretch", stretch[0], stretch[1])}
    ${now >= from && now <= to && html`<span class="playhead" style=${{ left: `${((now - from) / long) * 100}%` }} />`}
    <span class="from">${clock(from, 1)}</span><span class="to">${clock(to, 1)}</span></div>`;
}

/** @file Search: what is like a segment, a stretch of a video, or a file of one's own. */

import { ApiError, call, LostError, media } from "../api.js";
import { clock, clusterName, fileName, percent, plural } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { link, setParams } from "../route.js";
import { useSegment } from "../segments.js";
import { session, useCluster } from "../session.js";
import { useStore } from "../store.js";
import { SegmentActions } from "../components/actions.js";
import { Empty, Pick, toneOf } from "../components/basics.js";
import { dropped, takeFile } from "../components/drop.js";
import { SegmentGrid, useSelection } from "../components/grid.js";
import { How, howBody } from "../components/how.js";
import { Icon } from "../components/icons.js";
import { Strip } from "../components/strip.js";
import { openPlayer, watchVideo } from "./player.js";

const COUNTS = [["20", "20"], ["60", "60"], ["200", "200"], ["1000", "1000"]];
const NONE = [];
const answers = new Map(); // for "back": the last few answers, by what was asked

/** What is asked, read from the address. */
function queryOf(params, file) {
  if (params.file !== undefined) return file ? { file, from: params.begin ?? "", to: params.finish ?? "" } : { gone: params.file };
  if (params.row !== undefined && /^\d+$/.test(params.row)) return { row: Number(params.row) };
  if (params.video && params.start !== undefined) return { video: params.video, start: Number(params.start), end: Number(params.end) };
  return null;
}

function ask(query, how, k, signal) {
  const { by, generation } = session.get();
  const body = howBody(how);
  if (query.file) {
    return call("/api/search/file", {
      method: "POST", raw: query.file.file, signal,
      params: { name: query.file.file.name, ...body, k, start: query.from, end: query.to, labelling: by },
    });
  }
  const what = query.row !== undefined ? { row: query.row } : { video: query.video, start: query.start, end: query.end };
  return call("/api/search", { method: "POST", params: { by }, body: { generation, ...what, k, ...body }, signal });
}

export function SearchView({ params }) {
  const file = useStore(dropped);
  const generation = useStore(session, (s) => s.generation);
  const query = useMemo(() => queryOf(params, file), [params.row, params.video, params.start, params.end, params.file, params.begin, params.finish, file]);
  const segment = useSegment(query?.row ?? null);
  const streams = query?.file ? { video: query.file.kind !== "audio", audio: query.file.kind !== "image" }
    : segment ? { video: segment.has_video, audio: segment.has_audio } : { video: true, audio: true };
  const how = { how: params.how || (streams.video && streams.audio ? "both" : streams.video ? "sight" : "sound"), weight: params.w ? Number(params.w) : 0.5, from: params.from ?? "" };
  const k = Number(params.k) || 60, least = Number(params.min) || 0;
  const [state, setState] = useState({ key: "", answer: null, problem: "", busy: false });
  const [anyway, setAnyway] = useState(false);
  const key = JSON.stringify([query?.file ? query.file.url : query, query?.from, query?.to, how, k, generation]);

  useEffect(() => {
    if (!query || query.gone !== undefined || !generation) return undefined;
    if (answers.has(key)) { setState({ key, answer: answers.get(key), problem: "", busy: false }); return undefined; }
    const abort = new AbortController();
    setState((old) => ({ ...old, busy: true, problem: "" }));
    setAnyway(false);
    ask(query, how, k, abort.signal).then((answer) => {
      if (answers.size > 12) answers.delete(answers.keys().next().value);
      answers.set(key, answer);
      setState({ key, answer, problem: "", busy: false });
    }).catch((error) => {
      if (error.name === "AbortError") return;
      const text = error instanceof ApiError ? [error.message, error.remedy].filter(Boolean).join(" ") : error.message;
      setState({ key, answer: null, problem: error instanceof LostError ? "" : text, busy: false });
    });
    return () => abort.abort();
  }, [key]);

  const { answer } = state;
  const passing = useMemo(() => (answer?.hits ?? NONE).filter((hit) => hit.score >= least && hit.row !== query?.row), [answer, least, query?.row]);
  const rows = useMemo(() => passing.map((hit) => hit.row), [passing]);
  const scores = useMemo(() => new Map(passing.map((hit) => [hit.row, hit.score])), [passing]);
  const selection = useSelection(rows);
  const change = (part) => setParams({
    ...("how" in part ? { how: part.how } : {}), ...("weight" in part ? { w: part.weight === 0.5 ? "" : part.weight } : {}), ...("from" in part ? { from: part.from } : {}),
  });
  const nothing = answer?.nothing_like_it && !anyway;
  return html`<div class="view-head"><h1>Search</h1><p class="quiet">Find moments that look or sound like one you have.</p></div>
    <div class="query">
      ${query && query.gone === undefined ? html`<${Query} query=${query} segment=${segment} />` : html`<${DropZone} gone=${query?.gone} />`}
      ${query && query.gone === undefined && html`<div class="query-how"><${How} ...${how} streams=${streams} onChange=${change} />
        <div class="tools"><label class="field least"><span>Score at least</span><input type="range" min="0" max="100" value=${least * 100}
          aria-valuetext=${percent(least)} onInput=${(event) => setParams({ min: Number(event.currentTarget.value) ? Number(event.currentTarget.value) / 100 : "" })} />
          <output>${percent(least)}</output></label>
        <${Pick} label="At most" value=${String(k)} options=${COUNTS} onChange=${(value) => setParams({ k: value === "60" ? "" : value })} />
        <${AnotherFile} /></div>
        ${query.file && query.file.kind !== "image" && html`<${FileStretch} from=${query.from} to=${query.to} />`}</div>`}
    </div>
    ${state.problem && html`<p class="notice">${state.problem}</p>`}
    ${query && query.gone === undefined && !state.problem && html`<div class="answer" aria-busy=${String(state.busy)}>
      <p class="answer-line" role="status">${state.busy && !answer ? "Looking …" : answer && html`<strong>${nothing ? "Nothing like it here" : plural(rows.length, "moment")}</strong>
        <span class="quiet"> · through ${answer.through}${answer.exact ? " · exact" : answer.recall ? ` · approximate, recall ${percent(answer.recall)}` : " · approximate"}</span>${(answer.notes ?? []).map((text) => html`<span class="note" key=${text}><br />${text}</span>`)}`}</p>
      ${nothing ? html`<${Nothing} answer=${answer} onShow=${() => setAnyway(true)} />`
        : answer && html`<${SegmentGrid} rows=${rows} selection=${selection} scores=${scores} showCluster label="Found, best first" onOpen=${(row) => openPlayer(row, rows)} />
          ${!rows.length && html`<${Empty} title="Nothing reaches this score">Ask for less.<//>`}`}</div>`}
    <${SegmentActions} subject=${() => selection.subject()} count=${selection.selected.size} onClear=${() => selection.clear()} />`;
}

function Nothing({ answer, onShow }) {
  const best = answer.hits[0];
  return html`<div class="empty"><p class="empty-title">Nothing like it here</p>
    <p>${best ? `The nearest scores ${percent(best.score)}; what is alike scores at least ${percent(answer.cut_off)}.` : "Nothing comes near it."}</p>
    ${best && html`<p><button type="button" class="button" onClick=${onShow}>Show the nearest anyway</button></p>`}</div>`;
}

function Query({ query, segment }) {
  const cluster = useCluster(segment?.cluster);
  if (query.file) {
    const { file, url, kind } = query.file;
    return html`<figure class="query-card">${kind === "image" ? html`<img src=${url} alt=${file.name} />`
      : kind === "audio" ? html`<audio src=${url} controls aria-label=${file.name} />` : html`<video src=${url} controls muted playsinline aria-label=${file.name} />`}
      <figcaption><b>${file.name}</b></figcaption></figure>`;
  }
  if (query.row !== undefined) {
    return html`<figure class="query-card" style=${toneOf(cluster)}><button type="button" class="picture" onClick=${() => openPlayer(query.row, [])} aria-label="Play it">
      <${Strip} row=${query.row} sound=${segment ? !segment.has_video : false} /></button>
      <figcaption><b title=${segment?.title}>${segment ? fileName(segment.title) : "…"}</b>${segment && html`<span class="quiet">${clock(segment.start, 1)} – ${clock(segment.end, 1)}</span>
      <a class="chip tone" href=${link("cluster", segment.cluster)}><span class="dot"></span>${clusterName(cluster ?? { id: segment.cluster, name: segment.name })}</a>`}</figcaption></figure>`;
  }
  return html`<figure class="query-card"><video src=${media.stretch(query.video, query.start, query.end)} controls muted playsinline loop aria-label="The stretch" />
    <figcaption><b>${clock(query.start, 1)} – ${clock(query.end, 1)}</b><button type="button" class="plain" onClick=${() => watchVideo(query.video, query.start)}>Open the video</button></figcaption></figure>`;
}

function DropZone({ gone }) {
  const field = useRef(null);
  useKeys({ "/": () => field.current.click() });
  return html`<label class="drop-zone"><input type="file" ref=${field} class="unseen" accept="video/*,audio/*,image/*,.mkv,.avi,.mts,.flac" onChange=${(event) => takeFile(event.currentTarget.files[0])} />
    <${Icon} name="drop" size=${34} /><b>${gone ? `Choose ${gone} again` : "Drop a video, a sound or a picture"}</b>
    <span class="quiet">${gone ? "A file is not kept when the page is loaded anew." : "or press here to choose one. It goes to the server on this machine and is not kept."}</span>
    ${!gone && html`<span class="quiet">In a cluster or on the map, <kbd>f</kbd> finds more like the segment in focus; in the player, draw a stretch on the waveform.</span>`}</label>`;
}

function AnotherFile() {
  return html`<label class="button file"><input type="file" class="unseen" accept="video/*,audio/*,image/*,.mkv,.avi,.mts,.flac" onChange=${(event) => takeFile(event.currentTarget.files[0])} />
    <${Icon} name="drop" size=${17} />A file</label>`;
}

/** Which part of a file is meant. */
function FileStretch({ from, to }) {
  const tell = (name) => (event) => setParams({ [name]: event.currentTarget.value });
  return html`<p class="tools file-part"><label class="field"><span>from second</span><input type="number" min="0" step="0.1" value=${from} onChange=${tell("begin")} /></label>
    <label class="field"><span>to</span><input type="number" min="0" step="0.1" value=${to} onChange=${tell("finish")} /></label></p>`;
}

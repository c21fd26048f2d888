/** @file The player: a segment where it happened, what it sounds like, what is around it, and what is like it. */

import { call, LostError } from "../api.js";
import { clock, clusterName, fileName, percent } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { prefs } from "../prefs.js";
import { go, link, route, setParams } from "../route.js";
import { loadSegment, useSegment } from "../segments.js";
import { session, useCluster } from "../session.js";
import { hush } from "../sound.js";
import { useStore } from "../store.js";
import { confirm, moveTo, rejectOrRestore } from "../components/actions.js";
import { toneOf } from "../components/basics.js";
import { Dialog } from "../components/dialog.js";
import { SPEEDS, around, useFilm } from "../components/film.js";
import { How, howBody } from "../components/how.js";
import { Icon, IconButton } from "../components/icons.js";
import { ClusterPicker } from "../components/picker.js";
import { Strip } from "../components/strip.js";
import { Detail, Overview } from "../components/timeline.js";

const FRAME_SECONDS = 1 / 25; // what browsers tell of a file does not include its frame rate
const DOUBT = "0 %: others look and sound like it as usual here; 100 %: as little as like a clip with the sound of another; from 50 % on it may belong to no kind";

let list = [], pushed = false;

/**
 * Open the player over the view shown now.
 * @param {number} row
 * @param {number[]} rows the list that "next" and "previous" go along
 */
export function openPlayer(row, rows = []) {
  list = rows;
  const open = "play" in route.get().params || "watch" in route.get().params;
  if (!open) pushed = true;
  setParams({ play: row, watch: "", at: "" }, { push: !open });
}

/** Open a video at a time, without a segment. */
export function watchVideo(video, at = "") {
  list = [];
  pushed = true;
  setParams({ watch: video, at, play: "" }, { push: true });
}

function closePlayer() {
  if (pushed) { pushed = false; history.back(); } else setParams({ play: "", watch: "", at: "" });
}

/** The player if the address asks for it. */
export function PlayerDialog({ params }) {
  const row = params.play !== undefined && /^\d+$/.test(params.play) ? Number(params.play) : null;
  const segment = useSegment(row);
  const [video, setVideo] = useState(null);
  const [problem, setProblem] = useState("");
  const { by, revision, epoch } = useStore(session);
  const id = segment?.video ?? params.watch ?? "";
  useEffect(() => { hush(); }, []);
  useEffect(() => {
    if (!id) return undefined;
    const abort = new AbortController();
    call(`/api/videos/${encodeURIComponent(id)}`, { params: { by }, signal: abort.signal }).then(setVideo)
      .catch((error) => { if (error.name !== "AbortError" && !(error instanceof LostError)) setProblem(error.message); });
    return () => abort.abort();
  }, [id, by, revision, epoch]);
  useEffect(() => {
    if (row === null) return;
    loadSegment(row).catch((error) => { if (!(error instanceof LostError)) setProblem(error.message); });
  }, [row]);
  const fits = video && video.video === id && (row === null || segment);
  return html`<${Dialog} class="player" onClose=${closePlayer} title=${fileName(segment?.title ?? (fits ? video.title : "Video"))}>
    ${problem ? html`<p class="notice">${problem}</p>` : fits
      ? html`<${Film} video=${video} row=${row} segment=${segment} at=${params.at ? Number(params.at) : null} />`
      : html`<div class="film"><div class="stage"><div class="only-sound"><${Strip} row=${row} still /></div></div></div>`}
    <${Acting} row=${row} segment=${segment} /><//>`;
}

const nextBy = (row, step) => {
  const place = list.indexOf(row), next = list[place + step];
  if (place >= 0 && next !== undefined) openPlayer(next, list);
};

/** What is known of the segment, what can be done with it, and the keys for that: there before the video is. */
function Acting({ row, segment }) {
  const readOnly = useStore(session, (s) => s.run?.read_only);
  const [moving, setMoving] = useState(false);
  const change = (act) => () => { if (row !== null && !readOnly) act([row]); };
  const onMove = () => { if (row !== null && !readOnly) setMoving(true); };
  useKeys({
    j: () => nextBy(row, 1), k: () => nextBy(row, -1), y: change(confirm), x: change(rejectOrRestore), v: onMove,
  });
  return html`<aside class="about">${segment
    ? html`<${About} segment=${segment} change=${change} onMove=${onMove} readOnly=${readOnly} /><${Alike} segment=${segment} />`
    : row === null && html`<p class="quiet">Choose a segment on the line below the picture, or draw a stretch on the waveform to
      search for what is like it.</p>`}</aside>
    ${moving && html`<${ClusterPicker} title="Move this segment to" allowNew without=${segment ? [segment.cluster] : []}
      onClose=${() => setMoving(false)} onPick=${(choice) => { setMoving(false); moveTo([row], choice); }} />`}`;
}

function Film({ video, row, segment, at }) {
  const part = useMemo(() => around(video, segment ?? (at === null ? null : { start: at, end: at })), [video.video, segment?.row, at]);
  const film = useFilm(video, segment, part, at);
  const [stretch, setStretch] = useState(null);
  const { volume, muted } = useStore(prefs);
  const begin = useRef(null);
  useEffect(() => { setStretch(null); }, [row, video.video]);
  useEffect(() => { if (film.element.current) Object.assign(film.element.current, { volume, muted }); }, [volume, muted]);
  const find = () => {
    if (stretch) go("search", null, { video: video.video, start: stretch[0].toFixed(2), end: stretch[1].toFixed(2) });
    else if (row !== null) go("search", null, { row });
  };
  const bound = (index) => {
    if (index === 0) begin.current = film.now;
    const a = index === 0 ? film.now : begin.current ?? part[0], b = index === 1 ? film.now : stretch?.[1] ?? part[1];
    if (b - a > 0.05) setStretch([a, b]);
  };
  const onRow = (seconds, other) => { if (other !== null && other !== row) openPlayer(other, list); else film.seek(seconds); };
  useKeys({
    space: () => film.toggle(), arrowleft: () => film.seek(film.now - 1), arrowright: () => film.seek(film.now + 1),
    ",": () => film.step(-FRAME_SECONDS), ".": () => film.step(FRAME_SECONDS), "<": () => film.faster(-1), ">": () => film.faster(1),
    o: () => film.setLoop(!film.loop), "[": () => bound(0), "]": () => bound(1), f: find,
    "shift+l": () => prefs.patch({ muted: !muted }),
    escape: () => { if (!stretch) return false; setStretch(null); return true; },
  });
  return html`<div class="film"><div class="stage">
      ${video.has_video ? html`<video ref=${film.element} src=${film.source} playsinline preload="auto" onClick=${() => film.toggle()} ...${film.handlers} />`
        : html`<audio ref=${film.element} src=${film.source} preload="auto" ...${film.handlers} /><div class="only-sound"><${Strip} row=${row} sound still /></div>`}
      ${film.problem && html`<p class="notice">${film.problem}${video.why_not ? ` ${video.why_not}` : ""}</p>`}
    </div>
    <div class="controls" role="toolbar" aria-label="Playing">
      <${IconButton} icon=${film.playing ? "pause" : "play"} label=${film.playing ? "Pause" : "Play"} keys="Space" class="big" onClick=${() => film.toggle()} />
      <${IconButton} icon="back" label="A frame back" keys="," onClick=${() => film.step(-FRAME_SECONDS)} />
      <${IconButton} icon="on" label="A frame on" keys="." onClick=${() => film.step(FRAME_SECONDS)} />
      ${segment && html`<${IconButton} icon="loop" label="Loop the segment" keys="o" pressed=${film.loop} onClick=${() => film.setLoop(!film.loop)} />`}
      <label class="speed"><span class="unseen">Speed</span><select value=${film.speed} onChange=${(event) => film.setSpeed(Number(event.currentTarget.value))}>
        ${SPEEDS.map((value) => html`<option key=${value} value=${value} selected=${value === film.speed}>${value}×</option>`)}</select></label>
      <span class="clock">${clock(film.now, 1)}<span class="quiet"> / ${clock((video.start ?? 0) + video.seconds, 1)}</span></span>
      <span class="end"></span>
      <${IconButton} icon=${muted ? "muted" : "sound"} label=${muted ? "Sound on" : "Sound off"} keys="Shift L" onClick=${() => prefs.patch({ muted: !muted })} />
      <input type="range" class="volume" min="0" max="100" value=${volume * 100} aria-label="Volume" onInput=${(event) => prefs.patch({ volume: Number(event.currentTarget.value) / 100, muted: false })} />
    </div>
    <${Detail} video=${video} window=${part} segment=${segment} stretch=${stretch} now=${film.now} onSeek=${(seconds) => film.seek(seconds)} onStretch=${setStretch} />
    <${Overview} video=${video} window=${part} now=${film.now} current=${row} onPick=${onRow} />
    ${stretch && html`<p class="stretch-tools"><strong>${clock(stretch[0], 1)} – ${clock(stretch[1], 1)}</strong>
      <button type="button" class="button main" onClick=${find}><${Icon} name="search" size=${17} />Search this stretch</button>
      <button type="button" class="plain" onClick=${() => setStretch(null)}>Forget it</button></p>`}
  </div>`;
}

function About({ segment, change, onMove, readOnly }) {
  const place = list.indexOf(segment.row);
  const cluster = useCluster(segment.cluster);
  const state = segment.rejected ? "rejected" : segment.confirmed ? "confirmed" : "open";
  return html`<div class="about-head" style=${toneOf(cluster)}>
    <a class="chip tone" href=${link("cluster", segment.cluster)}><span class="dot"></span>${clusterName(cluster ?? { id: segment.cluster, name: segment.name })}</a>
    <p class="quiet">${clock(segment.start, 1)} – ${clock(segment.end, 1)}${" · "}confidence ${percent(segment.confidence)}${segment.doubt !== null && html` · <span
      class="together" title=${DOUBT}>doubt ${percent(Math.max(0, Math.min(1, segment.doubt)))}</span>`}${" · "}<span class=${`state ${state}`}>${state}</span></p>
    ${segment.doubtful && html`<p class="state doubtful">May belong to no kind${readOnly ? "" : ": confirm, move or reject it"}</p>`}
    <p class="buttons">${!readOnly && html`<button type="button" class="button" title="Confirm (y)" onClick=${change(confirm)} disabled=${segment.confirmed || segment.rejected}><${Icon} name="check" size=${17} />Confirm</button>
      <button type="button" class="button" title="Move (v)" onClick=${onMove}><${Icon} name="move" size=${17} />Move</button>
      <button type="button" class="button" title="Reject (x)" onClick=${change(rejectOrRestore)}><${Icon} name=${segment.rejected ? "restore" : "close"} size=${17} />${segment.rejected ? "Restore" : "Reject"}</button>`}
      ${place >= 0 && list.length > 1 && html`<span class="pages"><${IconButton} icon="left" label="Previous segment" keys="k" disabled=${place === 0} onClick=${() => nextBy(segment.row, -1)} />
        <span class="quiet">${place + 1} / ${list.length}</span><${IconButton} icon="right" label="Next segment" keys="j" disabled=${place === list.length - 1} onClick=${() => nextBy(segment.row, 1)} /></span>`}</p></div>`;
}

/** What is like the segment, as small pictures that lead on. */
function Alike({ segment }) {
  const [how, setHow] = useState({ how: segment.has_video && segment.has_audio ? "both" : segment.has_video ? "sight" : "sound", weight: 0.5, from: "" });
  const [answer, setAnswer] = useState(null);
  const generation = useStore(session, (s) => s.generation);
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      call("/api/search", { method: "POST", params: { by: session.get().by }, body: { generation, row: segment.row, k: 12, ...howBody(how) }, signal: abort.signal })
        .then((found) => setAnswer({ ...found, hits: found.hits.filter((hit) => hit.row !== segment.row) }))
        .catch((error) => { if (error.name !== "AbortError" && !(error instanceof LostError)) setAnswer({ hits: [], problem: error.message }); });
    }, 150);
    return () => { clearTimeout(timer); abort.abort(); };
  }, [segment.row, how]);
  const open = (row) => openPlayer(row, answer.hits.map((hit) => hit.row));
  const params = { row: segment.row, how: how.how, w: how.weight === 0.5 ? "" : how.weight, from: how.from };
  return html`<section class="alike" aria-label="More like this"><header><h3>More like this</h3><a href=${link("search", null, params)}>All</a></header>
    <${How} ...${how} streams=${{ video: segment.has_video, audio: segment.has_audio }} onChange=${(part) => setHow({ ...how, ...part })} />
    ${answer?.problem && html`<p class="note">${answer.problem}</p>`}
    ${answer?.nothing_like_it && html`<p class="note">Nothing much like it here; the nearest are:</p>`}
    <ul class="hits">${(answer?.hits ?? []).map((hit) => html`<li key=${hit.row}><${SmallHit} hit=${hit} onOpen=${open} /></li>`)}</ul></section>`;
}

function SmallHit({ hit, onOpen }) {
  const segment = useSegment(hit.row);
  const cluster = useCluster(segment?.cluster);
  return html`<button type="button" class="hit" style=${toneOf(cluster)} onClick=${() => onOpen(hit.row)}
    aria-label=${segment ? `${segment.title}, ${clusterName(cluster)}, score ${percent(hit.score)}` : "loading"} title=${segment?.title}>
    <${Strip} row=${hit.row} sound=${segment ? !segment.has_video : false} /><span class="score">${percent(hit.score)}</span><span class="line" style=${{ "--share": "1" }}></span></button>`;
}

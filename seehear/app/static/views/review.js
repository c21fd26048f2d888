/** @file Review: one segment at a time, one key an answer, the least certain first. */

import { call, LostError } from "../api.js";
import { edit } from "../edits.js";
import { clusterName, fileName, percent, plural, thousands } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { link, setParams } from "../route.js";
import { useSegment } from "../segments.js";
import { session, useCluster } from "../session.js";
import { useStore } from "../store.js";
import { toast } from "../toasts.js";
import { Empty, toneOf } from "../components/basics.js";
import { around, useFilm } from "../components/film.js";
import { Icon, IconButton } from "../components/icons.js";
import { ClusterPicker } from "../components/picker.js";
import { Strip } from "../components/strip.js";

const BATCH = 20;

/** Questions from the server, without those whose answers are on their way or that were skipped. */
function useQuestions(cluster) {
  const { by, revision, generation, epoch } = useStore(session);
  const [found, setFound] = useState(null);
  const [skipped, setSkipped] = useState(() => new Set());
  const answered = useRef(new Map()); // row -> "sent" | "kept"
  const [, again] = useState(0);
  useEffect(() => {
    if (!generation) return undefined;
    const abort = new AbortController();
    const kept = [...answered.current].filter(([, state]) => state === "kept").map(([row]) => row);
    call("/api/review", { params: { by, cluster, limit: Math.min(500, BATCH + skipped.size) }, signal: abort.signal }).then((answer) => {
      for (const row of kept) answered.current.delete(row); // this answer knows of them
      setFound(answer);
    }).catch((error) => { if (error.name !== "AbortError" && !(error instanceof LostError)) toast(error.message, { bad: true }); });
    return () => abort.abort();
  }, [by, cluster, revision, generation, epoch, skipped]);
  const left = (found?.questions ?? []).filter((q) => !answered.current.has(q.row) && !skipped.has(q.row));
  return {
    found, left,
    skip: (row) => setSkipped((old) => new Set([...old, row])),
    forgetSkipped: () => setSkipped(new Set()),
    skipped: skipped.size,
    answer(row, details) {
      answered.current.set(row, "sent");
      again((n) => n + 1);
      edit("answer", { row, ...details }, { quiet: true }).then((kept) => {
        if (kept) answered.current.set(row, "kept"); else answered.current.delete(row);
        again((n) => n + 1);
      });
    },
  };
}

export function ReviewView({ params }) {
  const { byId, run } = useStore(session);
  const cluster = params.cluster ?? "";
  const { found, left, skip, forgetSkipped, skipped, answer } = useQuestions(cluster);
  const [count, setCount] = useState(0);
  const [effect, setEffect] = useState("");
  const [busy, setBusy] = useState(false);
  const [picking, setPicking] = useState(false);
  const current = useRef(null);
  // The one asked stays the one asked when the list behind it changes.
  const question = left.find((q) => q.row === current.current) ?? left[0] ?? null;
  current.current = question?.row ?? null;
  const say = (details) => { if (question) { setEffect(""); setCount((n) => n + 1); answer(question.row, details); } };
  const yes = () => say({ cluster: question?.cluster, yes: true });
  const no = () => say({ cluster: question?.cluster, yes: false });
  const other = (index) => () => { const one = question?.others[index]; if (!one) return false; say({ cluster: one.cluster, yes: true }); return true; };
  const onSkip = () => question && skip(question.row);
  const readOnly = run?.read_only;
  useKeys(readOnly ? {} : {
    y: yes, n: no, s: onSkip, arrowright: onSkip, v: () => setPicking(true),
    ...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [String(i + 1), other(i)])),
  });
  const propagate = async () => {
    setBusy(true);
    const done = await edit("propagate", {}, { quiet: true });
    setBusy(false);
    if (done) setEffect(done.edit.text);
  };
  const unsure = found?.unsure ?? 0, answers = found?.answered ?? 0;
  const one = cluster ? byId.get(cluster) : null;
  return html`<div class="view-head review-head"><h1>Review</h1>
      <p class="quiet">${found ? html`${plural(answers, "answer")} so far · ${thousands(unsure)} unsure${one ? html` · only <b>${clusterName(one)}</b> ` : ""}` : "Loading …"}
      ${one && html`<button type="button" class="plain" onClick=${() => setParams({ cluster: "" })}>Ask about all</button>`}</p></div>
    ${found && html`<div class="progress" role="progressbar" aria-label="Answered" aria-valuemin="0" aria-valuemax=${answers + unsure} aria-valuenow=${answers}>
      <span style=${{ "--share": String(answers / Math.max(1, answers + unsure)) }} /></div>`}
    <div class="review">
      ${question ? html`<${Asked} key=${question.row} question=${question} yes=${yes} no=${no} other=${other} onSkip=${onSkip} onPick=${() => setPicking(true)} readOnly=${readOnly} />`
        : found && html`<${Empty} title=${skipped ? "Only those that you skipped are left" : "Nothing is left to ask"}>
          ${skipped > 0 ? html`<button type="button" class="button" onClick=${forgetSkipped}>Ask about ${skipped === 1 ? "it" : `those ${skipped}`} again</button>`
            : html`<a href=${link("clusters")}>Back to the clusters</a>`}<//>`}
      <aside class="review-side">
        ${!readOnly && html`<section class="panel"><h2>Propagate</h2><p class="note">Carry what you have said so far over to the segments that are alike. Undo takes all of it back.</p>
          <p><button type="button" class="button main" disabled=${!answers || busy} onClick=${propagate}>${busy ? "Working …" : answers ? `Propagate ${plural(answers, "answer")}` : "Answer a few first"}</button></p>
          ${effect && html`<p class="effect" role="status">${effect[0].toUpperCase() + effect.slice(1)}.</p>`}</section>`}
        <section class="panel coming"><h2>Coming up</h2><ul>${left.filter((q) => q !== question).slice(0, 6).map((q) => html`<li key=${q.row}><${Strip} row=${q.row} still /></li>`)}</ul>
        ${count > 0 && html`<p class="note">${plural(count, "answer")} on this visit.</p>`}</section></aside></div>
    ${picking && question && html`<${ClusterPicker} title="What is it?" without=${[question.cluster]} onClose=${() => setPicking(false)}
      onPick=${(choice) => { setPicking(false); say({ cluster: choice.id, yes: true }); }} />`}`;
}

function Asked({ question, yes, no, other, onSkip, onPick, readOnly }) {
  const segment = useSegment(question.row);
  const cluster = useCluster(question.cluster);
  const byId = useStore(session, (s) => s.byId);
  const by = useStore(session, (s) => s.by);
  const [video, setVideo] = useState(null);
  useEffect(() => {
    if (!segment) return undefined;
    const abort = new AbortController();
    call(`/api/videos/${encodeURIComponent(segment.video)}`, { params: { by }, signal: abort.signal }).then(setVideo).catch(() => {});
    return () => abort.abort();
  }, [segment?.video]);
  const part = useMemo(() => (video && segment ? around(video, segment) : [0, 1]), [video, segment?.row]);
  const film = useFilm(video, segment, part);
  useKeys({ space: () => film.toggle() });
  const name = cluster?.name || question.name;
  return html`<section class="asked" style=${toneOf(cluster)} aria-label="Question">
    <div class="stage">${video && segment ? video.has_video
      ? html`<video ref=${film.element} src=${film.source} playsinline onClick=${() => film.toggle()} ...${film.handlers} />`
      : html`<audio ref=${film.element} src=${film.source} ...${film.handlers} /><div class="only-sound"><${Strip} row=${question.row} sound still /></div>`
      : html`<div class="only-sound"><${Strip} row=${question.row} still /></div>`}
      ${video && html`<${IconButton} icon=${film.playing ? "pause" : "play"} label=${film.playing ? "Pause" : "Play"} keys="Space" class="over" onClick=${() => film.toggle()} />`}</div>
    <p class="ask"><span>${name ? "Is this " : "Does this belong to "}<b class="tone-text">${name || `cluster ${question.cluster}`}</b>?</span>
      <span class="quiet"> ${percent(question.probability)} likely${segment ? ` · ${fileName(segment.title)}` : ""}</span></p>
    ${cluster && cluster.exemplars.length > 0 && html`<div class="like" aria-hidden="true">${cluster.exemplars.slice(0, 5).map((row) => html`<span key=${row}><${Strip} row=${row} /></span>`)}<span class="quiet">its examples</span></div>`}
    ${!readOnly && html`<div class="answers"><button type="button" class="answer-yes" onClick=${yes}><${Icon} name="check" />Yes<kbd>y</kbd></button>
      <button type="button" class="answer-no" onClick=${no}><${Icon} name="close" />No<kbd>n</kbd></button>
      <button type="button" class="button" onClick=${onSkip}>Skip<kbd>s</kbd></button></div>
    <p class="unseen" id="others">It is another</p><div class="others" role="group" aria-labelledby="others">${question.others.slice(0, 9).map((o, index) => html`<button type="button" key=${o.cluster} class="chip tone" style=${toneOf(byId.get(o.cluster))}
      onClick=${other(index)}><kbd>${index + 1}</kbd><span class="dot"></span>${clusterName(byId.get(o.cluster) ?? { id: o.cluster, name: o.name })}<span class="quiet">${percent(o.probability)}</span></button>`)}
      <button type="button" class="chip" onClick=${onPick}><kbd>v</kbd>Another …</button></div>`}</section>`;
}

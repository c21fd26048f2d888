/** @file All videos, each with a line of time in the colours of the clusters of its segments. */

import { call, LostError } from "../api.js";
import { duration, plural } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { link, setParams } from "../route.js";
import { session } from "../session.js";
import { useStore } from "../store.js";
import { toast } from "../toasts.js";
import { Empty, TextFilter } from "../components/basics.js";
import { Strip } from "../components/strip.js";
import { Overview } from "../components/timeline.js";
import { openPlayer, watchVideo } from "./player.js";

const PAGE = 60;

export function VideosView({ params }) {
  const { text = "" } = params;
  const { generation, epoch } = useStore(session);
  const [state, setState] = useState({ key: null, total: 0, videos: [] });
  const [wanted, setWanted] = useState(PAGE);
  const foot = useRef(null);
  useEffect(() => { setWanted(PAGE); }, [text]);
  useEffect(() => {
    if (!generation) return undefined;
    const abort = new AbortController();
    const offset = state.key === text ? state.videos.length : 0;
    if (state.key === text && (offset >= wanted || offset >= state.total)) return undefined;
    call("/api/videos", { params: { text, offset, limit: wanted - offset }, signal: abort.signal })
      .then((answer) => setState((old) => ({ key: text, total: answer.total, videos: [...(offset ? old.videos : []), ...answer.videos] })))
      .catch((error) => { if (error.name !== "AbortError" && !(error instanceof LostError)) toast(error.message, { bad: true }); });
    return () => abort.abort();
  }, [text, wanted, generation, epoch]);
  useEffect(() => {
    const observer = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) setWanted((n) => Math.min(n, state.videos.length) + PAGE); }, { rootMargin: "600px" });
    observer.observe(foot.current);
    return () => observer.disconnect();
  }, [state.videos.length]);
  return html`<div class="view-head"><h1>Videos</h1><p class="quiet">${state.key === null ? "Loading …" : plural(state.total, "video")}${text ? ` with “${text}”` : ""}</p></div>
    <div class="tools"><${TextFilter} label="Find in file names" value=${text} onChange=${(value) => setParams({ text: value })} /></div>
    <ul class="videos">${state.videos.map((video) => html`<${VideoLine} key=${video.video} video=${video} />`)}</ul>
    ${state.key !== null && !state.videos.length && html`<${Empty} title="No video is called that" />`}
    <div ref=${foot} class="foot" />`;
}

/** A video; its segments are asked for when it comes into sight. */
function VideoLine({ video }) {
  const element = useRef(null);
  const [seen, setSeen] = useState(false);
  const [full, setFull] = useState(null);
  const { by, revision, epoch } = useStore(session);
  useEffect(() => {
    const observer = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) { setSeen(true); observer.disconnect(); } }, { rootMargin: "200px" });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!seen) return undefined;
    const abort = new AbortController();
    call(`/api/videos/${encodeURIComponent(video.video)}`, { params: { by }, signal: abort.signal }).then(setFull).catch(() => {});
    return () => abort.abort();
  }, [seen, by, revision, epoch]);
  const rows = full?.segments.map((segment) => segment.row) ?? [];
  const open = (row) => (row === undefined || row === null ? watchVideo(video.video) : openPlayer(row, rows));
  return html`<li ref=${element} class="video-line"><button type="button" class="picture" onClick=${() => open(rows[0])} aria-label=${`Play ${video.title}`}>
      <${Strip} row=${rows[0] ?? null} sound=${full ? !full.has_video : false} /></button>
    <div class="video-facts"><p><b>${video.title}</b><span class="quiet">${duration(video.seconds)} · <a href=${link("segments", null, { video: video.video })}>${plural(video.segments, "segment")}</a></span></p>
    ${full ? html`<${Overview} video=${full} high=${22} onPick=${(seconds, row) => (row === null ? watchVideo(video.video, seconds.toFixed(2)) : open(row))} />` : html`<div class="overview empty-line" />`}</div></li>`;
}

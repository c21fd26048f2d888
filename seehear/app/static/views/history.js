/** @file Everything that was changed, by whom and when; what can be taken back. */

import { call, LostError } from "../api.js";
import { redo, undo } from "../edits.js";
import { ago, plural } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { session } from "../session.js";
import { useStore } from "../store.js";
import { toast } from "../toasts.js";
import { Empty } from "../components/basics.js";
import { Icon } from "../components/icons.js";

const ICONS = { name: "pencil", merge: "merge", split: "split", move: "move", reject: "close", restore: "restore", answer: "check", propagate: "alike", undo: "undo", redo: "redo" };
const STEP = 200;

export function HistoryView() {
  const { by, revision, generation, epoch, undo: last, redo: next, run } = useStore(session);
  const [edits, setEdits] = useState(null);
  const [limit, setLimit] = useState(STEP);
  useEffect(() => {
    if (!generation) return undefined;
    const abort = new AbortController();
    call("/api/edits", { params: { by, limit }, signal: abort.signal }).then((answer) => setEdits(answer.edits))
      .catch((error) => { if (error.name !== "AbortError" && !(error instanceof LostError)) toast(error.message, { bad: true }); });
    return () => abort.abort();
  }, [by, revision, generation, epoch, limit]);
  return html`<div class="view-head"><h1>History</h1><p class="quiet">${edits ? plural(edits.length, "edit") : "Loading …"}${edits?.length === limit ? " (the last ones)" : ""}</p></div>
    ${run && !run.read_only && html`<p class="tools"><button type="button" class="button" disabled=${!last} onClick=${undo}><${Icon} name="undo" size=${17} />Undo${last ? html`<span class="quiet"> ${last.text}</span>` : ""}</button>
      <button type="button" class="button" disabled=${!next} onClick=${redo}><${Icon} name="redo" size=${17} />Redo${next ? html`<span class="quiet"> ${next.text}</span>` : ""}</button></p>`}
    <ol class="history">${(edits ?? []).map((one) => html`<li key=${one.id} class=${one.active ? "" : "taken-back"}><span class="kind"><${Icon} name=${ICONS[one.kind] ?? "check"} size=${16} /></span>
      <span class="what">${one.text}</span><span class="quiet who">${one.author}</span><time class="quiet" datetime=${one.when} title=${one.when}>${ago(one.when)}</time>
      ${!one.active && html`<span class="unseen">taken back</span>`}</li>`)}</ol>
    ${edits?.length === limit && limit < 1000 && html`<p><button type="button" class="button" onClick=${() => setLimit(Math.min(1000, limit + STEP))}>Show more</button></p>`}
    ${edits && !edits.length && html`<${Empty} title="Nothing has been changed yet">Names, moves, answers: whatever you do is listed here and can be taken back.<//>`}`;
}

/** @file What is around every view: the bar, the banners, the messages, the sheet of keys. */

import { connection } from "../api.js";
import { redo, send, undo, waiting } from "../edits.js";
import { WAYS, plural } from "../format.js";
import { html, useState } from "../html.js";
import { KEYS, useKeys } from "../keys.js";
import { prefs } from "../prefs.js";
import { go, link, setParams } from "../route.js";
import { look, session } from "../session.js";
import { useStore } from "../store.js";
import { dismiss, toast, toasts } from "../toasts.js";
import { Choice } from "./basics.js";
import { Dialog } from "./dialog.js";
import { Icon, IconButton } from "./icons.js";

const PLACES = [["clusters", "Clusters"], ["map", "Map"], ["review", "Review"], ["search", "Search"], ["videos", "Videos"], ["history", "History"]];
const THEMES = { auto: "light", light: "dark", dark: "auto" };

/** The bar at the top (and, on a phone, the one at the bottom). */
export function TopBar({ view }) {
  const { run, by, undo: last, redo: next } = useStore(session);
  const { theme, muted, moving } = useStore(prefs);
  const [help, setHelp] = useState(false);
  const pending = useStore(waiting);
  const setBy = (value) => setParams({ by: value === run.by ? "" : value });
  const place = (name) => () => go(name);
  const labelling = (index) => () => { const name = run?.labellings[index]; if (!name) return false; setBy(name); return true; };
  useKeys({
    "?": () => setHelp(true), "g c": place("clusters"), "g m": place("map"), "g r": place("review"), "g s": place("search"),
    "g v": place("videos"), "g a": place("segments"), "g h": place("history"), "mod+z": () => { undo(); }, "mod+shift+z": () => { redo(); },
    "mod+y": () => { redo(); }, ".": () => toggleMoving(), "shift+l": () => toggleMuted(), 1: labelling(0), 2: labelling(1), 3: labelling(2),
    "/": () => {
      const field = document.querySelector("main [data-find]");
      if (field) { field.focus(); field.select?.(); } else go("search");
    },
  });
  const here = view === "cluster" || view === "segments" ? "clusters" : view;
  const links = (kind) => html`<nav class=${kind} aria-label=${kind === "tabs" ? "Views" : "Views, at the bottom"}>${PLACES.map(([name, text]) => html`<a
    key=${name} href=${link(name)} aria-current=${here === name ? "page" : undefined}><${Icon} name=${name} size=${kind === "tabs" ? 17 : 21} /><span>${text}</span></a>`)}</nav>`;
  return html`<header class="bar"><a class="brand" href=${link("clusters")} title="All clusters"><span class="mark" aria-hidden="true"></span><span>${run?.name ?? "seehear"}</span></a>
    ${links("tabs")}
    <div class="bar-tools">
      ${run && run.labellings.length > 1 && html`<${Choice} label="Group by" class="ways" value=${by} onChange=${setBy}
        options=${run.labellings.map((name) => ({ value: name, text: WAYS[name] ?? name, hint: `Clusters by ${(WAYS[name] ?? name).toLowerCase()}` }))} />`}
      ${pending > 0 && html`<span class="pending" title="Edits that wait for the server">${pending}</span>`}
      ${run && !run.read_only && html`<${IconButton} icon="undo" label=${last ? `Undo: ${last.text}` : "Nothing to undo"} keys="Ctrl Z" disabled=${!last} onClick=${undo} />
      <${IconButton} icon="redo" label=${next ? `Redo: ${next.text}` : "Nothing to redo"} keys="Ctrl Shift Z" disabled=${!next} class="redo" onClick=${redo} />`}
      <${IconButton} icon=${moving ? "pause" : "play"} label=${moving ? "Hold the pictures still" : "Let the pictures move"} keys="." class="wide-only" onClick=${toggleMoving} />
      <${IconButton} icon=${muted ? "muted" : "sound"} label=${muted ? "Sound on hover is off: turn it on" : "Sound on hover is on: turn it off"} keys="Shift L" onClick=${toggleMuted} />
      <${IconButton} icon=${theme} label=${{ auto: "As bright as the system: go light", light: "Light: go dark", dark: "Dark: as the system" }[theme]} onClick=${() => prefs.patch({ theme: THEMES[theme] })} />
      <${IconButton} icon="help" label="Keys" keys="?" class="wide-only" onClick=${() => setHelp(true)} /></div></header>
    ${links("dock")}
    ${help && html`<${KeySheet} onClose=${() => setHelp(false)} />`}`;
}

function toggleMoving() { prefs.patch({ moving: !prefs.get().moving }); }

function toggleMuted() {
  prefs.patch({ muted: !prefs.get().muted });
  toast(prefs.get().muted ? "Pictures are silent when you point at them." : "Pictures are heard when you point at them.", { seconds: 3 });
}

/** What stands in the way: a lost server, a rebuilt index. */
export function Banners() {
  const { lost, token } = useStore(connection);
  const { outdated, failed, run } = useStore(session);
  const pending = useStore(waiting);
  const kept = pending ? ` ${plural(pending, "edit")} of yours ${pending === 1 ? "waits" : "wait"} here and will be sent.` : "";
  return html`<div class="banners" role="status">
    ${lost && html`<p class="banner bad"><span class="pulse" aria-hidden="true"></span>The server does not answer. Trying again …${kept}
      <button type="button" class="plain" onClick=${() => look().then(send)}>Try now</button></p>`}
    ${!lost && token && html`<p class="banner bad">The server was started anew and does not know this page: open the address that it printed.${kept}</p>`}
    ${!lost && outdated && html`<p class="banner">The index was rebuilt; what is shown here is from before.
      <button type="button" class="button" onClick=${() => location.reload()}>Load anew</button></p>`}
    ${!lost && !token && failed && html`<p class="banner bad">${failed} <button type="button" class="plain" onClick=${() => location.reload()}>Load anew</button></p>`}
    ${run?.read_only && html`<p class="banner">This run can only be looked at: edits are off.</p>`}</div>`;
}

/** Messages at the lower edge; a live region, so that they are heard as well. */
export function Toasts() {
  const shown = useStore(toasts);
  return html`<div class="toasts" role="status" aria-live="polite">${shown.map((one) => html`<div key=${one.key} class=${`toast ${one.bad ? "bad" : ""}`}>
    <span>${one.text}</span>${one.undo && html`<button type="button" onClick=${() => { dismiss(one.key); undo(); }}>Undo</button>`}
    <${IconButton} icon="close" label="Dismiss" onClick=${() => dismiss(one.key)} /></div>`)}</div>`;
}

function KeySheet({ onClose }) {
  return html`<${Dialog} title="Keys" onClose=${onClose} class="keys"><div class="key-groups">${KEYS.map(([where, keys]) => html`<section key=${where}>
    <h3>${where}</h3><dl>${keys.map(([key, what]) => html`<div key=${key}><dt>${key.split(" ").map((part, i) => (/^(and|or|to|then|those|on|the|map,)$/.test(part)
      ? html`<span key=${i}> ${part} </span>` : html`<kbd key=${i}>${part}</kbd>`))}</dt><dd>${what}</dd></div>`)}</dl></section>`)}</div><//>`;
}

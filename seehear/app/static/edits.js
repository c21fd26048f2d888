/** @file Edits on their way to the server. None is lost: what was not answered is kept, and sent again. */

import { ApiError, LostError, call } from "./api.js";
import { refresh, session } from "./session.js";
import { createStore } from "./store.js";
import { toast } from "./toasts.js";

const KEY = "seehear.unsent";
const RETRY_MS = 1500;

/** Edits that make something else when they are made twice: before sending one again we ask whether it arrived. */
const notTwice = ({ kind, ...details }) => ["merge", "split", "undo", "redo", "propagate"].includes(kind) || details.new === true;

/** How many edits wait for the server. */
export const waiting = createStore(0);

const promises = new Map();

function readQueue() {
  try { return JSON.parse(localStorage.getItem(KEY) || "[]"); } catch { return []; }
}

function writeQueue(change) {
  const queue = change(readQueue());
  try { localStorage.setItem(KEY, JSON.stringify(queue)); } catch { memory = queue; }
  waiting.set(queue.length);
  return queue;
}

let memory = null; // where localStorage is refused or full
const queued = () => memory ?? readQueue();

/**
 * Make an edit. It is kept in localStorage until the server has answered, so that neither a lost server nor a closed
 * page loses it.
 * @param {string} kind name, merge, split, move, reject, restore, answer, propagate, undo, redo
 * @param {Object} details what the kind needs
 * @param {{quiet?: boolean}} options quiet: say nothing when it is done
 * @returns {Promise<Object|null>} the server's answer, or null where it refused (which has been said)
 */
export function edit(kind, details = {}, { quiet = false } = {}) {
  const { by, generation, revision } = session.get();
  const entry = { key: key(), by, revision, quiet, tried: false, body: { generation, kind, ...details } };
  const answered = {};
  answered.promise = new Promise((resolve) => { answered.resolve = resolve; });
  promises.set(entry.key, answered);
  const add = (queue) => [...queue, entry];
  if (memory) { memory = add(memory); waiting.set(memory.length); } else writeQueue(add);
  send();
  return answered.promise;
}

// crypto.randomUUID is there in secure contexts only, and http://192.168... is none
const key = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

/** When this page's edits have been answered: what can be undone is known only then. */
const settled = () => Promise.all([...promises.values()].map((one) => one.promise));

/** Take back the last edit, if it is still the one shown. */
export const undo = () => step("undo");

/** Do again what was undone last. */
export const redo = () => step("redo");

async function step(kind) {
  await settled();
  const last = session.get()[kind];
  if (last) return edit(kind, { expected: last.id });
  toast(`There is nothing to ${kind}.`);
  return null;
}

let sending = false, timer = 0;

/** Send what waits, in order, one tab at a time. */
export async function send() {
  if (sending) return;
  sending = true;
  clearTimeout(timer);
  try {
    if (navigator.locks) await navigator.locks.request(KEY, sendAll); else await sendAll();
  } catch (error) {
    if (!(error instanceof LostError)) throw error;
    timer = setTimeout(send, RETRY_MS);
  } finally {
    sending = false;
    // one that was added while the last one was being answered
    if (queued().length && !timer) timer = setTimeout(send, 0);
  }
}

async function sendAll() {
  timer = 0;
  for (let queue = queued(); queue.length; queue = queued()) {
    const [entry] = queue;
    let answer = null;
    try {
      if (entry.tried && notTwice(entry.body) && await arrived(entry)) {
        toast("The last edit had reached the server before the connection was lost.");
      } else {
        mark(entry);
        answer = await call("/api/edits", { method: "POST", params: { by: entry.by }, body: entry.body });
      }
    } catch (error) {
      if (!(error instanceof ApiError) || error.status >= 502 || error.status === 401) throw new LostError();
      toast(said(error), { bad: true });
    }
    drop(entry);
    if (answer) {
      session.patch({ undo: answer.undo, redo: answer.redo });
      if (!entry.quiet) toast(sentence(answer.edit?.text), { undo: answer.undo?.id });
    }
    await refresh(); // first, so that whoever waits for the edit finds the page as it is after it
    promises.get(entry.key)?.resolve(answer);
    promises.delete(entry.key);
  }
}

function said(error) {
  if (error.kind === "generation") return "The index was rebuilt since this page was loaded, so the edit was not made.";
  return [error.message, error.remedy].filter(Boolean).join(" ");
}

const sentence = (text) => text ? text[0].toUpperCase() + text.slice(1) : "Done";

function mark(entry) {
  const change = (queue) => queue.map((e) => (e.key === entry.key ? { ...e, tried: true } : e));
  if (memory) memory = change(memory); else writeQueue(change);
}

function drop(entry) {
  const change = (queue) => queue.filter((e) => e.key !== entry.key);
  if (memory) { memory = change(memory); waiting.set(memory.length); } else writeQueue(change);
}

/** Whether an edit whose answer was lost is among those the server has kept since. */
async function arrived(entry) {
  const { edits } = await call("/api/edits", { params: { by: entry.by, limit: 20 } });
  return edits.some((e) => e.revision > entry.revision && e.kind === entry.body.kind);
}

addEventListener("seehear:found", () => send());
addEventListener("storage", (event) => { if (event.key === KEY) waiting.set(queued().length); });

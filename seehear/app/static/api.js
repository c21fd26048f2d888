/** @file The server's HTTP API: every request of the page goes through here, and none goes elsewhere. */

import { createStore } from "./store.js";

/** The server understood and refused; `kind` says why in one word. */
export class ApiError extends Error {
  constructor(status, { detail, kind, remedy } = {}) {
    super(typeof detail === "string" && detail ? detail : `The server answered with error ${status}.`);
    this.status = status;
    this.kind = kind || "";
    this.remedy = typeof remedy === "string" ? remedy : "";
  }
}

/** The server did not answer at all. */
export class LostError extends Error {
  constructor() { super("The server does not answer."); }
}

/** lost: it does not answer; token: it does not know us any more. */
export const connection = createStore({ lost: false, token: false });

/**
 * Ask the server.
 * @param {string} path below the root, beginning with a slash
 * @param {{method?: string, params?: Object, body?: any, raw?: Blob, signal?: AbortSignal}} options body goes as JSON,
 *   raw as it is; empty params are left out
 * @returns {Promise<any>} the JSON of the answer
 * @throws {ApiError|LostError} an aborted request throws what fetch does, an AbortError
 */
export async function call(path, { method = "GET", params = {}, body, raw, signal } = {}) {
  let response;
  try {
    response = await fetch(withParams(path, params), {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    connection.patch({ lost: true });
    throw new LostError();
  }
  if (connection.get().lost) connection.patch({ lost: false });
  let said;
  try {
    said = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // Half of an answer is none; what refuses may say so without JSON.
    if (response.ok) throw new LostError();
    said = {};
  }
  if (response.ok) {
    if (connection.get().token) connection.patch({ token: false });
    return said;
  }
  if (response.status === 401) connection.patch({ token: true });
  throw new ApiError(response.status, said);
}

/** A path with its query; members that are empty are left out. */
export function withParams(path, params) {
  const kept = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return kept.length ? `${path}?${new URLSearchParams(kept.map(([n, v]) => [n, String(v)]))}` : path;
}

/** Addresses of pictures, sound and video. `generation` is in them so that a rebuilt index never shows old pictures. */
export const media = {
  strip: (row, generation) => withParams(`/media/segments/${row}/strip.jpg`, { generation }),
  sound: (row, generation) => withParams(`/media/segments/${row}/sound.m4a`, { generation }),
  picture: (row, generation) => withParams(`/media/segments/${row}/spectrogram.png`, { generation }),
  video: (video) => `/media/videos/${encodeURIComponent(video)}`,
  stretch: (video, start, end) => withParams(`/media/videos/${encodeURIComponent(video)}/stretch`, { start, end }),
  wave: (video, start, end) => withParams(`/media/videos/${encodeURIComponent(video)}/wave.json`, { start, end }),
  spectrogram: (video, start, end) =>
    withParams(`/media/videos/${encodeURIComponent(video)}/spectrogram.png`, { start, end }),
};

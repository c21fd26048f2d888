/** @file Numbers, times and counts as people read them. */

/** A whole number with its thousands parted. */
export const thousands = (value) => value.toLocaleString("en-GB");

/** `1 segment`, `2 segments`. */
export const plural = (count, word) => `${thousands(count)} ${word}${count === 1 ? "" : "s"}`;

/** A share as a whole percentage; what is nearly all or nearly nothing is not rounded up to it. */
export function percent(share) {
  const rounded = Math.round(share * 100);
  return `${share < 1 && rounded === 100 ? 99 : share > 0 && rounded === 0 ? 1 : rounded} %`;
}

/**
 * A time within a video: 1:02:03, 2:03.4 or 0:03.4.
 * @param {number} seconds
 * @param {number} places digits after the point
 */
export function clock(seconds, places = 0) {
  const unit = 10 ** places;
  const all = Math.round(Math.max(0, seconds) * unit) / unit;
  const hours = Math.floor(all / 3600), minutes = Math.floor((all % 3600) / 60);
  const rest = (all % 60).toFixed(places).padStart(places ? places + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** How long something is, roughly: 45 s, 12 min, 3.5 h. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(seconds < 36000 ? 1 : 0)} h`;
}

/** When something was, from now: just now, 5 min ago, yesterday's date. */
export function ago(iso) {
  const then = new Date(iso), seconds = (Date.now() - then) / 1000;
  if (Number.isNaN(seconds)) return iso;
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return then.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

/** What people call a cluster: its name, or its number. */
export const clusterName = (cluster) => (!cluster || cluster.id === null ? "no cluster" : cluster.name || `cluster ${cluster.id}`);

/** The last part of a path: what people know a file by. */
export const fileName = (title) => title.slice(title.lastIndexOf("/") + 1);

/** The labelling in words. */
export const WAYS = { both: "Both", video: "Sight", audio: "Sound" };

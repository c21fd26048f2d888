/** @file The playing of a video at a segment: the element, its clock, loop, speed and steps. */

import { media } from "../api.js";
import { useEffect, useRef, useState } from "../html.js";
import { prefs } from "../prefs.js";

const COPY_SECONDS = 30; // the longest copy that the server makes
export const SPEEDS = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2];

/** The part of a video around a segment of which waveform, spectrogram and (where needed) a copy are asked for. */
export function around(video, segment, most = 16) {
  const start = video.start ?? 0, end = start + video.seconds;
  if (video.seconds <= 20) return [start, end];
  const middle = segment ? (segment.start + segment.end) / 2 : start;
  const long = Math.min(COPY_SECONDS - 0.5, Math.max(most, segment ? (segment.end - segment.start) * 2 : 0));
  const from = Math.max(start, Math.min(end - long, middle - long / 2));
  return [Math.round(from * 100) / 100, Math.round((from + long) * 100) / 100];
}

/**
 * What plays a video. Browsers that cannot play the file get a copy of the part around the segment.
 * @param {Object|null} video as /api/videos/{video} gives it
 * @param {{row: number, start: number, end: number}|null} segment where it begins, and what the loop repeats
 * @param {number[]} part the part that a copy holds
 * @param {number|null} at where to begin if there is no segment
 */
export function useFilm(video, segment, part, at = null) {
  const element = useRef(null);
  const [now, setNow] = useState(segment?.start ?? at ?? 0);
  const [playing, setPlaying] = useState(false);
  const [loop, setLoop] = useState(true);
  const [speed, setSpeedState] = useState(1);
  const [problem, setProblem] = useState("");
  const [copy, setCopy] = useState(false); // the browser said it plays this file, and then did not
  const direct = Boolean(video?.playable) && !copy;
  const offset = direct || !video ? 0 : part[0];
  const source = !video ? "" : direct ? media.video(video.video) : media.stretch(video.video, part[0], part[1]);
  const state = useRef({});
  state.current = { segment, loop, offset, speed };

  useEffect(() => { setCopy(false); setProblem(""); }, [video?.video]);

  // A new segment: go there and play.
  useEffect(() => {
    const film = element.current;
    if (!film || !source) return undefined;
    const begin = segment?.start ?? at ?? part[0];
    const goThere = () => {
      film.currentTime = Math.max(0, begin - offset);
      film.playbackRate = speed;
      film.volume = prefs.get().volume;
      film.muted = prefs.get().muted;
      // Where sound is not allowed yet, moving without it is better than standing still.
      film.play().catch((error) => { if (error.name === "NotAllowedError") { film.muted = true; film.play().catch(() => {}); } });
    };
    setNow(begin);
    if (film.readyState >= 1) { goThere(); return undefined; }
    film.addEventListener("loadedmetadata", goThere, { once: true });
    return () => film.removeEventListener("loadedmetadata", goThere);
  }, [source, segment?.row, at]);

  // The clock, finer than the element's own events, and the loop.
  useEffect(() => {
    if (!playing) return undefined;
    let frame = 0;
    const tick = () => {
      const film = element.current, { segment: part_, loop: again, offset: shift } = state.current;
      if (film) {
        const time = film.currentTime + shift;
        if (again && part_ && (time >= part_.end || time < part_.start - 0.3)) film.currentTime = Math.max(0, part_.start - shift);
        setNow(time);
      }
      frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
    return () => cancelAnimationFrame(frame);
  }, [playing]);

  const seek = (seconds, { keepLoop = false } = {}) => {
    const film = element.current;
    if (!film) return;
    film.currentTime = Math.max(0, seconds - offset);
    setNow(seconds);
    const { segment: part_ } = state.current;
    if (!keepLoop && part_ && (seconds < part_.start || seconds >= part_.end)) setLoop(false);
  };
  return {
    element, source, now, playing, loop, speed, problem, seek,
    setLoop(on) {
      setLoop(on);
      if (on && segment && (now < segment.start || now >= segment.end)) seek(segment.start, { keepLoop: true });
    },
    setSpeed(value) { setSpeedState(value); if (element.current) element.current.playbackRate = value; },
    faster(by) {
      const next = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(state.current.speed) + by))];
      this.setSpeed(next);
    },
    toggle() {
      const film = element.current;
      if (!film) return;
      if (film.paused) film.play().catch(() => {}); else film.pause();
    },
    step(seconds) { element.current?.pause(); seek(now + seconds, { keepLoop: true }); },
    handlers: {
      onPlay: () => setPlaying(true), onPause: () => setPlaying(false),
      onEnded: () => {
        const { segment: part_, loop: again, offset: shift } = state.current;
        if (again && part_ && element.current) { element.current.currentTime = Math.max(0, part_.start - shift); element.current.play().catch(() => {}); }
      },
      onSeeked: () => { if (element.current?.paused) setNow(element.current.currentTime + offset); },
      onError: () => { if (direct) setCopy(true); else if (source) setProblem("This stretch of the video can't be shown here."); },
    },
  };
}

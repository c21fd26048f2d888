/** @file The clock of all moving thumbnails: which of their eight frames is shown, there and back. */

const FRAMES = 8, STEP_MS = 210, REST_MS = 160;

/** Count frames as long as the page is open; pictures rest while people scroll, and while nobody looks. */
export function moveFrames() {
  let scrolled = 0, count = 0;
  addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true, capture: true });
  setInterval(() => {
    if (document.hidden || performance.now() - scrolled < REST_MS) return;
    count = (count + 1) % (2 * FRAMES - 2);
    document.documentElement.dataset.frame = String(count < FRAMES ? count : 2 * FRAMES - 2 - count);
  }, STEP_MS);
}

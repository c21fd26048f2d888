/** @file Dialogs: the browser's own, which hold the focus and give it back. */

import { html, useEffect, useId, useRef } from "../html.js";
import { Layer, useKeys } from "../keys.js";
import { IconButton } from "./icons.js";

let depth = 0;

/**
 * A dialog over the page.
 * @param {{title: any, onClose: Function, class?: string, children: any, wide?: boolean}} props
 */
export function Dialog({ title, onClose, class: kind = "", head, children }) {
  const element = useRef(null), label = useId(), layer = useRef(0);
  if (!layer.current) layer.current = ++depth;
  useEffect(() => {
    const dialog = element.current, before = document.activeElement;
    dialog.showModal();
    // By itself the browser would choose the button that closes, which nobody came for.
    (dialog.querySelector(".dialog-body [autofocus]") ?? dialog).focus({ preventScroll: true });
    return () => {
      dialog.close();
      depth -= 1;
      if (before?.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  const onCancel = (event) => { event.preventDefault(); onClose(); };
  // A press beside the dialog lands on the element itself: its backdrop belongs to it.
  const onPointerDown = (event) => {
    if (event.target !== element.current) return;
    const box = element.current.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top
      && event.clientY <= box.bottom;
    if (!inside) onClose();
  };
  return html`<dialog ref=${element} class=${kind} tabindex="-1" aria-labelledby=${label} onCancel=${onCancel}
    onPointerDown=${onPointerDown}><${Layer.Provider} value=${layer.current}>
    <${CloseKey} onClose=${onClose} />
    <header class="dialog-head"><h2 id=${label}>${title}</h2>${head}<${IconButton} icon="close" label="Close" keys="Esc"
      onClick=${onClose} /></header><div class="dialog-body">${children}</div><//></dialog>`;
}

/** Also keeps the layer there for a dialog without keys of its own, so that those of the page below rest. */
function CloseKey({ onClose }) {
  useKeys({ escape: () => onClose() });
  return null;
}

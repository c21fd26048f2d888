/** @file Small parts that every view uses. */

import { percent } from "../format.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../html.js";
import { Icon } from "./icons.js";

/**
 * A choice of a few, as radio buttons that look like one control.
 * @param {{label: string, options: Array<{value: string, text: string, icon?: string, hint?: string}>, value: string,
 *   onChange: Function}} props
 */
export function Choice({ label, options, value, onChange, class: kind = "" }) {
  const name = useId();
  return html`<fieldset class=${`choice ${kind}`}><legend class="unseen">${label}</legend>
    ${options.map((option) => html`<label key=${option.value} title=${option.hint}>
      <input type="radio" name=${name} value=${option.value} checked=${option.value === value}
        onChange=${() => onChange(option.value)} /><span>${option.icon && html`<${Icon} name=${option.icon}
        size=${17} />`}${option.text}</span></label>`)}</fieldset>`;
}

/** A confidence (0 to 1) as a bar with its number. */
export function Confidence({ value, title = "mean confidence" }) {
  return html`<span class="confidence" title=${`${title} ${percent(value)}`}>
    <span class="bar" style=${{ "--share": String(value) }}></span><span class="unseen">${title} </span>
    <span class="number">${percent(value)}</span></span>`;
}

/**
 * Text that becomes a field when it is clicked: Enter keeps, Escape leaves as it was, leaving the field keeps.
 * @param {{value: string, placeholder: string, label: string, editing: boolean, onEditing: Function, onSave: Function,
 *   suggestions?: string[], disabled?: boolean}} props
 */
export function EditableName({ value, placeholder, label, editing, onEditing, onSave, suggestions = [], disabled }) {
  const field = useRef(null), button = useRef(null), list = useId();
  const done = useRef(false);
  useLayoutEffect(() => {
    if (editing) { done.current = false; field.current.focus(); field.current.select(); }
  }, [editing]);
  if (!editing) {
    return html`<button type="button" class=${`name ${value ? "" : "unnamed"}`} ref=${button} disabled=${disabled}
      title=${disabled ? undefined : "Rename (n)"} onClick=${(event) => { event.stopPropagation(); onEditing(true); }}>
      <span>${value || placeholder}</span>${!disabled && html`<${Icon} name="pencil" size=${15} />`}
      <span class="unseen">${disabled ? "" : `, ${label}`}</span></button>`;
  }
  const finish = (keep, back) => {
    if (done.current) return;
    done.current = true;
    const text = field.current.value.trim();
    onEditing(false);
    if (keep && text !== value) onSave(text);
    if (back) requestAnimationFrame(() => button.current?.focus());
  };
  const onKeyDown = (event) => {
    event.stopPropagation(); // the cards' own keys must not see it
    if (event.isComposing) return;
    if (event.key === "Enter") { event.preventDefault(); finish(true, true); }
    if (event.key === "Escape") { event.preventDefault(); finish(false, true); }
  };
  return html`<span class="name-field"><input ref=${field} class="name" value=${value} aria-label=${label} maxlength="200"
    list=${list} placeholder=${placeholder} autocomplete="off" spellcheck=${false} onKeyDown=${onKeyDown}
    onClick=${(event) => event.stopPropagation()} onBlur=${() => finish(true, false)} />
    <datalist id=${list}>${suggestions.map((text) => html`<option key=${text} value=${text} />`)}</datalist></span>`;
}

/**
 * A field whose value is told once the typing pauses.
 * @param {{value: string, onChange: Function, label: string, placeholder?: string, id?: string}} props
 */
export function TextFilter({ value, onChange, label, placeholder = label, id }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  useEffect(() => { setText(value); }, [value]);
  const onInput = (event) => {
    const next = event.currentTarget.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(next.trim()), 200);
  };
  return html`<span class="field text-filter"><${Icon} name="search" size=${16} /><input type="search" id=${id}
    data-find="" aria-label=${label} placeholder=${placeholder} value=${text} onInput=${onInput} autocomplete="off"
    spellcheck=${false} /></span>`;
}

/**
 * Two thumbs on one line: the smallest and the largest share that passes.
 * @param {{label: string, low: number, high: number, onChange: (low: number, high: number) => void}} props
 */
export function ShareRange({ label, low, high, onChange }) {
  const [now, setNow] = useState([low, high]);
  const latest = useRef(now); // "change" may come before what "input" set has been drawn
  useEffect(() => { latest.current = [low, high]; setNow(latest.current); }, [low, high]);
  const slide = (index) => (event) => {
    const next = [...latest.current];
    next[index] = Number(event.currentTarget.value) / 100;
    if (next[0] > next[1]) next[1 - index] = next[index];
    latest.current = next;
    setNow(next);
  };
  const tell = () => { const [a, b] = latest.current; if (a !== low || b !== high) onChange(a, b); };
  return html`<fieldset class="share-range" style=${{ "--low": String(now[0]), "--high": String(now[1]) }}>
    <legend>${label} <output>${percent(now[0])} – ${percent(now[1])}</output></legend>
    ${["at least", "at most"].map((word, index) => html`<input key=${word} type="range" min="0" max="100" step="1"
      aria-label=${`${label}, ${word}`} value=${Math.round(now[index] * 100)} onInput=${slide(index)} onChange=${tell}
      aria-valuetext=${percent(now[index])} />`)}</fieldset>`;
}

/** A list to choose from. */
export function Pick({ label, value, options, onChange }) {
  return html`<label class="field pick"><span>${label}</span><select value=${value}
    onChange=${(event) => onChange(event.currentTarget.value)}>${options.map(([key, text]) => html`<option key=${key}
    value=${key} selected=${key === value}>${text}</option>`)}</select></label>`;
}

/** What to show where there is nothing. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

/** The style that gives a part its cluster's colour. */
export const toneOf = (cluster) => (cluster ? { "--hue": String(cluster.hue) } : { "--hue": "0", "--chroma": "0" });

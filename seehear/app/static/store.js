/** @file A value that components watch: the whole of this page's shared state is a few of these. */

import { useEffect, useReducer, useRef } from "./html.js";

/**
 * Make a store.
 * @template T
 * @param {T} value what it holds at first
 */
export function createStore(value) {
  const listeners = new Set();
  return {
    get: () => value,
    /** Replace the value, or let a function make the next one of it; the same value again tells nobody. */
    set(next) {
      const made = typeof next === "function" ? next(value) : next;
      if (Object.is(made, value)) return;
      value = made;
      for (const listener of [...listeners]) listener(value);
    },
    /** Replace some members of an object. */
    patch(part) { this.set((old) => ({ ...old, ...part })); },
    /** Call a function after every change; the answer ends that. */
    subscribe(listener) { listeners.add(listener); return () => listeners.delete(listener); },
  };
}

/**
 * What a store holds, or what `select` takes of it; the component is drawn again only when that changes.
 * @template T, S
 * @param {{get: () => T, subscribe: Function}} store
 * @param {(value: T) => S} select
 * @returns {S}
 */
export function useStore(store, select = (value) => value) {
  const [, again] = useReducer((n) => n + 1, 0);
  const chosen = useRef(select);
  chosen.current = select;
  const seen = select(store.get());
  const last = useRef(seen);
  last.current = seen;
  useEffect(() => {
    const look = () => { if (!Object.is(chosen.current(store.get()), last.current)) again(); };
    look(); // it may have changed between drawing and this effect
    return store.subscribe(look);
  }, [store]);
  return seen;
}

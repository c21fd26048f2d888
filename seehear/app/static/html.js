/** @file Preact, its hooks and htm bound to it: what every component imports, from one place. */

import { Component, Fragment, createContext, h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

/** Markup as a template literal; values in it are escaped, since they become text nodes and properties. */
export const html = htm.bind(h);
export { Component, Fragment, createContext, h, render };
export {
  useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "./vendor/preact-hooks.js";

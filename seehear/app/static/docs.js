// The interface's schema as a page. Texts go in as text, never as markup.

const place = document.getElementById("operations");

/** An element with attributes and children, which are elements or texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A type in words: "integer", "string or nothing", "list of Hit". */
function typeOf(schema, seen = new Set()) {
  if (!schema || typeof schema !== "object") return "anything";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    seen.add(name);
    return name;
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(one, seen)).join(" or ");
  if (schema.prefixItems) return `(${schema.prefixItems.map((one) => typeOf(one, seen)).join(", ")})`;
  if (schema.type === "array") return `list of ${typeOf(schema.items, seen)}`;
  if (schema.type === "null") return "nothing";
  return schema.type ?? "anything";
}

function limitsOf(schema) {
  const options = schema.anyOf ? schema.anyOf.find((one) => one.type !== "null") ?? schema : schema;
  const found = [];
  if (options.minimum !== undefined || options.maximum !== undefined) {
    found.push(`${options.minimum ?? ""} to ${options.maximum ?? ""}`.trim());
  }
  if (options.maxLength !== undefined) found.push(`up to ${options.maxLength} characters`);
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join("; ");
}

/** A table of names, types and what is said of them. */
function table(title, rows, seen) {
  if (!rows.length) return null;
  const body = element("tbody");
  for (const { name, schema, required, description } of rows) {
    const about = [required ? "needed" : "", limitsOf(schema), description ?? schema.description ?? ""];
    body.append(
      element(
        "tr",
        {},
        element("th", { scope: "row" }, element("code", {}, name)),
        element("td", { class: "type" }, typeOf(schema, seen)),
        element("td", {}, about.filter(Boolean).join(". ")),
      ),
    );
  }
  return element("table", {}, element("caption", {}, title), body);
}

function fieldsOf(model, seen) {
  return Object.entries(model.properties ?? {}).map(([name, schema]) => ({
    name,
    schema,
    required: (model.required ?? []).includes(name),
    description: schema.description,
    seen,
  }));
}

/** The models that are named, and those that these name. */
function models(schemas, seen) {
  const tables = [];
  const done = new Set();
  let waiting = [...seen];
  while (waiting.length) {
    const name = waiting.shift();
    if (done.has(name) || !schemas[name]) continue;
    done.add(name);
    const named = new Set();
    tables.push(table(name, fieldsOf(schemas[name], named), named));
    waiting = waiting.concat([...named]);
  }
  return tables;
}

function operation(path, method, what, schemas) {
  const seen = new Set();
  const details = element(
    "details",
    {},
    element(
      "summary",
      {},
      element("span", { class: "method" }, method.toUpperCase()),
      element("code", {}, path),
      ` ${what.summary ?? ""}`,
    ),
    element("p", { class: "about" }, what.description ?? ""),
  );
  const parameters = (what.parameters ?? []).map((one) => ({ ...one, name: one.name }));
  details.append(...[table("Parameters", parameters, seen)].filter(Boolean));
  const bodies = new Set();
  for (const [kind, { schema }] of Object.entries(what.requestBody?.content ?? {})) {
    details.append(element("p", {}, `Body: ${typeOf(schema, bodies)} (${kind})`));
  }
  const answers = new Set();
  for (const [kind, { schema }] of Object.entries(what.responses?.["200"]?.content ?? {})) {
    details.append(element("p", {}, `Answer: ${typeOf(schema, answers)} (${kind})`));
  }
  details.append(...models(schemas, new Set([...seen, ...bodies, ...answers])).filter(Boolean));
  return details;
}

function show(schema) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(schema.paths)) {
    for (const [method, what] of Object.entries(methods)) {
      const group = what.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operation(path, method, what, schema.components?.schemas ?? {}));
    }
  }
  place.replaceChildren();
  for (const [name, operations] of groups) place.append(element("h2", {}, name), ...operations);
  place.removeAttribute("aria-busy");
}

try {
  const answer = await fetch("/api/openapi.json");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  show(await answer.json());
} catch (error) {
  place.replaceChildren(element("p", { role: "alert" }, `The schema could not be read: ${error.message}`));
  place.removeAttribute("aria-busy");
}

// Draws the reference from /openapi.json. Builds nodes, never HTML from text.

/** `node("p", {id: "x"}, "text", child)` */
function node(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Text with `code` between backticks. */
function words(text = "") {
  return text.split("`").map((part, at) => (at % 2 ? node("code", {}, part) : part));
}

function table(heads, rows) {
  const head = node("tr", {}, ...heads.map((text) => node("th", {}, text)));
  const body = rows.map((cells) => node("tr", {}, ...cells.map((cell) => node("td", {}, ...[cell].flat()))));
  return node("table", {}, node("thead", {}, head), node("tbody", {}, ...body));
}

const idOf = (reference) => reference.split("/").pop();

/** `Page_OrderDocument` reads "page of OrderDocument". */
const nameOf = (id) => id.replace("Page_", "page of ");

/** What a value looks like, in a few words; a document links to its description. */
function shape(schema = {}) {
  if (schema.$ref) return [node("a", { href: `#${idOf(schema.$ref)}` }, nameOf(idOf(schema.$ref)))];
  const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choices) return choices.flatMap((choice, at) => (at ? [" or ", ...shape(choice)] : shape(choice)));
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  const types = [schema.type ?? "any"].flat();
  if (types.includes("array")) return ["list of ", ...shape(schema.items)];
  return [types.join(" or ") + (schema.format ? ` (${schema.format})` : "")];
}

/** A nullable document says what it means beside its reference. */
const meaning = ({ description, oneOf = [] }) => description ?? oneOf.find((choice) => choice.description)?.description;

/** A request that can be pasted after the journey above, whose shell variables it uses. */
function example(method, path, operation) {
  const lines = [`curl -si -X ${method} "$HOLDFAST_API${path.replace("{id}", path.includes("schedules") ? "$schedule" : "$order")}"`];
  lines.push('-H "Authorization: Bearer $token"');
  for (const { name, in: place, required, example: value = "…" } of operation.parameters ?? []) {
    if (place === "header" && required) lines.push(`-H "${name}: ${value}"`);
  }
  const [body] = Object.values(operation.requestBody?.content ?? {});
  if (body?.example) {
    const json = JSON.stringify(body.example).replaceAll('"', '\\"');
    lines.push('-H "Content-Type: application/json"', `-d "${json}"`);
  }
  return node("pre", {}, node("code", {}, lines.join(" \\\n  ")));
}

function described(method, path, operation) {
  const title = `${method} ${path}`;
  const parts = [
    node("h3", {}, node("code", {}, node("span", { class: "method" }, method), ` ${path}`)),
    node("p", {}, node("strong", {}, operation.summary ?? ""), " ", ...words(operation.description)),
  ];
  // Only WeChat can sign what WeChat sends.
  if (operation.security.some((scheme) => scheme.bearer)) parts.push(example(method, path, operation));
  if (operation.parameters?.length) {
    parts.push(table(["Parameter", "In", "Meaning"], operation.parameters.map((parameter) => [
      node("code", {}, parameter.name), parameter.in + (parameter.required ? ", required" : ""), words(parameter.description),
    ])));
  }
  const body = Object.entries(operation.requestBody?.content ?? {});
  for (const [type, { schema }] of body) parts.push(node("p", {}, "Body: ", node("code", {}, type), ", ", ...shape(schema)));
  const answers = Object.entries(operation.responses).sort(([a], [b]) => a - b);
  parts.push(table(["Answer", "Meaning", "Document"], answers.map(([status, answer]) => [
    node("code", {}, status), words(answer.description),
    Object.values(answer.content ?? {}).flatMap(({ schema }) => shape(schema)),
  ])));
  return node("article", { id: title }, ...parts);
}

function document_(name, schema) {
  const parts = [node("h3", {}, node("code", {}, nameOf(name))), node("p", {}, ...words(schema.description))];
  const merged = [schema, ...(schema.allOf ?? [])];
  const rows = merged.flatMap((part) => Object.entries(part.properties ?? {})).map(([member, value]) => [
    node("code", {}, member), shape(value), words(meaning(value)),
  ]);
  const others = (schema.allOf ?? []).filter((part) => part.$ref).flatMap(shape);
  if (rows.length) parts.push(table(["Member", "Value", "Meaning"], rows));
  else if (schema.enum || schema.oneOf) parts.push(node("p", {}, ...shape(schema)));
  if (others.length) parts.push(node("p", {}, "And the members of ", ...others));
  return node("article", { id: name }, ...parts);
}

/** The table of contents for one group of operations. */
function listed({ description }, operations) {
  return [node("h2", {}, description), node("ul", {}, ...operations.map(([method, path, { summary }]) => {
    const title = `${method} ${path}`;
    const link = node("a", { href: `#${encodeURIComponent(title)}`, "data-operation": title }, node("code", {}, title));
    return node("li", {}, link, ` ${summary ?? ""}`);
  }))];
}

async function draw() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const { paths, components, tags } = await answer.json();
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([, operation]) => operation.responses)
      .map(([method, operation]) => [method.toUpperCase(), path, operation]));
  const groups = tags.map((tag) => [tag, operations.filter(([, , operation]) => operation.tags?.[0] === tag.name)]);
  document.getElementById("contents").replaceChildren(...groups.flatMap((group) => listed(...group)));
  document.getElementById("operations").replaceChildren(
    ...groups.flatMap(([, those]) => those.map((operation) => described(...operation))));
  const schemas = Object.entries(components?.schemas ?? {}).sort(([a], [b]) => a.localeCompare(b));
  document.getElementById("schemas").replaceChildren(...schemas.map((schema) => document_(...schema)));
  // The browser looked for the address's place before it was there.
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

draw().catch((error) => {
  document.getElementById("waiting").append(` could not be read (${error.message}).`);
});

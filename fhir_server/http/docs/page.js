// Shows openapi.json: one view for each resource or data type, and a search over all of it.
// Everything that the document says goes on the page as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];
const CRITERION = "#/components/schemas/criterion.";
const SCHEMA = "#/components/schemas/";
const MOST_HITS = 100;

const main = document.getElementById("main");
const types = document.getElementById("types");
const find = document.getElementById("find");

/** An element with attributes and children; a string among them is text. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return made;
}

/** Text in which `this` is code and addresses are links. */
function prose(text) {
  return text.split(/(`[^`]+`|https?:\/\/[^\s]+[^\s.,;)])/).map((part) => {
    if (part.startsWith("`")) return el("code", {}, part.slice(1, -1));
    return /^https?:/.test(part) ? el("a", { href: part }, part) : part;
  });
}

function link(view, text, place) {
  return el("a", { href: `#${encodeURIComponent(view)}${place ? `/${encodeURIComponent(place)}` : ""}` }, text ?? view);
}

// --- the document ---------------------------------------------------------------------------------------------------

let api;
let base;
const calls = new Map(); // by tag: {method, path, item, call}

function resolved(value) {
  if (!value?.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((at, key) => at[decodeURIComponent(key)], api);
}

function gather() {
  for (const tag of api.tags) calls.set(tag.name, []);
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      for (const tag of item[method].tags) calls.get(tag).push({ method, path, item, call: item[method] });
    }
  }
}

function parametersOf({ item, call }) {
  return [...(item.parameters ?? []), ...(call.parameters ?? [])].map(resolved);
}

const isCriterion = (parameter) => (parameter.schema?.$ref ?? "").startsWith(CRITERION);
const kindOf = (parameter) => parameter.schema.$ref.slice(CRITERION.length);

function criteriaOf(tag) {
  const path = tag === "System" ? "/" : `/${tag}`;
  const search = (calls.get(tag) ?? []).find((one) => one.path === path && one.method === "get");
  return search ? parametersOf(search).filter(isCriterion) : [];
}

/** Of an expression for many types, the branches that are about one. */
function expressionOf(parameter, type) {
  const whole = /`([^`]*)`/.exec(parameter.description ?? "")?.[1] ?? "";
  const own = whole.split(" | ").filter((branch) => branch.replace(/^\(+/, "").startsWith(`${type}.`));
  return own.length ? own.join(" | ") : whole;
}

function modifiersOf(parameter) {
  return /Modifiers: (.*)$/.exec(parameter.description ?? "")?.[1] ?? "";
}

// --- what a schema says -----------------------------------------------------------------------------------------------

/** The name of a schema as a link where it has a view, its codes, or its JSON type. */
function shown(schema) {
  if (schema.type === "array") return ["list of ", shown(schema.items)].flat();
  if (schema.enum) return [`${schema.enum.slice(0, 12).join(" | ")}${schema.enum.length > 12 ? " …" : ""}`];
  if (!schema.$ref?.startsWith(SCHEMA)) return [schema.const ?? schema.type ?? "anything"];
  const name = schema.$ref.slice(SCHEMA.length);
  const target = resolved(schema);
  return target.properties && !name.includes(".") ? [link(name)] : [name];
}

function elementRows(path, prefix, rows) {
  const schema = api.components.schemas[path];
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    const inner = (member.items ?? member).$ref?.slice(SCHEMA.length) ?? "";
    const nested = inner === `${path}.${name}`;
    const type = nested ? [member.items ? "list of elements" : "elements"] : shown(member);
    const needed = (schema.required ?? []).includes(name) ? "required" : "";
    rows.push(
      el("tr", { id: `element-${prefix}${name}` }, el("td", {}, el("code", {}, prefix + name)), el("td", {}, type), el("td", { class: "short soft" }, needed)),
    );
    if (nested) elementRows(inner, `${prefix}${name}.`, rows);
  }
  return rows;
}

function table(heads, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows));
}

// --- one call ---------------------------------------------------------------------------------------------------------

function curl({ method, path, call }) {
  const address = base + path.replace(/\/$/, "");
  const words = ["curl"];
  if (method !== "get") words.push("-X", method.toUpperCase());
  words.push(`'${address}'`);
  if (api.security.length && !(call.security && call.security.length === 0)) words.push('-H "Authorization: Bearer $TOKEN"');
  const kind = Object.keys(resolved(call.requestBody)?.content ?? {}).filter((name) => name !== "*/*")[0];
  if (kind === "application/x-www-form-urlencoded") words.push("-d '_count=10'");
  else if (kind) words.push(`-H 'Content-Type: ${kind}'`, "-d @body.json");
  return words.join(" ");
}

function parameterRow(parameter) {
  const schema = parameter.schema ?? {};
  const values = schema.enum && schema.enum.length < 20 ? schema.enum.join(" | ") : (schema.type ?? "");
  return el(
    "tr",
    {},
    el("td", {}, el("code", {}, parameter.name)),
    el("td", { class: "soft" }, parameter.in),
    el("td", {}, prose(parameter.description ?? ""), values && values !== "string" ? el("div", { class: "soft" }, values) : ""),
  );
}

function answerRow([status, value]) {
  const answer = resolved(value);
  return el(
    "tr",
    {},
    el("td", {}, status === "default" ? "error" : status),
    el("td", {}, prose(answer.description)),
    el("td", { class: "soft" }, Object.keys(answer.content ?? {}).join(", ")),
  );
}

function inside(one) {
  const { path, method, call } = one;
  const parameters = parametersOf(one);
  const others = parameters.filter((parameter) => !isCriterion(parameter));
  const parts = [];
  if (call.description) parts.push(el("p", {}, prose(call.description)));
  const criteria = parameters.length - others.length;
  if (criteria) parts.push(el("p", {}, `Searches by ${criteria} search parameters, which are listed below, and takes these:`));
  if (others.length) parts.push(el("h3", {}, "Parameters"), table(["Name", "In", "What it does"], others.map(parameterRow)));
  const body = resolved(call.requestBody);
  if (body) {
    const lines = (body.description ?? "").split("\n").filter(Boolean);
    parts.push(el("h3", {}, "Body"));
    for (const line of lines) parts.push(el("div", {}, prose(line.replace(/^- /, "· "))));
    parts.push(el("p", { class: "soft" }, Object.keys(body.content).join(", ")));
  }
  parts.push(el("h3", {}, "Answers"), table(["Status", "What it is", "Formats"], Object.entries(call.responses).map(answerRow)));
  parts.push(el("h3", {}, "Call"), el("pre", {}, el("code", {}, curl(one))));
  if (method === "get" && !path.includes("{") && !api.security.length) {
    const address = `${base}${path.replace(/\/$/, "")}?_format=json&_pretty=true`;
    parts.push(el("p", {}, el("a", { href: address }, "Open it here")));
  }
  return parts;
}

function callView(one) {
  const head = el(
    "summary",
    {},
    el("span", { class: `method ${one.method}` }, one.method.toUpperCase()),
    el("code", { class: "path" }, one.path),
    el("span", { class: "what" }, one.call.summary),
  );
  const view = el("details", { id: `call-${one.method}-${one.path}` }, head);
  view.addEventListener("toggle", () => {
    if (view.open && view.childElementCount === 1) view.append(el("div", { class: "inside" }, inside(one)));
  });
  return view;
}

// --- views ------------------------------------------------------------------------------------------------------------

function section(id, title, ...content) {
  return [el("h2", { id }, title), ...content.flat()];
}

function searchSection(tag) {
  const criteria = criteriaOf(tag);
  if (!criteria.length) return [];
  const rows = criteria.map((parameter) =>
    el(
      "tr",
      { id: `search-${parameter.name}` },
      el("td", {}, el("code", {}, parameter.name)),
      el("td", { class: "short" }, kindOf(parameter)),
      el("td", {}, el("code", {}, expressionOf(parameter, tag))),
      el("td", { class: "soft" }, modifiersOf(parameter)),
    ),
  );
  return section("search", "Search parameters", table(["Name", "Type", "What it looks at", "Modifiers"], rows));
}

function elementSection(name) {
  const schema = api.components.schemas[name];
  return schema?.properties ? section("elements", "Elements", table(["Name", "Type", ""], elementRows(name, "", []))) : [];
}

function overview() {
  const some = ["Patient", "Observation", "Condition", "Encounter", "MedicationRequest", "DocumentReference", "Appointment"];
  return [
    el("h1", {}, "HealthSphere API"),
    el("p", {}, `Version ${api.info.version}. The FHIR base is `, el("code", {}, base), "."),
    el("p", {}, prose(api.info.description)),
    el("p", {}, "Begin with ", some.filter((name) => calls.has(name)).flatMap((name, n) => [n ? ", " : "", link(name)]), ", or find anything above (press ", el("code", {}, "/"), ")."),
    ...section("calls", "The whole system", calls.get("System").map(callView)),
    ...searchSection("System"),
  ];
}

function tagView(tag) {
  const own = calls.get(tag);
  const [interactions, operations] = [own.filter((one) => !one.path.includes("$")), own.filter((one) => one.path.includes("$"))];
  const spec = api.tags.find((one) => one.name === tag).externalDocs?.url;
  const parts = [
    interactions.length ? section("calls", "Interactions", interactions.map(callView)) : [],
    searchSection(tag),
    operations.length ? section("operations", "Operations", operations.map(callView)) : [],
    elementSection(tag),
  ].filter((part) => part.length);
  return [
    el("h1", {}, tag),
    el("p", { class: "soft" }, spec ? el("a", { href: spec }, "In the specification") : "The type stands in the address."),
    parts.length > 1 ? el("ul", { class: "contents" }, parts.map(([head]) => el("li", {}, link(tag, head.textContent, head.id)))) : "",
    ...parts.flat(),
    spec ? el("p", { class: "soft" }, "Operations that every type has are under ", link("Any type"), ".") : "",
  ];
}

function typeView(name) {
  return [el("h1", {}, name), el("p", { class: "soft" }, "A data type."), ...elementSection(name)];
}

function show() {
  const [view, place] = location.hash.slice(1).split("/").map(decodeURIComponent);
  find.value = "";
  if (calls.has(view) && view !== "System") main.replaceChildren(...tagView(view).filter(Boolean));
  else if (api.components.schemas[view]?.properties) main.replaceChildren(...typeView(view));
  else main.replaceChildren(...overview());
  document.title = view ? `${view} · HealthSphere API` : "HealthSphere API";
  for (const one of types.querySelectorAll("a")) {
    const current = decodeURIComponent(one.hash.slice(1)) === (view || "System");
    if (current) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
    if (current) one.scrollIntoView({ block: "nearest" });
  }
  const target = place && document.getElementById(place);
  if (target) {
    if (target.tagName === "DETAILS") target.open = true;
    target.scrollIntoView();
  } else scrollTo(0, 0);
}

// --- finding ----------------------------------------------------------------------------------------------------------

let entries;

function allEntries() {
  const found = [];
  const add = (kind, label, about, view, place) => found.push({ kind, label, about, view, place, text: `${label} ${about}`.toLowerCase() });
  for (const [tag, own] of calls) {
    add(tag === "System" || tag === "Any type" ? "overview" : "resource type", tag, "", tag);
    for (const one of own) {
      if (!one.path.includes("$")) continue;
      const about = `${one.method.toUpperCase()} ${one.path} · ${one.call.summary}`;
      add("operation", one.path.slice(one.path.indexOf("$")), about, tag, `call-${one.method}-${one.path}`);
    }
    for (const parameter of criteriaOf(tag)) {
      add("search parameter", parameter.name, `${tag} · ${kindOf(parameter)} · ${expressionOf(parameter, tag)}`, tag, `search-${parameter.name}`);
    }
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    if (!schema.properties) continue;
    const [type, ...inner] = name.split(".");
    if (!inner.length && !calls.has(name)) add("data type", name, "", name);
    for (const member of Object.keys(schema.properties)) {
      const path = [...inner, member].join(".");
      add("element", path, type, type, `element-${path}`);
    }
  }
  return found;
}

/** 0 for the thing itself, 1 for what begins so, 2 for what has it in its name, 3 for what mentions it. */
function rank(entry, wanted) {
  const label = entry.label.toLowerCase();
  if (label === wanted) return 0;
  return label.startsWith(wanted) ? 1 : label.includes(wanted) ? 2 : 3;
}

function marked(text, wanted) {
  const at = text.toLowerCase().indexOf(wanted);
  return at < 0 ? [text] : [text.slice(0, at), el("mark", {}, text.slice(at, at + wanted.length)), text.slice(at + wanted.length)];
}

function showHits() {
  const wanted = find.value.trim().toLowerCase();
  if (!wanted) return show();
  entries ??= allEntries();
  const words = wanted.split(/\s+/);
  const hits = entries
    .filter((entry) => words.every((word) => entry.text.includes(word)))
    .map((entry) => ({ ...entry, rank: rank(entry, words[0]) }))
    .sort((one, other) => one.rank - other.rank);
  const rows = hits.slice(0, MOST_HITS).map((hit) => {
    const label = link(hit.view, "", hit.place);
    label.append(...marked(hit.label, words[0]));
    return el("li", {}, el("span", { class: "kind" }, hit.kind), label, el("span", { class: "about" }, hit.about));
  });
  const many = hits.length > MOST_HITS ? `The first ${MOST_HITS} of ${hits.length}.` : `${hits.length} found.`;
  main.replaceChildren(el("h1", {}, `“${find.value.trim()}”`), el("p", { class: "soft", role: "status" }, many), el("ul", { class: "hits" }, rows));
  scrollTo(0, 0);
}

// --- start ------------------------------------------------------------------------------------------------------------

async function start() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json answered ${answer.status}`);
  api = await answer.json();
  base = api.servers[0].url;
  gather();
  document.getElementById("statement").href = `${base}/metadata?_format=json&_pretty=true`;
  const [general, others] = [api.tags.slice(0, 2), api.tags.slice(2)];
  types.replaceChildren(...general.map((tag) => link(tag.name)), el("hr"), ...others.map((tag) => link(tag.name)));
  let waiting;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(showHits, 120);
  });
  addEventListener("hashchange", show);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "Escape" && find.value) show();
  });
  show();
}

start().catch((error) => main.replaceChildren(el("p", {}, `The description could not be read: ${error.message}.`)));

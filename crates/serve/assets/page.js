// The page: asks the server that it came from, and keeps nothing beyond its own tab.
"use strict";

const byId = (id) => document.getElementById(id);
/** Requests at a time: the server batches what is there at once, and a folder must not fill its queue. */
const AT_ONCE = 4;
/** How often a full server is asked again. */
const TRIES = 20;

/** Of images with several frames: the server asks for it in the address, and people have that of the page. */
const frame = new URLSearchParams(location.search).get("frame");

let token = "";
let models = [];
let numbers = 0;

/** An element with text; text is never read as HTML. */
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** What a request was refused with. */
class Refused extends Error {
  constructor(status, found, expected) {
    super(found);
    Object.assign(this, { status, found, expected });
  }
}

/** The answer of the server as an object; waits where the server is full. */
async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new Refused(0, "no answer from the server", "a server that runs and can be reached");
    }
    if (response.ok) {
      return response.json().catch(() => {
        throw new Refused(0, "an answer that breaks off", "a whole one: try again");
      });
    }
    if (response.status === 503 && attempt < TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    const body = await response.json().catch(() => ({}));
    const said = body.error ?? { found: `status ${response.status}`, expected: "an answer" };
    throw new Refused(response.status, said.found, said.expected);
  }
}

/** Begins, or asks for the token first. */
async function begin() {
  try {
    models = (await call("v1/models")).models;
  } catch (refused) {
    if (refused.status === 401) {
      byId("token-refused").textContent = token ? "This is not the token of this server." : "";
      byId("token-form").hidden = false;
      byId("token").focus();
    } else {
      byId("ask").hidden = false;
      byId("status").textContent = `${refused.found}; expected ${refused.expected}`;
    }
    return;
  }
  byId("token-form").hidden = true;
  byId("ask").hidden = false;
  byId("model").replaceChildren(...models.map((model) => new Option(model.name)));
  byId("model-row").hidden = models.length < 2;
  await showCard();
}

const chosen = () => models[Math.max(0, byId("model").selectedIndex)];

// Images ---------------------------------------------------------------------------------------------------------

/** Classifies files, several at a time, in the order in which they came. */
async function classify(files) {
  const model = chosen();
  if (!model || files.length === 0) return;
  const waiting = [...files].map((file) => ({ file, article: placeFor(file, model) }));
  const total = waiting.length;
  let done = 0;
  let failed = 0;
  const say = () => {
    const rest = failed ? `, ${failed} of them not readable` : "";
    byId("status").textContent = `${done} of ${total} ${total === 1 ? "image" : "images"} done${rest}`;
  };
  say();
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      try {
        await classifyOne(model, next.file, next.article);
      } catch (refused) {
        failed += 1;
        showRefusal(next.article, refused);
      }
      done += 1;
      say();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** What was dropped, with the files that lie in folders, sorted by name; hidden files are left out. */
async function dropped(transfer) {
  const files = [...transfer.files];
  // Asked for at once: what was dropped is forgotten while this waits.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return files;
  try {
    const found = (await Promise.all(entries.map(filesOf))).flat();
    if (found.length === 0) byId("status").textContent = "There are no files in this folder.";
    return found;
  } catch (error) {
    byId("status").textContent = `The folder cannot be read: ${error.message}`;
    return [];
  }
}

/** The files of a file or folder that was dropped. */
async function filesOf(entry) {
  const answer = (ask) => new Promise((resolve, reject) => ask(resolve, reject));
  if (entry.isFile) return [await answer((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const inside = [];
  // It hands out some at a time, and none in the end.
  for (let part = [entry]; part.length > 0; ) {
    part = await answer((resolve, reject) => reader.readEntries(resolve, reject));
    inside.push(...part.filter(({ name }) => !name.startsWith(".")));
  }
  inside.sort((one, other) => (one.name < other.name ? -1 : 1));
  return (await Promise.all(inside.map(filesOf))).flat();
}

/** A place for the result of a file, the newest on top; of several models it says which one answers. */
function placeFor(file, model) {
  const article = byId("result").content.firstElementChild.cloneNode(true);
  numbers += 1;
  const title = article.querySelector("h2");
  title.textContent = file.name;
  title.id = `result-${numbers}`;
  article.setAttribute("aria-labelledby", title.id);
  for (const name of ["opacity", "class"]) {
    article.querySelector(`.${name}`).id = `${name}-${numbers}`;
    article.querySelector(`.${name}-label`).htmlFor = `${name}-${numbers}`;
  }
  if (models.length > 1) article.querySelector(".by").textContent = `Model: ${model.name}`;
  article.querySelector(".verdict").textContent = "waiting\u2026";
  byId("results").prepend(article);
  return article;
}

const upload = (file) => {
  const body = new FormData();
  body.append("images", file);
  return { method: "POST", body };
};

async function classifyOne(model, file, article) {
  // Within a request this would look like a server that is gone.
  await file.slice(0, 1).arrayBuffer().catch(() => {
    throw new Refused(0, "it cannot be read: it is a folder, or was moved or changed", "a file that can be read");
  });
  const about = (words) => new URLSearchParams({ model: model.name, ...words, ...(frame && { frame }) });
  const { predictions } = await call(`v1/predict?${about()}`, upload(file));
  showPrediction(article, predictions[0]);
  const select = article.querySelector(".class");
  let asked = 0;
  const explain = async (chosenClass) => {
    const wanted = about(chosenClass === undefined ? {} : { class: chosenClass });
    // By the time of the answer another class may be chosen, or this one again.
    asked += 1;
    const number = asked;
    const isWanted = () => number === asked;
    try {
      const { explanations } = await call(`v1/explain?${wanted}`, upload(file));
      if (isWanted()) showExplanation(article, file, explanations[0]);
    } catch (refused) {
      if (isWanted()) noMap(article, refused);
    }
  };
  select.addEventListener("change", () => {
    waitForMap(article);
    explain(select.value);
  });
  await explain();
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

/** A share and another in percent, with the digits that it takes to tell them, and the other from all and nothing, apart. */
function percents(one, other) {
  const alike = (a, b, digits) => a !== b && percent(a, digits) === percent(b, digits);
  let digits = 1;
  while (digits < 15 && [one, 0, 1].some((share) => alike(share, other, digits))) digits += 1;
  return [percent(one, digits), percent(other, digits)];
}

/** The positive class with its probability, and how that compares with the threshold. */
function compared({ probabilities, positive, threshold, reaches_threshold: reaches }) {
  // No probability is as large: the rule that chose it calls nothing positive.
  if (threshold > 1) {
    return [`${positive} ${percent(probabilities[positive])}`, `; the threshold lies above 100 %: no image is called ${positive}.`];
  }
  const [probability, least] = percents(probabilities[positive], threshold);
  return [`${positive} ${probability}`, ` ${reaches ? "reaches" : "stays below"} the threshold of ${least}.`];
}

function showPrediction(article, prediction) {
  const { probabilities, positive, threshold } = prediction;
  const verdict = article.querySelector(".verdict");
  verdict.textContent = "";
  if (positive === undefined) {
    verdict.append(element("strong", prediction.predicted), ` has the largest probability, ${percent(probabilities[prediction.predicted])}.`);
  } else {
    const [found, comparison] = compared(prediction);
    verdict.append(element("strong", found), comparison);
    article.querySelector(".source").textContent = `Threshold: ${prediction.threshold_source}.`;
  }
  const rows = Object.entries(probabilities).map(([name, probability]) => {
    const row = element("tr");
    const heading = element("th", name);
    heading.scope = "row";
    const bar = element("span", undefined, "bar");
    bar.setAttribute("aria-hidden", "true");
    const filled = element("span", undefined, "filled");
    filled.style.width = percent(probability).replace(" ", "");
    bar.append(filled);
    if (name === positive && threshold <= 1) {
      const mark = element("span", undefined, "mark");
      mark.style.left = percent(threshold).replace(" ", "");
      mark.title = `threshold ${percent(threshold)}`;
      bar.append(mark);
    }
    const cell = element("td");
    cell.append(bar);
    row.append(heading, cell, element("td", percent(probability), "number"));
    return row;
  });
  article.querySelector("tbody").replaceChildren(...rows);
  article.querySelector(".class").replaceChildren(...Object.keys(probabilities).map((name) => new Option(name)));
}

function showExplanation(article, file, explanation) {
  const [image, heat] = [article.querySelector(".image"), article.querySelector(".heat")];
  image.src = explanation.image;
  image.alt = `X-ray ${file.name}`;
  heat.src = explanation.heat_map;
  image.hidden = false;
  heat.hidden = false;
  article.querySelector(".class").value = explanation.class;
  article.querySelector(".where").textContent = where(explanation);
  article.querySelector(".controls").hidden = false;
  const slider = article.querySelector(".opacity");
  const fade = () => {
    heat.style.opacity = String(slider.value / 100);
    article.querySelector("output").textContent = `${slider.value} %`;
    slider.setAttribute("aria-valuetext", `${slider.value} percent`);
  };
  slider.oninput = fade;
  fade();
}

/** Where the evidence is strongest, in words: the map for whoever does not see it. */
function where({ class: name, method, map }) {
  const largest = Math.max(...map.values);
  if (!(largest > 0)) return `No evidence for ${name} (${method}).`;
  const place = map.values.indexOf(largest);
  const third = (at, count, words) => words[Math.min(2, Math.floor((3 * (at + 0.5)) / count))];
  const down = third(Math.floor(place / map.width), map.height, ["upper", "middle", "lower"]);
  const across = third(place % map.width, map.width, ["left", "centre", "right"]);
  const at = down === "middle" && across === "centre" ? "in the centre" : `at the ${down} ${across}`;
  return `Evidence for ${name} is strongest ${at} of the picture (${method}).`;
}

/** Another class is chosen: what is shown would be taken for its map. */
function waitForMap(article) {
  article.querySelector(".heat").hidden = true;
  const where = article.querySelector(".where");
  // From here on it answers the user, and is read out; before, many images may speak at the same time.
  where.setAttribute("aria-live", "polite");
  where.textContent = "waiting\u2026";
}

function noMap(article, refused) {
  article.querySelector(".heat").hidden = true;
  article.querySelector(".where").textContent = `No heat map: ${refused.found}`;
}

function showRefusal(article, refused) {
  const found = element("p", refused.found, "found");
  const expected = element("p", `Expected ${refused.expected}.`);
  const said = element("div");
  said.setAttribute("role", "alert");
  article.classList.add("failed");
  article.querySelector(".sides").replaceWith(said);
  // Into the page first: only what changes within an alert is read out.
  said.append(found, expected);
}

// The model ------------------------------------------------------------------------------------------------------

const number = (value, digits = 3) => (value === null || value === undefined ? "undefined" : value.toFixed(digits));

/** A threshold, with the digits that it takes to tell it from 0 and 1; above 1 it is for no image. */
function least(threshold) {
  if (threshold > 1) return "above 1, so for no image,";
  let digits = 4;
  while (threshold % 1 !== 0 && digits < 15 && Number(number(threshold, digits)) % 1 === 0) digits += 1;
  return number(threshold, digits);
}

/** A table of two columns, and its name for whoever does not see what stands above it. */
function pairs(title, rows) {
  const table = element("table", undefined, "pairs");
  table.setAttribute("aria-label", title);
  const body = element("tbody");
  for (const [name, value] of rows) {
    if (value === undefined || value === null || value === "") continue;
    const row = element("tr");
    const heading = element("th", name);
    heading.scope = "row";
    const cell = element("td");
    cell.append(value);
    row.append(heading, cell);
    body.append(row);
  }
  table.append(body);
  return table;
}

/** A metric with its interval. */
function estimate({ value, low, high, reason }) {
  const cell = element("span", number(value));
  if (low !== null && low !== undefined) cell.append(element("span", ` (${number(low)} to ${number(high)})`, "interval"));
  if (value === null && reason) cell.append(element("span", ` (${reason})`, "faint"));
  return cell;
}

function metricRows(metrics, threshold) {
  const positive = metrics.positive;
  const rows = [["Accuracy", estimate(metrics.accuracy)]];
  const names = { sensitivity: "Sensitivity", specificity: "Specificity", precision: "Precision", f1: "F1", auroc: "AUROC", auprc: "AUPRC" };
  for (const [key, name] of Object.entries(names)) {
    const found = metrics[key]?.[positive];
    if (found) rows.push([`${name} of ${positive}`, estimate(found)]);
  }
  const applied = (metrics.thresholds ?? []).find((other) => other.threshold === threshold);
  if (applied) {
    rows.push(["Sensitivity at the threshold", estimate(applied.sensitivity)]);
    rows.push(["Specificity at the threshold", estimate(applied.specificity)]);
  }
  return rows;
}

/** Images by class, and patients, of each split, in the order in which they are used. */
function imageCounts({ images, patients }) {
  const splits = ["train", "validation", "test"];
  const sorted = Object.entries(images ?? {}).sort(([one], [other]) => splits.indexOf(one) - splits.indexOf(other));
  const counts = sorted.map(([split, classes]) => {
    const parts = Object.entries(classes).map(([name, count]) => `${count} ${name}`);
    const known = patients?.[split];
    return `${split}: ${parts.join(", ")}${known === undefined ? "" : ` (${known} patients)`}`;
  });
  return counts.join("; ");
}

async function showCard() {
  const body = byId("card-body");
  const model = chosen();
  byId("card").hidden = !model;
  if (!model) return;
  const path = `v1/models/${encodeURIComponent(model.name)}`;
  let card;
  try {
    card = await call(path);
  } catch (refused) {
    body.replaceChildren(element("p", refused.found));
    return;
  }
  const threshold = card.threshold === null ? null : `${least(card.threshold)} for ${card.positive}: ${card.threshold_source}`;
  const parts = [
    pairs("The model", [
      ["Name", card.name],
      ["Architecture", `${card.architecture}, ${card.image_size} px`],
      ["Classes", card.classes.join(", ")],
      ["Trained layers", card.trained],
      ["Threshold", threshold],
      ["Images", imageCounts(card)],
      ["Weights (SHA-256)", element("span", card.weights_sha256, "hash")],
    ]),
  ];
  for (const warning of card.warnings ?? []) parts.push(element("p", warning, "notice"));
  if (card.metrics) {
    parts.push(element("h3", `How it does on ${card.evaluated_on} (${card.metrics.samples} images, 95 % intervals)`));
    parts.push(pairs("Evaluation", metricRows(card.metrics, card.threshold)));
    if (card.metrics.notes?.length) {
      const list = element("ul");
      list.append(...card.metrics.notes.map((note) => element("li", note.replaceAll("`", ""))));
      parts.push(list);
    }
  } else {
    parts.push(element("p", "This model was not evaluated: how well it does is not known.", "notice"));
  }
  parts.push(...modelCard(card.card));
  if (card.report) parts.push(reportForm(path));
  body.replaceChildren(...parts);
}

/** What `roentgen card` wrote, where it did; else what holds for every model. */
function modelCard(card) {
  const always =
    "It has learned from the images named above and knows nothing else. On images of another hospital, device, age or " +
    "kind it may do worse, and it answers for any picture, also for one that is no chest X-ray.";
  const list = element("ul");
  list.append(...(card?.limits ?? [always]).map((limit) => element("li", limit.replaceAll("`", ""))));
  const parts = [element("h3", "Limits"), list];
  const statements = Object.entries(card?.statements ?? {});
  if (statements.length) {
    const words = (key) => key[0].toUpperCase() + key.slice(1).replaceAll("_", " ");
    parts.push(element("h3", "What its makers say"));
    parts.push(pairs("Statements", statements.map(([key, answer]) => [words(key), answer ?? "not answered yet"])));
  }
  return parts;
}

/** A form, not a link: it carries the token in its body. */
function reportForm(path) {
  const form = element("form");
  Object.assign(form, { method: "post", action: `${path}/report`, target: "_blank", enctype: "multipart/form-data" });
  const field = element("input");
  Object.assign(field, { type: "hidden", name: "token", value: token });
  form.append(field, element("button", "Open the report of its training"));
  return form;
}

// What happens ---------------------------------------------------------------------------------------------------

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  begin();
});
byId("model").addEventListener("change", showCard);
byId("files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  // The same file may be chosen again.
  event.target.value = "";
  classify(files);
});
// A drop beside the field would make the browser leave the page.
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") dropped(event.dataTransfer).then(classify);
  });
}
begin();

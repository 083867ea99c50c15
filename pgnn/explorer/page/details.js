"use strict";

// --- the column of one variable: soft evidence, and its table ---------------------------------------

function choose(k) {
  const last = chosen;
  chosen = k;
  byId("details").hidden = false;
  paintDetails(true).then(() => cardOf(k).element.scrollIntoView({ block: "nearest", inline: "nearest" }));
  for (const number of [last, k]) if (number !== null) cardOf(number).element.classList.toggle("chosen", number === k);
  byId("chosen").focus();
}

function closeDetails() {
  if (chosen === null) return;
  const { element, title } = cardOf(chosen);
  element.classList.remove("chosen");
  byId("details").hidden = true;
  chosen = null;
  title.focus();
}

async function paintDetails(anew = false) {
  const aside = byId("details");
  const key = `${chosen} ${JSON.stringify(shown)}`;
  if (!anew && aside.dataset.key === key) return;
  const same = aside.dataset.key && aside.dataset.key.split(" ")[0] === String(chosen);
  aside.dataset.key = key;
  byId("chosen").textContent = nameOf(chosen);
  byId("relatives").replaceChildren(...relativesOf(chosen));
  replace(byId("soft"), ...sliders());
  if (!same) byId("table").replaceChildren();
  if (model.tables) await table(chosen, key);
}

function relativesOf(k) {
  const { parents, neighbours } = model.variables[k];
  return Object.entries({ parents, children: model.children[k], neighbours }).flatMap(([word, keys]) =>
    (keys.length ? [make("p", {}, `${word}: `, ...keys.flatMap((v, i) => [i ? ", " : "", follow(v)]))] : []));
}

function follow(k) {
  const button = link(k, nameOf(k));
  button.addEventListener("click", () => choose(k));
  return button;
}

// Puts elements in the place of old ones, with the focus on the one that has the same label.
function replace(element, ...children) {
  const focused = element.contains(document.activeElement) && document.activeElement;
  const [label, type] = focused ? [focused.ariaLabel, focused.type] : [];
  element.replaceChildren(...children);
  if (!focused) return;
  const again = [...element.querySelectorAll("input, button")]
    .find((other) => other.ariaLabel === label && other.type === type);
  (again || byId("chosen")).focus();
}

function sliders() {
  const { name, states } = model.variables[chosen];
  const finding = shown.evidence[chosen];
  const start = (s) => (Array.isArray(finding) ? 100 * finding[s] : finding === undefined || finding === s ? 100 : 0);
  const rows = states.map((label, s) => ["range", "number"].map((type) => {
    const input = make("input", { type, min: 0, max: 100, step: "any", value: Number(start(s).toFixed(4)) });
    input.setAttribute("aria-label", `weight of ${name} ${label}`);
    input.addEventListener("input", () => { rows[s][type === "range" ? 1 : 0].value = Math.round(input.value); });
    input.addEventListener("change", () => weigh(rows.map((pair, r) =>
      Number((r === s ? input : pair[1]).value) / 100), input.ariaLabel));
    return input;
  }));
  return [
    make("h3", { textContent: "Soft evidence: weight of each state" }),
    make("p", { textContent: "Weights are relative. All equal: no evidence. One alone: observed." }),
    ...rows.map((pair, s) => make("label", { className: "weight" }, ...pair, ` ${states[s]}`)),
  ];
}

function weigh(weights, hold) {
  if (weights.some((w) => !(w >= 0 && w <= 1))) return fail("a weight lies between 0 and 100");
  if (weights.every((w) => w === 0)) return fail("one weight has to be positive");
  const equal = weights.every((w) => w === weights[0]);
  const positive = weights.flatMap((w, s) => (w > 0 ? [s] : []));
  ask(withFinding(chosen, equal ? null : positive.length === 1 ? positive[0] : weights), { hold });
}

async function table(k, key) {
  let reply;
  try {
    reply = await post("/api/table", { ...shown, variable: k });
  } catch (error) {
    byId("table").replaceChildren(make("p", { textContent: error.message }));
    return;
  }
  if (byId("details").dataset.key !== key) return; // another variable, or a later case
  const { name, states } = model.variables[k];
  const parents = reply.parents.map((p) => model.variables[p]);
  const found = reply.parents.map((p) => shown.evidence[p]);
  const heads = [
    make("tr", {}, ...parents.map((p) => make("th", { scope: "col", rowSpan: 2, textContent: p.name })),
      make("th", { scope: "colgroup", colSpan: states.length, textContent: `P(${name} = ...)` })),
    make("tr", {}, ...states.map((s) => make("th", { scope: "col", textContent: s }))),
  ];
  let above = [];
  const rows = reply.rows.map((row, r) => {
    const place = placeOf(r, parents.map((p) => p.states.length));
    const apart = place.findIndex((s, i) => s !== above[i]); // states before are those of the row above
    const agrees = place.every((s, i) => typeof found[i] !== "number" || found[i] === s);
    const given = place.map((s, i) => `${parents[i].name}=${parents[i].states[s]}`).join(", ");
    const labels = place.map((s, i) =>
      make("th", { scope: "row", className: i < apart ? "same" : "", textContent: parents[i].states[s] }));
    above = place;
    return make("tr", { className: agrees ? "" : "ruled-out" }, ...labels, ...row.map((p, s) =>
      cell(k, [...place, s], p, `P(${name}=${states[s]}${given && ` | ${given}`})`)));
  });
  const reset = make("button", { type: "button", textContent: "Reset this table" });
  reset.addEventListener("click", () =>
    ask({ ...shown, changes: shown.changes.filter((c) => c[0] !== k) }));
  replace(byId("table"), make("h3", { textContent: "What if: probabilities of the table" }),
    make("table", {}, make("thead", {}, ...heads), make("tbody", {}, ...rows)), reset);
}

function placeOf(row, sizes) {
  const place = [];
  for (const size of [...sizes].reverse()) {
    place.unshift(row % size);
    row = Math.floor(row / size);
  }
  return place;
}

function cell(k, place, p, label) {
  const input = make("input", { type: "number", min: 0, max: 1, step: 0.01, value: p });
  input.setAttribute("aria-label", label);
  input.addEventListener("change", () => {
    const value = Number(input.value);
    const wrong = input.value === "" || !(value >= 0 && value <= 1);
    input.setAttribute("aria-invalid", String(wrong));
    if (wrong) return fail(`${label} lies between 0 and 1`);
    ask(withChange(k, place, value));
  });
  const changed = shown.changes.some((c) => c[0] === k && String(c[1]) === String(place));
  return make("td", { className: changed ? "changed" : "" }, input);
}

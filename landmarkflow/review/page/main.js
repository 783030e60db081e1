// The page: which scan and landmark are looked at, what is asked of the server, and the keys.

import { drawLandmarks, drawScans, element, sorted } from "./lists.js";
import { Refused, change, prepare, readScan, readStudy } from "./server.js";
import { Viewer } from "./viewer.js";

const RETRY_MS = 1500;

const byId = (id) => document.getElementById(id);
const state = {
  study: null,
  scan: null, // as the server last told it
  selected: null, // label of the landmark that is looked at
  span: null, // mm that are seen of each plane
  waiting: [], // what is asked and not yet saved, in its order
  isSaving: false,
  isLinked: true, // the template's slices follow the scan's
};

const template = new Viewer(byId("template-view"), { onPick: select, onZoom: zoom });
const scan = new Viewer(byId("scan-view"), {
  onPick: select,
  onMove: (label, position) => ask({ do: "move", landmark: label, position }),
  onLook: follow,
  onTurn: () => template.showAs(scan),
  onZoom: zoom,
});

// What to do, with its keys. The page can be used without a mouse.

const ACTIONS = [
  { keys: ["a"], text: "Accept", hint: "A", main: true, run: accept },
  { keys: ["x"], text: "Not visible", hint: "X", run: hide },
  { keys: ["s"], text: "Set where the slices cross", hint: "S", run: place },
  { keys: ["u", "z"], text: "Undo", hint: "U", run: () => ask({ do: "undo" }) },
  { keys: ["k", "ArrowUp"], text: "Previous", hint: "↑", run: () => step(-1) },
  { keys: ["j", "ArrowDown"], text: "Next", hint: "↓", run: () => step(1) },
  { keys: ["A"], text: "Accept all others", hint: "⇧A", run: acceptAll },
  { keys: ["p", "ArrowLeft"], text: "Previous scan", hint: "←", run: () => stepScan(-1) },
  { keys: ["n", "ArrowRight"], text: "Next scan", hint: "→", run: () => stepScan(1) },
  { keys: ["+", "="], text: "Closer", hint: "+", run: () => zoom(1.25) },
  { keys: ["-"], text: "Further", hint: "−", run: () => zoom(0.8) },
];
// Half a voxel along R, A and S (LPS signs) for each of these keys with Shift.
const NUDGES = {
  ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0],
  ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0],
  PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};

function addActions() {
  for (const action of ACTIONS) {
    const button = element("button", action.main ? "main" : "", action.text);
    button.append(" ", element("kbd", "", action.hint));
    button.addEventListener("click", action.run);
    action.button = button;
    byId("actions").append(button);
  }
  // Before NiiVue, which has keys of its own.
  for (const kind of ["keydown", "keyup"]) {
    window.addEventListener(kind, onKey, { capture: true });
  }
}

function onKey(event) {
  const isWriting = event.target.closest?.("select, input, textarea");
  if (isWriting || event.key === "Tab" || event.altKey) return;
  const withControl = event.ctrlKey || event.metaKey;
  if (withControl && event.key !== "z") return;
  const nudge = event.shiftKey && NUDGES[event.key];
  const action = nudge
    ? { run: () => nudgeBy(nudge) }
    : ACTIONS.find((one) => one.keys.includes(event.key));
  if (event.target === scan.canvas || event.target === template.canvas || action) {
    event.stopPropagation();
  }
  if (!action) return;
  event.preventDefault();
  if (event.type === "keydown") action.run();
}

// Which scan, which landmark

async function open(name) {
  await saved();
  try {
    state.scan = await readScan(name);
  } catch (error) {
    say(error.message, "bad");
    return;
  }
  state.selected = null;
  state.span = null;
  history.replaceState(null, "", `#${name}`);
  const isPicture = state.scan.picture;
  const shown = Promise.all([
    scan.show(`volumes/${name}`, isPicture),
    state.study.template ? template.show(`templates/${name}`, isPicture) : null,
  ]);
  draw();
  await shown;
  if (state.scan.scan !== name) return;
  template.showAs(scan);
  select(nextOpen() ?? ordered()[0].label, true);
  prepareNext();
}

/** Where it fails, it is tried again when the scan is opened. */
function prepareNext() {
  const names = state.study.scans.map((one) => one.scan);
  const next = names[names.indexOf(state.scan.scan) + 1];
  if (next) prepare(`volumes/${next}`).catch(() => {});
}

function select(label, isLookedAt) {
  state.selected = label;
  const point = current();
  state.isLinked = false;
  if (isLookedAt && point?.position) scan.lookAt(point.position, spanOf(point));
  // The template goes along, at the same size.
  if (point?.template) template.lookAt(point.template, scan.loaded ? scan.span : spanOf(point));
  state.isLinked = true;
  draw();
}

/** How much is seen around a landmark: ten radii, and enough to know where one is. */
function spanOf(point) {
  const extent = scan.loaded ? scan.extent : 100;
  state.span ??= extent * (state.scan.picture ? 1 : 0.25);
  return Math.max(state.span, 10 * (point.radius ?? 0));
}

function zoom(factor) {
  scan.zoom(factor);
  template.zoom(factor);
  if (scan.loaded) state.span = scan.span;
}

/** The template's slices go where the scan's are, seen from the landmark. */
function follow() {
  const point = current();
  if (!state.isLinked || !point?.template || !point.position || !scan.loaded) return;
  const crossing = scan.crossing;
  template.cutAt(point.template.map((value, axis) => value + crossing[axis] - point.position[axis]));
}

const current = () => state.scan?.landmarks.find((point) => point.label === state.selected);

const ordered = () => sorted(state.scan.landmarks, byId("order").value);

/** The next landmark about which nobody has decided, after the selected one and then from above. */
function nextOpen() {
  const points = ordered();
  const here = points.findIndex((point) => point.label === state.selected);
  const turned = [...points.slice(here + 1), ...points.slice(0, here + 1)];
  return turned.find((point) => !point.did && point.label !== state.selected)?.label;
}

function step(by) {
  const points = ordered();
  const here = points.findIndex((point) => point.label === state.selected);
  select(points[(here + by + points.length) % points.length].label, true);
}

function stepScan(by) {
  const names = state.study.scans.map((one) => one.scan);
  const here = names.indexOf(state.scan?.scan) + by;
  if (here >= 0 && here < names.length) open(names[here]);
}

// What is decided

function accept() {
  const point = current();
  if (!point) return;
  if (!point.position && !point.detected) {
    say(`${point.label} was not found: set it (S), or say that it is not visible (X).`, "bad");
    return;
  }
  if (!point.did || point.did === "not visible") ask({ do: "accept", landmark: point.label }, true);
  else goOn();
}

function hide() {
  if (current()) ask({ do: "hide", landmark: state.selected }, true);
}

function place() {
  if (current() && scan.loaded) {
    ask({ do: "move", landmark: state.selected, position: scan.crossing });
  }
}

function acceptAll() {
  ask({ do: "accept all" }, true);
}

function nudgeBy(way) {
  const point = current();
  if (!point?.position || !scan.loaded) return;
  const size = scan.voxel / 2;
  const position = point.position.map((value, axis) => value + way[axis] * size);
  scan.cutAt(position);
  ask({ do: "move", landmark: point.label, position });
}

function goOn() {
  const next = nextOpen();
  if (next) select(next, true);
  else say("All landmarks of this scan are decided. → goes to the next scan.", "good");
}

/** Enough points are known now to lay the template as the scan lies. */
async function turnTemplate() {
  await template.show(`templates/${state.scan.scan}`, false);
  template.showAs(scan);
  select(state.selected, true);
}

/** Puts a change behind those that wait; each is saved before the next is sent. */
function ask(asked, goesOn = false) {
  if (!state.scan) return;
  state.waiting.push({ asked, goesOn });
  if (asked.do === "move") {
    const point = state.scan.landmarks.find((one) => one.label === asked.landmark);
    point.position = asked.position;
    point.did = point.detected ? "moved" : "placed";
    draw();
  }
  save();
}

async function save() {
  if (state.isSaving) return;
  state.isSaving = true;
  while (state.waiting.length) {
    try {
      await saveFirst();
    } catch (error) {
      if (error instanceof Refused) {
        await giveUp(error);
      } else {
        // Nothing is given up: the change waits until the server answers again.
        say(`Not saved: the server does not answer. ${waitingText()}`, "bad");
        await new Promise((done) => setTimeout(done, RETRY_MS));
      }
    }
    draw();
  }
  state.isSaving = false;
  window.dispatchEvent(new Event("saved"));
}

async function saveFirst() {
  const { asked, goesOn } = state.waiting[0];
  const before = state.scan;
  state.scan = await change(before.scan, { ...asked, revision: before.revision });
  state.waiting.shift();
  say(`Saved ${new Date().toLocaleTimeString()}`, "good");
  if (state.scan.turned && !before.turned) turnTemplate();
  if (goesOn) goOn();
}

/** The scan is read again as it is; what was asked on top of something else is not done. */
async function giveUp(refusal) {
  const why = refusal.stale ? "somebody else has changed this scan; it is read again" : refusal.message;
  const isRead = await readScan(state.scan.scan).then((found) => (state.scan = found), () => null);
  if (isRead || !refusal.stale) state.waiting = [];
  say(`Not saved: ${why}.`, "bad");
}

const waitingText = () =>
  state.waiting.length === 1 ? "One change waits." : `${state.waiting.length} changes wait.`;

/** Resolves once nothing waits. */
async function saved() {
  while (state.isSaving) {
    await new Promise((done) => window.addEventListener("saved", done, { once: true }));
  }
}

// What is seen

function draw() {
  const found = state.scan;
  if (!found) return;
  const place = state.study.scans.findIndex((one) => one.scan === found.scan);
  Object.assign(state.study.scans[place], { decided: found.decided });
  document.title = `${found.scan} – review`;
  byId("scan-name").textContent = found.scan;
  byId("scan-status").textContent = found.status;
  byId("scan-status").dataset.status = found.status;
  byId("scan-doubt").textContent =
    `${place + 1} of ${state.study.scans.length} by doubt` +
    (found.doubt === null ? "" : `, ${found.doubt.toFixed(2)}`) + (found.side ? `, ${found.side}` : "");
  byId("study-name").textContent = `${state.study.study} / ${state.study.run}, ${state.study.reviewer}`;
  byId("reason").textContent = found.reason;
  const turned = found.turned ? ", turned as the scan lies" : ", not turned: few points are known";
  byId("template-turned").textContent = `as it was annotated${found.picture ? "" : turned}`;
  byId("points-done").textContent = `${found.decided} of ${found.of} decided`;
  drawLists();
  drawPoints();
  for (const action of ACTIONS) {
    if (action.text === "Undo") action.button.disabled = !found.undo;
  }
}

function drawLists() {
  const scans = state.study.scans;
  drawScans(byId("scans"), scans, state.scan?.scan, open);
  const done = scans.filter((one) => one.decided === one.of).length;
  byId("scans-done").textContent = `${done} of ${scans.length} done`;
  drawLandmarks(byId("landmarks"), state.scan?.landmarks ?? [], {
    order: byId("order").value,
    unit: state.study.unit,
    selected: state.selected,
    select: (label) => select(label, true),
  });
}

function drawPoints() {
  const points = state.scan.landmarks;
  const shown = points.map((point) => ({
    label: point.label,
    position: point.position,
    radius: point.did ? null : point.radius,
    kind: point.did ?? "open",
    canMove: true,
  }));
  const selected = current();
  const former = selected?.did === "moved" && selected.detected;
  if (former) {
    // Where it was found stays to be seen beside where it is now.
    shown.unshift({ label: "", position: selected.detected, radius: null, kind: "former", canMove: false });
  }
  if (!scan.drag) scan.setPoints(shown, state.selected);
  const theirs = points.map((point) => ({
    label: point.label,
    position: point.template,
    radius: null,
    kind: "template",
    canMove: false,
  }));
  template.setPoints(theirs, state.selected);
}

function say(text, kind) {
  byId("saved").textContent = text;
  byId("saved").className = kind;
}

// Beginning and end

window.addEventListener("beforeunload", (event) => {
  if (state.waiting.length) event.preventDefault();
});
byId("order").addEventListener("change", draw);

async function begin() {
  addActions();
  state.study = await readStudy();
  if (!state.study.template) document.body.classList.add("without-template");
  await Promise.all([scan.start(), template.start()]);
  const names = state.study.scans.map((one) => one.scan);
  const asked = location.hash.slice(1);
  const first = state.study.scans.find((one) => one.decided < one.of)?.scan ?? names[0];
  drawLists();
  await open(names.includes(asked) ? asked : first);
  document.body.dataset.ready = "yes";
}

begin().catch((error) => say(String(error.message ?? error), "bad"));

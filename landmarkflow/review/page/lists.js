// The two lists: scans by doubt, and landmarks by what is looked at.

const MARKS = { accepted: "✓", moved: "◆", placed: "◆", "not visible": "⊘", open: "○" };

/** How much a landmark is in doubt by the sign that is looked at; 0 where it was not measured. */
function doubtOf(point, order) {
  if (order === "similarity") return point.similarity === null ? 0 : 1 - point.similarity;
  return point.radius ?? 0;
}

/** Landmarks in an order: "radius", "similarity", or "template", as the template has them. */
export function sorted(points, order) {
  if (order === "template") return [...points];
  // What was not found at all comes before what is most in doubt.
  const weight = (point) => (point.detected ? doubtOf(point, order) : Infinity);
  return [...points].sort((a, b) => weight(b) - weight(a));
}

/** Fills the list of scans; `open` is called with the id of one that is chosen. */
export function drawScans(list, scans, current, open) {
  const rows = scans.map((one) => {
    const isDone = one.decided === one.of;
    const button = row(one.scan === current, () => open(one.scan));
    const status = element("span", "status", one.status);
    status.dataset.status = one.status;
    button.append(
      element("span", "name", one.scan),
      status,
      bar(one.doubt ?? 1, 1),
      element("span", `soft count${isDone ? " done" : ""}`, isDone ? "✓" : `${one.decided}/${one.of}`),
    );
    button.title = one.reason || `doubt ${one.doubt?.toFixed(2) ?? "unknown"}`;
    return button;
  });
  fill(list, rows);
}

/** Fills the list of landmarks; `select` is called with the label of one that is chosen. */
export function drawLandmarks(list, points, { order, unit, selected, select }) {
  const largest = Math.max(...points.map((point) => doubtOf(point, order)), 1e-9);
  const rows = sorted(points, order).map((point) => {
    const kind = point.did ?? "open";
    const button = row(point.label === selected, () => select(point.label));
    button.classList.add(kind.replace(" ", "-"));
    button.dataset.label = point.label;
    const far = kind === "moved" && point.moved ? `${point.moved.toFixed(2)} ${unit}` : "";
    const radius = point.radius === null ? "" : `${point.radius.toFixed(2)} ${unit}`;
    const figure = order === "similarity" ? (point.similarity?.toFixed(2) ?? "") : radius;
    button.append(
      element("span", "mark", MARKS[kind]),
      element("span", "name", point.label),
      bar(point.detected ? doubtOf(point, order) : largest, largest),
      element("span", "soft count", point.detected ? figure : "not found"),
      element("span", "what", kind === "open" ? "" : `${kind} ${far}`),
    );
    button.title = titleOf(point, radius);
    return button;
  });
  fill(list, rows);
}

/** An element with a class and a text. */
export function element(kind, className = "", text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

function titleOf(point, radius) {
  const parts = [];
  if (radius) parts.push(`the true place within ${radius} (9 of 10)`);
  if (point.similarity !== null) parts.push(`similarity ${point.similarity.toFixed(2)}`);
  if (point.did) parts.push(`${point.did} by ${point.by} ${point.at}`);
  return parts.join("; ");
}

function row(isCurrent, chosen) {
  const button = element("button", "row");
  button.setAttribute("aria-current", isCurrent);
  button.addEventListener("click", chosen);
  return button;
}

function bar(value, most) {
  const made = element("meter");
  made.max = most;
  made.value = value;
  made.setAttribute("aria-label", "doubt");
  return made;
}

/** Puts rows into a list and scrolls it, and not the page, to the current one. */
function fill(list, buttons) {
  const hadFocus = list.contains(document.activeElement);
  const rows = buttons.map((button) => {
    const made = element("li");
    made.append(button);
    return made;
  });
  list.replaceChildren(...rows);
  const here = list.querySelector("[aria-current=true]");
  if (!here) return;
  if (hadFocus) here.focus({ preventScroll: true });
  const [inner, outer] = [here.getBoundingClientRect(), list.getBoundingClientRect()];
  if (inner.top < outer.top) list.scrollTop -= outer.top - inner.top;
  if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom;
}

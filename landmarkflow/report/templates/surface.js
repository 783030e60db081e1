"use strict";
// Draws the surfaces of the page: triangles from the farthest to the nearest (painter's algorithm)
// on a canvas, which mouse, finger and arrow keys turn. Coordinates are LPS millimetres.

const LIGHT = { detected: "#0b6e99", reference: "#b85c00", ink: "#1d2329", edge: "#ffffff" };
const DARK = { detected: "#6cc3ea", reference: "#ffab4a", ink: "#e4e8eb", edge: "#15191d" };
const BONE = [214, 202, 172];
const SIDES = { L: [1, 0, 0], R: [-1, 0, 0], P: [0, 1, 0], A: [0, -1, 0], S: [0, 0, 1], I: [0, 0, -1] };
const KEYS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
// Radians of a key, and of a pixel; names are written beside so many points.
const KEY_TURN = Math.PI / 18, PIXEL_TURN = 0.01, MOST_NAMED = 6;
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function numbers(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Uint16Array(bytes.buffer);
}

function surfaceOf(canvas, data) {
  const stored = numbers(data.vertices), triangles = numbers(data.triangles), count = stored.length / 3;
  const vertices = Array.from(stored, (value, i) => data.origin[i % 3] + data.step * value);
  const ends = [0, 1, 2].map((axis) => {
    const along = vertices.filter((_, i) => i % 3 === axis);
    return [Math.min(...along), Math.max(...along)];
  });
  const centre = ends.map(([low, high]) => (low + high) / 2);
  const reach = Math.max(...Array.from({ length: count }, (_, i) =>
    Math.hypot(...[0, 1, 2].map((axis) => vertices[3 * i + axis] - centre[axis]))));
  // At 0, 0 it is seen from the front: the patient's right is on the left, superior is up.
  let turn = 0.5, tilt = 0.3, zoom = 1;

  // To the right, up, and away from who looks, mm; directions where no place is meant.
  function seen(point, from = centre) {
    const [x, y, z] = point.map((value, axis) => value - from[axis]);
    const back = y * Math.cos(turn) - x * Math.sin(turn);
    return [
      x * Math.cos(turn) + y * Math.sin(turn),
      z * Math.cos(tilt) + back * Math.sin(tilt),
      back * Math.cos(tilt) - z * Math.sin(tilt),
    ];
  }

  function faces() {
    const at = Array.from({ length: count }, (_, i) => seen(vertices.slice(3 * i, 3 * i + 3)));
    const found = [];
    for (let i = 0; i < triangles.length; i += 3) {
      const [a, b, c] = [at[triangles[i]], at[triangles[i + 1]], at[triangles[i + 2]]];
      const u = [b[0] - a[0], b[1] - a[1], b[2] - a[2]], v = [c[0] - a[0], c[1] - a[1], c[2] - a[2]];
      const area = u[0] * v[1] - u[1] * v[0];
      if (area <= 0) continue;  // Its inside would be seen.
      // Of the outward normal; the third coordinate points away from who looks.
      const nx = u[2] * v[1] - u[1] * v[2], ny = u[0] * v[2] - u[2] * v[0];
      // Lit from above, a little from the left, and from who looks.
      const light = (0.85 * area + 0.4 * ny - 0.3 * nx) / (Math.hypot(nx, ny, area) || 1);
      found.push({ corners: [a, b, c], away: (a[2] + b[2] + c[2]) / 3, light: Math.max(0, light) });
    }
    return found.sort((one, other) => other.away - one.away);
  }

  // Whether a face lies between a place and who looks.
  function hides(face, place) {
    const [a, b, c] = face.corners;
    if (face.away > place[2] - 0.02 * reach) return false;
    const side = (p, q) => (q[0] - p[0]) * (place[1] - p[1]) - (q[1] - p[1]) * (place[0] - p[0]);
    return side(a, b) >= 0 && side(b, c) >= 0 && side(c, a) >= 0;
  }

  function draw(colours = dark.matches ? DARK : LIGHT) {
    const density = window.devicePixelRatio || 1, size = canvas.clientWidth;
    if (!size) return;
    canvas.width = canvas.height = Math.round(size * density);
    const pen = canvas.getContext("2d"), scale = (zoom * 0.42 * size) / reach;
    pen.scale(density, density);
    pen.translate(size / 2, size / 2);
    const drawn = faces();
    for (const { corners, light } of drawn) {
      pen.beginPath();
      for (const [right, up] of corners) pen.lineTo(right * scale, -up * scale);
      pen.closePath();
      pen.fillStyle = pen.strokeStyle = `rgb(${BONE.map((part) => Math.round(part * (0.3 + 0.7 * light)))})`;
      pen.fill();
      pen.stroke();
    }
    pen.font = "600 13px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const [letter, direction] of Object.entries(SIDES)) {
      const [right, up, away] = seen(direction, [0, 0, 0]);
      if (Math.abs(away) > 0.8) continue;
      pen.globalAlpha = away > 0 ? 0.5 : 0.9;
      pen.fillStyle = colours.ink;
      pen.fillText(letter, right * 0.47 * size, -up * 0.47 * size);
    }
    pen.textAlign = "left";
    const named = [];
    data.points.forEach((point, number) => {
      for (const kind of ["reference", "detected"]) {
        if (!point[kind]) continue;
        const place = seen(point[kind]), [x, y] = [place[0] * scale, -place[1] * scale];
        pen.globalAlpha = drawn.some((face) => hides(face, place)) ? 0.45 : 1;
        const ring = (radius, width, colour) => {
          pen.beginPath();
          pen.arc(x, y, radius, 0, 2 * Math.PI);
          pen.lineWidth = width;
          pen.strokeStyle = colour;
          pen.stroke();
        };
        const radius = kind === "reference" ? 6 : Math.max(4, (point.radius || 0) * scale);
        ring(radius, 4, colours.edge);
        ring(radius, 2, colours[kind]);
        if (kind === "reference") continue;
        pen.fillStyle = colours.detected;
        pen.fillRect(x - 1.5, y - 1.5, 3, 3);
        if (number < MOST_NAMED) named.push([y, x + radius + 5, `${point.label} ${point.said}`.trim()]);
      }
    });
    pen.globalAlpha = 1;
    pen.lineWidth = 4;
    pen.strokeStyle = colours.edge;
    pen.fillStyle = colours.detected;
    // From the top down, each at least a line below the last.
    let line = -size;
    for (const [y, x, name] of named.sort((one, other) => one[0] - other[0])) {
      line = Math.max(y, line + 15);
      const left = Math.min(x, size / 2 - pen.measureText(name).width - 4);
      pen.strokeText(name, left, line);
      pen.fillText(name, left, line);
    }
    canvas.dataset.turned = `${Math.round((turn * 180) / Math.PI)} ${Math.round((tilt * 180) / Math.PI)}`;
  }

  function turned(right, down) {
    turn = (turn + right) % (2 * Math.PI);
    tilt = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, tilt + down));
    draw();
  }

  canvas.addEventListener("keydown", (event) => {
    const key = KEYS[event.key];
    if (key) turned(key[0] * KEY_TURN, key[1] * KEY_TURN);
    else if (event.key === "+" || event.key === "-") zoom *= event.key === "+" ? 1.15 : 1 / 1.15;
    else if (event.key === "Home") [turn, tilt, zoom] = [0, 0, 1];
    else return;
    event.preventDefault();
    draw();
  });
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    last = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    turned((last[0] - event.clientX) * PIXEL_TURN, (event.clientY - last[1]) * PIXEL_TURN);
    last = [event.clientX, event.clientY];
  });
  new ResizeObserver(() => draw()).observe(canvas);
  dark.addEventListener("change", () => draw());
  window.addEventListener("beforeprint", () => draw(LIGHT));
  window.addEventListener("afterprint", () => draw());
}

// Only what is opened is read and drawn.
for (const details of document.querySelectorAll("details.more")) {
  details.addEventListener("toggle", () => {
    const canvas = details.querySelector("canvas:not([data-turned])");
    if (details.open && canvas) surfaceOf(canvas, JSON.parse(canvas.nextElementSibling.textContent));
  });
}

// One volume in three planes and in 3D, with points that lie over it and can be dragged.

import { Niivue } from "./niivue.js";
import { otherFrame } from "./frames.js";
import { readVolume } from "./server.js";

const SVG = "http://www.w3.org/2000/svg";
// NiiVue's numbers of kinds of tiles, and the axis (R, A, S) that each plane cuts.
const AXIAL = 0, CORONAL = 1, SAGITTAL = 2, RENDER = 4;
const AXIS = { [AXIAL]: 2, [CORONAL]: 1, [SAGITTAL]: 0 };
const GRID = [
  { sliceType: AXIAL, position: [0, 0, 0.5, 0.5] },
  { sliceType: CORONAL, position: [0.5, 0, 0.5, 0.5] },
  { sliceType: SAGITTAL, position: [0, 0.5, 0.5, 0.5] },
  { sliceType: RENDER, position: [0.5, 0.5, 0.5, 0.5] },
];
const ALONE = [{ sliceType: AXIAL, position: [0, 0, 1, 1] }];
// A drag that is shorter, in screen pixels, is a click; so near to a point in 3D it is one on it.
const CLICK = 3, NEAR = 9;
// One of so many voxels is asked, and so large a part of them is seen in a scan that is filled.
const SAMPLED = 1009, FILLED = 0.3;
const OPTIONS = {
  isResizeCanvas: true,
  dragAndDropEnabled: false,
  // As radiologists and 3D Slicer have it: the patient's right is on the left.
  isRadiologicalConvention: true,
  // Lines of our own are as thin at any zoom.
  crosshairWidth: 0,
  show3Dcrosshair: false,
  backColor: [0, 0, 0, 1],
  // The right button changes the window: across its width, up and down its level.
  dragMode: 9,
  loadingText: "",
  logLevel: "error",
  isAntiAlias: false,
};

export class Viewer {
  /**
   * @param {HTMLElement} figure with a canvas, an svg over it, and a paragraph for trouble
   * @param {{onPick?: function(string, boolean), onMove?: function(string, number[]),
   *   onLook?: function(), onTurn?: function(), onZoom?: function(number)}} told of a point that a
   *   person picks and whether it is to be looked at, of where one was dragged to (LPS mm), that
   *   the slices moved, that the surface was turned or sized, and by how much to come closer
   */
  constructor(figure, told = {}) {
    this.canvas = figure.querySelector("canvas");
    this.svg = figure.querySelector("svg");
    this.trouble = figure.querySelector(".trouble");
    this.told = told;
    this.points = [];
    this.selected = null;
    this.drag = null;
    this.loaded = false;
    this.niivue = new Niivue(OPTIONS);
  }

  /** Ties NiiVue to the canvas; once. */
  async start() {
    await this.niivue.attachToCanvas(this.canvas);
    this.#fillTiles();
    const draw = this.niivue.drawScene.bind(this.niivue);
    this.niivue.drawScene = (...given) => {
      const drawn = draw(...given);
      this.drawPoints();
      return drawn;
    };
    this.niivue.onLocationChange = () => this.told.onLook?.();
    this.niivue.scene.onAzimuthElevationChange = () => this.told.onTurn?.();
    this.niivue.onZoom3DChange = () => this.told.onTurn?.();
    this.svg.addEventListener("pointerdown", (event) => this.#down(event));
    this.svg.addEventListener("pointermove", (event) => this.#moved(event));
    this.svg.addEventListener("pointerup", (event) => this.#up(event));
    this.svg.addEventListener("pointercancel", () => this.#dropped());
    // Handles lie over the canvas: what is meant for the slice is passed on to it.
    this.svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.canvas.dispatchEvent(new WheelEvent("wheel", event));
    });
    this.canvas.parentElement.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.shiftKey) return;
        event.preventDefault();
        event.stopPropagation();
        this.told.onZoom?.((event.deltaY || event.deltaX) < 0 ? 1.15 : 1 / 1.15);
      },
      { capture: true, passive: false },
    );
    // In 3D a drag turns the surface, wherever it begins; a click picks the point that is near.
    let start = [0, 0];
    this.canvas.addEventListener("mousedown", (event) => (start = [event.clientX, event.clientY]));
    this.canvas.addEventListener("click", (event) => {
      const way = Math.hypot(event.clientX - start[0], event.clientY - start[1]);
      if (way < CLICK) this.#pickInSpace(event.offsetX, event.offsetY);
    });
  }

  /**
   * Shows a volume in place of the one before; a picture has one plane.
   * Says so in the volume's place where the server has none. Of two calls the later one counts.
   */
  async show(address, isPicture) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.#empty("");
    try {
      const content = await readVolume(address);
      if (turn !== this.turn) return;
      await this.niivue.loadFromArrayBuffer(content, "volume.nii");
      if (turn !== this.turn) return;
      this.isPicture = isPicture;
      this.niivue.opts.isOrientationTextVisible = !isPicture;
      this.loaded = true;
      if (!isPicture) await this.#lightSurface();
      this.niivue.setCustomLayout(isPicture ? ALONE : GRID);
    } catch (error) {
      if (turn === this.turn) this.#empty(String(error.message ?? error));
    }
  }

  #empty(sentence) {
    this.loaded = false;
    this.trouble.textContent = sentence;
    for (const volume of [...this.niivue.volumes]) this.niivue.removeVolume(volume);
    this.drawPoints();
  }

  /** Points to draw: label, position (LPS mm), radius (mm), kind, and whether it can be dragged. */
  setPoints(points, selected) {
    this.points = points;
    this.selected = selected;
    this.drawPoints();
  }

  /** Looks at a place (LPS mm) so that about `span` mm are seen of each plane. */
  lookAt(position, span) {
    if (!this.loaded) return;
    const frac = this.#fracOf(position);
    this.niivue.scene.crosshairPos = frac;
    this.#zoomTo(frac, this.extent / Math.min(span, this.extent));
  }

  /** Moves the slices to a place without moving the view. */
  cutAt(position) {
    if (!this.loaded) return;
    this.niivue.scene.crosshairPos = this.#fracOf(position);
    this.niivue.drawScene();
  }

  /** How many mm are seen along the longest side. */
  get span() {
    return this.extent / this.niivue.scene.pan2Dxyzmm[3];
  }

  /** Shows more or less, the slices' crossing in the middle. */
  zoom(factor) {
    if (!this.loaded) return;
    const now = this.niivue.scene.pan2Dxyzmm[3];
    this.#zoomTo(this.niivue.scene.crosshairPos, Math.max(1, Math.min(40, now * factor)));
  }

  /** Where the slices cross, LPS mm. */
  get crossing() {
    const place = this.niivue.frac2mm(this.niivue.scene.crosshairPos, 0, true);
    return otherFrame([place[0], place[1], place[2]]);
  }

  /** The longest side of the volume, mm. */
  get extent() {
    return Math.max(...this.#sizes());
  }

  /** The smallest side of a voxel, mm. */
  get voxel() {
    return Math.min(...this.niivue.volumes[0].pixDimsRAS.slice(1, 4));
  }

  /** Draws the points over what NiiVue has drawn. */
  drawPoints() {
    const shapes = [];
    this.inSpace = [];
    if (this.loaded && this.niivue.volumes.length) {
      const ratio = this.niivue.uiData.dpr || 1;
      if (!this.isPicture) shapes.push(this.#frame());
      this.niivue.screenSlices.forEach((tile, index) => {
        shapes.push(...this.#lines(tile, index, ratio));
        for (const point of this.#inOrder()) {
          const drawn =
            tile.axCorSag === RENDER
              ? this.#inSpace(point, tile, ratio)
              : this.#onSlice(point, tile, index, ratio);
          if (drawn) shapes.push(drawn);
        }
      });
    }
    this.svg.replaceChildren(...shapes);
  }

  /** The selected point last, over all others. */
  #inOrder() {
    const there = this.points.filter((point) => point.position);
    return there.sort((a, b) => (a.label === this.selected) - (b.label === this.selected));
  }

  /** What parts the tiles. */
  #frame() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    return shape("path", { d: `M${width / 2} 0V${height}M0 ${height / 2}H${width}`, class: "frame" });
  }

  /** Where the other planes cut this one; open in the middle, where the landmark is. */
  #lines(tile, index, ratio) {
    if (AXIS[tile.axCorSag] === undefined || this.isPicture) return [];
    const hit = this.niivue.frac2canvasPosWithTile(
      [...this.niivue.scene.crosshairPos], tile.axCorSag,
    );
    if (hit?.tileIndex !== index) return [];
    const [left, top, width, height] = tile.leftTopWidthHeight.map((value) => value / ratio);
    const [right, x] = [left + Math.abs(width), hit.pos[0] / ratio];
    const [bottom, y] = [top + height, hit.pos[1] / ratio];
    const gap = 14;
    const d =
      `M${left} ${y}H${Math.max(left, x - gap)}M${Math.min(right, x + gap)} ${y}H${right}` +
      `M${x} ${top}V${Math.max(top, y - gap)}M${x} ${Math.min(bottom, y + gap)}V${bottom}`;
    return [shape("path", { d, class: "lines" })];
  }

  #onSlice(point, tile, index, ratio) {
    const axis = AXIS[tile.axCorSag];
    if (axis === undefined || !tile.fovMM[0]) return null;
    const frac = this.#fracOf(point.position);
    const cut = this.niivue.scene.crosshairPos[axis];
    const depth = Math.abs(frac[axis] - cut) * this.#sizes()[axis];
    const isSelected = point.label === this.selected;
    const reach = Math.max(point.radius ?? 0, 1.5 * this.voxel);
    if (depth > reach && !isSelected) return null;
    const flat = [...frac];
    flat[axis] = cut;
    const hit = this.niivue.frac2canvasPosWithTile(flat, tile.axCorSag);
    if (!hit || hit.tileIndex !== index) return null;
    const [x, y] = [hit.pos[0] / ratio, hit.pos[1] / ratio];
    const scale = Math.abs(tile.leftTopWidthHeight[2] / tile.fovMM[0]) / ratio;
    const group = this.#group(point, x, y, isSelected, depth > reach);
    group.dataset.tile = index;
    const ring = Math.sqrt(Math.max((point.radius ?? 0) ** 2 - depth ** 2, 0)) * scale;
    if (ring > 4) group.append(shape("circle", { r: ring, class: "radius" }));
    group.append(...mark(point.kind, isSelected ? 7 : 5));
    if (isSelected) group.append(name(point.label));
    group.append(shape("circle", { r: 12, class: "handle" }));
    return group;
  }

  #inSpace(point, tile, ratio) {
    const { renderAzimuth, renderElevation } = this.niivue.scene;
    const place = tile.leftTopWidthHeight;
    const [projection] = this.niivue.calculateMvpMatrix(null, place, renderAzimuth, renderElevation);
    const hit = this.niivue.calculateScreenPoint(otherFrame(point.position), projection, place);
    const [x, y] = [hit[0] / ratio, hit[1] / ratio];
    this.inSpace.push({ label: point.label, x, y });
    const isSelected = point.label === this.selected;
    const group = this.#group(point, x, y, isSelected, false);
    group.append(...mark(point.kind, isSelected ? 6 : 3));
    if (isSelected) group.append(name(point.label));
    return group;
  }

  #pickInSpace(x, y) {
    const away = (point) => Math.hypot(point.x - x, point.y - y);
    const [nearest] = this.inSpace.filter((point) => point.label).sort((a, b) => away(a) - away(b));
    if (nearest && away(nearest) < NEAR) this.told.onPick?.(nearest.label, true);
  }

  #group(point, x, y, isSelected, isFar) {
    const kinds = [point.kind.replace(" ", "-"), isSelected && "selected", isFar && "far"];
    const group = shape("g", {
      transform: `translate(${x} ${y})`,
      class: ["point", point.canMove && "can-move", ...kinds].filter(Boolean).join(" "),
    });
    group.dataset.label = point.label;
    return group;
  }

  #down(event) {
    const group = event.target.closest?.(".point");
    if (!group || event.button !== 0) return;
    event.preventDefault();
    const point = this.points.find((one) => one.label === group.dataset.label);
    const tile = group.dataset.tile;
    this.told.onPick?.(point.label, !point.canMove);
    if (!point.canMove) return;
    // The slice goes through the point before it is moved: what is seen is what is moved.
    this.cutAt(point.position);
    this.svg.setPointerCapture(event.pointerId);
    const start = [event.clientX, event.clientY];
    this.drag = { label: point.label, tile: Number(tile), start, from: point.position, far: false };
  }

  #moved(event) {
    if (!this.drag) return;
    const way = Math.hypot(event.clientX - this.drag.start[0], event.clientY - this.drag.start[1]);
    this.drag.far ||= way >= CLICK;
    if (!this.drag.far) return;
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.niivue.uiData.dpr || 1;
    const at = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    const frac = this.niivue.screenXY2TextureFrac(at[0], at[1], this.drag.tile);
    // Outside the slice the point waits at its edge.
    if (frac[0] < 0) return;
    const point = this.points.find((one) => one.label === this.drag.label);
    const axis = AXIS[this.niivue.screenSlices[this.drag.tile].axCorSag];
    frac[axis] = this.#fracOf(point.position)[axis];
    const place = this.niivue.frac2mm(frac, 0, true);
    point.position = otherFrame([place[0], place[1], place[2]]);
    this.cutAt(point.position);
  }

  #up(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    this.svg.releasePointerCapture(event.pointerId);
    const point = this.points.find((one) => one.label === drag.label);
    if (drag.far && point) this.told.onMove?.(drag.label, point.position);
  }

  #dropped() {
    if (!this.drag) return;
    const point = this.points.find((one) => one.label === this.drag.label);
    if (point) point.position = this.drag.from;
    this.drag = null;
    this.niivue.drawScene();
  }

  /** Turns and sizes the surface as another viewer shows its own. */
  showAs(other) {
    if (!this.loaded || !other.loaded) return;
    const { renderAzimuth, renderElevation, volScaleMultiplier } = other.niivue.scene;
    this.niivue.scene.renderAzimuth = renderAzimuth;
    this.niivue.scene.renderElevation = renderElevation;
    const size = this.niivue.furthestFromPivot / other.niivue.furthestFromPivot;
    this.niivue.scene.volScaleMultiplier = volScaleMultiplier * size;
    this.niivue.drawScene();
  }

  /**
   * A scan that is filled with flesh would be a block in 3D: there what is even is seen through,
   * and edges, of bone say, are lit.
   */
  async #lightSurface() {
    const { img, cal_min: black, cal_max: white } = this.niivue.volumes[0];
    const some = img.filter((_, place) => place % SAMPLED === 0);
    const seen = some.filter((value) => value > black + (white - black) / 4).length / some.length;
    const amount = seen > FILLED ? 0.4 : 0;
    if (this.niivue.opts.gradientOpacity === amount && !amount) return;
    await this.niivue.setVolumeRenderIllumination(amount);
    await this.niivue.setGradientOpacity(amount);
  }

  /** NiiVue gives a tile the shape of its slice; here a slice is seen in all of its tile. */
  #fillTiles() {
    this.niivue.calculateWidthHeight = (kind, scale, width, height) => [width, height];
    const view = this.niivue.screenFieldOfViewExtendedVox.bind(this.niivue);
    this.niivue.screenFieldOfViewExtendedVox = (kind) => {
      const seen = view(kind);
      // Tiles have the shape of the canvas: it is cut into four, or not at all.
      const shape = this.canvas.width / this.canvas.height;
      const [width, height] = seen.fovMM;
      const wanted = [Math.max(width, height * shape), Math.max(height, width / shape)];
      for (const axis of [0, 1]) {
        const more = (wanted[axis] - seen.fovMM[axis]) / 2;
        seen.mnMM[axis] -= more;
        seen.mxMM[axis] += more;
        seen.fovMM[axis] = wanted[axis];
      }
      return seen;
    };
  }

  #zoomTo(frac, zoom) {
    const middle = this.niivue.frac2mm([0.5, 0.5, 0.5]);
    const place = this.niivue.frac2mm(frac);
    const pan = [0, 1, 2].map((axis) => middle[axis] - zoom * place[axis]);
    this.niivue.setPan2Dxyzmm([...pan, zoom]);
  }

  #fracOf(position) {
    return [...this.niivue.mm2frac(otherFrame(position), 0, true)];
  }

  /** Sides of the volume along R, A and S, mm. */
  #sizes() {
    const { dimsRAS, pixDimsRAS } = this.niivue.volumes[0];
    return [1, 2, 3].map((axis) => dimsRAS[axis] * pixDimsRAS[axis]);
  }
}

function shape(kind, given) {
  const made = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
  return made;
}

/** A point's mark: kinds differ in their shape, too, not in their colour alone. */
function mark(kind, size) {
  const s = size;
  const paths = {
    open: `M${-s} 0H${-s / 3}M${s / 3} 0H${s}M0 ${-s}V${-s / 3}M0 ${s / 3}V${s}`,
    accepted: `M${-s} 0H${s}M0 ${-s}V${s}`,
    moved: `M0 ${-s}L${s} 0L0 ${s}L${-s} 0Z`,
    placed: `M0 ${-s}L${s} 0L0 ${s}L${-s} 0Z`,
    template: `M${-s} 0H${s}M0 ${-s}V${s}`,
    former: `M${-s} ${-s}L${s} ${s}M${-s} ${s}L${s} ${-s}`,
  };
  const d = paths[kind] ?? paths.open;
  return [shape("path", { d, class: "halo" }), shape("path", { d, class: "mark" })];
}

function name(label) {
  const text = shape("text", { x: 10, y: -10 });
  text.textContent = label;
  return text;
}

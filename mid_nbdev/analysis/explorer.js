// The explorer's front end: one plain module, no build step, no dependency.
//
// It draws and computes no answer of its own. It asks a *source*: in a live notebook the kernel (`fromKernel`), on a page
// numbers that were computed when the page was built (`fromPage`). Every question has a slot and a number; an answer
// whose number is not the slot's latest is dropped, so what is shown is always what was asked for last.

const COLORS = {}; // of each kind of crop, as in the figures; told at the start
const LEVELS = ["softmax", "logit", "feature"];
const PLACES = ["top left", "top right", "bottom left", "bottom right", "center"];
const TALLEST = 470; // of a photo, pixels
const PATIENCE = 4000; // milliseconds without an answer, after which the page says so
const VIRIDIS = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];
const FILTER_HELP = {
  corrected: "the center crop is wrong, the average is right",
  broken: "the center crop is right, the average is wrong",
  changed: "the average and the center crop predict different classes",
  unsure: "the average's confidence is below 50 %",
  all: "every image",
};

// ---------------------------------------------------------------------------------------------------- small helpers

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "path", "line", "text", "circle", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const percent = (thousandths) => `${Math.round(thousandths / 10)} %`;
const signed = (number) => (number < 0 ? "\u2212" : "+") + Math.abs(number).toFixed(2);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function mark(found, label) {
  if (label === null || label === undefined) return null;
  const right = found === label;
  return make("i", { class: `mark ${right ? "right" : "wrong"}`, role: "img", "aria-label": right ? "right" : "wrong" },
    right ? "\u2713" : "\u2717");
}

function kindName(kind, number) {
  if (kind === "CC") return "center";
  const mirrored = kind.startsWith("M") ? " \u2194" : "";
  if (kind.endsWith("FC")) return PLACES[number] + mirrored;
  if (kind.endsWith("FULL")) return "whole" + mirrored;
  return (kind.includes("Q") ? "quasi " : "random ") + (number + 1) + mirrored;
}

const isMirrored = (kind) => kind.startsWith("M");
const isRandom = (kind) => kind.endsWith("RC");

// Viridis in 256 shades, as a canvas stores them; mixed with a little gray for the lines of the hatch.
function shades(mixed) {
  return Uint32Array.from({ length: 256 }, (_, shade) => {
    const place = (shade / 255) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
    const [red, green, blue] = VIRIDIS[low].map((from, channel) => mixed(from + (VIRIDIS[low + 1][channel] - from) * (place - low)));
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
}
const SHADES = shades((value) => value);
const HATCH = shades((value) => value * 0.35 + 150);

// ----------------------------------------------------------------------------------------------------------- sources

// The kernel of a live notebook: questions are messages, and so are answers. Each view of a widget hears its own.
export function fromKernel(model) {
  const view = Math.random().toString(36).slice(2);
  let listener = () => {};
  const heard = (answer) => { if (answer.view === view) listener(answer); };
  model.on("msg:custom", heard);
  return {
    start: model.get("start"),
    ask: (question) => model.send({ view, ...question }),
    listen: (hears) => { listener = hears; },
    stop: () => model.off("msg:custom", heard),
  };
}

// Numbers in the page: `scenes` by image, recipe and seed; `maps` and `items` by image.
export function fromPage(data) {
  let listener = () => {};
  const answers = {
    scene: ({ image, panes, seed }) => panes.map(({ recipe }, pane) => {
      const scene = data.scenes[`${image}|${recipe}|${seed}`] ?? data.scenes[`${image}|${recipe}|0`];
      return { pane, scene: { ...scene, picture: data.pictures[image] } };
    }),
    map: ({ image, panes }) => panes.map((_, pane) => ({ pane, map: data.maps[image] })),
    place: ({ image, panes, top, left }) => panes.map((_, pane) => ({ pane, place: placeOfMap(data.maps[image], top, left) })),
    strip: ({ filter, recipe }) => {
      const items = data.items[recipe];
      const counts = Object.fromEntries(data.start.filters.map((name) => [name, items.filter((item) => item.filters.includes(name)).length]));
      const shown = items.filter((item) => item.filters.includes(filter));
      return [{ items: shown.map((item) => ({ ...item, thumb: data.pictures[item.image] })), counts, offset: 0, total: shown.length }];
    },
  };
  const answer = (question) => {
    for (const found of answers[question.slot](question)) {
      listener({ slot: question.slot, number: question.number, names: data.names, ...found });
    }
  };
  return {
    start: data.start,
    ask: (question) => queueMicrotask(() => answer(question)),
    listen: (hears) => { listener = hears; },
    stop: () => { listener = () => {}; },
  };
}

// On a page the hand snaps to the nearest place that was computed.
function placeOfMap(map, top, left) {
  const nearest = (values, value) => values.reduce((best, one, place) => (Math.abs(one - value) < Math.abs(values[best] - value) ? place : best), 0);
  const row = nearest(map.tops, top);
  const column = nearest(map.lefts, left);
  const place = row * map.lefts.length + column;
  const classes = Object.keys(map.p).map(Number);
  const ordered = classes.map((number) => [number, map.p[number][place]]).sort((a, b) => b[1] - a[1]);
  if (!map.p[map.first[place]]) ordered.unshift([map.first[place], map.firstP[place]]);
  const first = ordered.findIndex(([number]) => number === map.first[place]);
  ordered.unshift(...ordered.splice(first, 1));
  return { box: [map.tops[row], map.lefts[column], map.size, 0], top: ordered.slice(0, 3).flat() };
}

// ------------------------------------------------------------------------------------------------------ the heat map

// For each pixel along an edge: the places before and behind it, and how far it is on the way, from 0 to 1.
function between(places, pixels) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const at = (places.at(-1) * (pixel + 0.5)) / pixels;
    const high = places.findIndex((place) => place >= at);
    const low = Math.max(high - 1, 0);
    return [low, high, high > low ? (at - places[low]) / (places[high] - places[low]) : 0];
  });
}

// Paints a map into a canvas: bilinear between the places, and hatched where another class leads at the nearest one.
function paint(canvas, map, chosen, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const values = map.p[chosen];
  const columns = map.lefts.length;
  const across = between(map.lefts, canvas.width);
  let pixel = 0;
  between(map.tops, canvas.height).forEach(([upper, lower, down], y) => {
    const [above, below] = [upper * columns, lower * columns];
    const nearest = down < 0.5 ? above : below;
    across.forEach(([left, right, along], x) => {
      const over = values[above + left] * (1 - along) + values[above + right] * along;
      const under = values[below + left] * (1 - along) + values[below + right] * along;
      const shade = Math.round((over * (1 - down) + under * down) * 0.255);
      const leads = map.first[nearest + (along < 0.5 ? left : right)] === chosen;
      pixels[pixel] = (leads || (x + y) % (7 * ratio) >= 1.6 * ratio ? SHADES : HATCH)[shade];
      pixel += 1;
    });
  });
  context.putImageData(image, 0, 0);
}

// A crop's place: a diamond for the center, squares for fixed crops, discs for random ones; open where mirrored.
function dot(kind, x, y, size = 4.5) {
  const shape = { fill: isMirrored(kind) ? "rgba(255,255,255,.35)" : COLORS[kind], stroke: isMirrored(kind) ? COLORS[kind] : "#fff" };
  const outline = { ...shape, "stroke-width": isMirrored(kind) ? 2.2 : 1.4 };
  if (isRandom(kind)) return make("circle", { cx: x, cy: y, r: size, ...outline });
  const turn = kind === "CC" ? `rotate(45 ${x} ${y})` : null;
  return make("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, transform: turn, ...outline });
}

// ---------------------------------------------------------------------------------------------------- one image, once

class Pane {
  constructor(explorer, index) {
    this.explorer = explorer;
    this.index = index;
    this.scene = null;
    this.map = null;
    this.lit = null;
    this.painted = [];
    this.space = null;
    this.timer = null;
    this.id = `mid-${Math.random().toString(36).slice(2, 9)}`;
    this.build();
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.root);
  }

  build() {
    const { start } = this.explorer;
    const name = this.index ? "second" : "first";
    this.network = make("select", { "aria-label": `${name} network`, onchange: () => this.explorer.changePane(this.index, { network: Number(this.network.value) }) },
      start.networks.map((one, number) => make("option", { value: number }, one)));
    this.recipe = start.fixed
      ? make("select", { "aria-label": `${name} recipe`, onchange: () => this.explorer.changePane(this.index, { recipe: this.recipe.value }) },
        start.recipes.map((one) => make("option", {}, one)))
      : make("input", { type: "text", list: `${this.id}-recipes`, "aria-label": `${name} recipe`, spellcheck: "false", autocomplete: "off",
        onchange: () => this.askRecipe(), onkeydown: (event) => { if (event.key === "Enter") this.askRecipe(); } });
    this.error = make("div", { class: "error", role: "alert" });
    this.title = make("h3");
    this.story = make("p", { class: "quiet" });
    this.buildPhoto();
    this.buildAverage();
    this.root = make("section", { class: "pane", "aria-label": `${name} view` },
      make("div", { class: "head" },
        make("div", { class: "bar" },
          start.networks.length > 1 ? make("label", {}, "network", this.network) : null,
          make("label", {}, "recipe", this.recipe),
          make("datalist", { id: `${this.id}-recipes` }, start.recipes.map((one) => make("option", { value: one })))),
        this.error, this.title, this.story),
      this.left, this.right);
  }

  buildPhoto() {
    this.image = make("img", { alt: "", draggable: "false" });
    this.heat = make("canvas", { "aria-hidden": "true" });
    this.boxes = make("g");
    this.handle = make("g", { class: "hand", tabindex: 0, role: "application", "aria-roledescription": "crop that can be moved",
      onkeydown: (event) => this.nudge(event) },
    make("rect", { class: "under" }), make("rect", { class: "over" }), make("circle", { class: "grip" }));
    this.drawing = make("svg", { "aria-label": "boxes of the crops" }, this.boxes, this.handle);
    this.photo = make("div", { class: "photo", onpointermove: (event) => this.pointAt(event), onpointerleave: () => this.light(null) }, this.image, this.heat, this.drawing);
    this.chosen = make("select", { "aria-label": "class of the map", onchange: () => this.explorer.choose(Number(this.chosen.value)) });
    this.mapState = make("span", { class: "quiet" });
    this.mapCanvas = make("canvas", { role: "img" });
    this.dots = make("g");
    this.ring = make("g", { class: "ring" }, make("circle", { class: "under", r: 9 }), make("circle", { class: "over", r: 9 }));
    this.mapDots = make("svg", { "aria-hidden": "true" }, this.dots, this.ring);
    this.mapBox = make("div", { class: "map" }, this.mapCanvas, this.mapDots);
    this.answer = make("p", { class: "answer quiet" });
    this.left = make("div", { class: "body" },
      this.photo,
      make("div", { class: "maphead" }, "Probability of", this.chosen, "by the position of the crop's center", this.mapState),
      this.mapBox,
      make("div", { class: "scale" }, "0", make("i"), "1", make("i", { class: "hatch" }), "another class leads"),
      this.answer);
    this.onDrag(this.handle, (event) => {
      const point = this.spot(event);
      if (event.type === "pointerdown") { const at = this.hand(); this.grip = { x: point.x - at.left, y: point.y - at.top }; }
      this.explorer.moveTo(Math.round(point.y - this.grip.y), Math.round(point.x - this.grip.x));
    });
    this.onDrag(this.mapBox, (event) => {
      const { left, top, width, height } = this.mapBox.getBoundingClientRect();
      const { down, right } = this.room();
      this.explorer.moveTo(Math.round(((event.clientY - top) / height) * down), Math.round(((event.clientX - left) / width) * right));
    });
  }

  buildAverage() {
    this.chart = make("svg", { class: "chart", role: "img" });
    this.play = make("button", { "aria-label": "play the running average", title: "add crop after crop", onclick: () => this.toggle() }, "\u25B6");
    this.slider = make("input", { type: "range", min: 1, "aria-label": "crops averaged", oninput: () => { this.stop(); this.explorer.setCount(Number(this.slider.value)); } });
    this.shown = make("output");
    this.table = make("table");
    this.list = make("ul", { class: "crops", role: "listbox", tabindex: 0, "aria-label": "crops",
      onkeydown: (event) => this.walk(event), onmouseleave: () => this.light(null) });
    this.three = make("div", { class: "three", "aria-live": "polite" });
    this.right = make("div", { class: "body" },
      this.chart,
      make("div", { class: "count" }, this.play, this.slider, this.shown),
      this.table, this.list, this.three);
  }

  // -------------------------------------------------------------------------------------------- what comes from outside

  show(scene) {
    const same = this.scene && this.scene.image === scene.image && this.scene.network === scene.network;
    if (!same) { this.map = null; this.place = null; }
    this.scene = scene;
    this.lit = null;
    this.fail("");
    this.root.setAttribute("aria-busy", "false");
    if (this.image.src !== scene.picture) this.image.src = scene.picture;
    this.image.alt = scene.name;
    this.root.style.setProperty("--photo", `${Math.round((TALLEST * scene.width) / scene.height)}px`);
    this.drawing.setAttribute("viewBox", `0 0 ${scene.width} ${scene.height}`);
    this.chosen.replaceChildren(...scene.classes.map((one) => make("option", { value: one }, this.name(one), one === scene.label ? " \u2713" : "")));
    this.chosen.value = this.following();
    this.slider.max = scene.boxes.length;
    this.fillList();
    this.draw();
  }

  // Once for each text, whether a browser tells of it by Enter, by leaving the field, or by both.
  askRecipe() {
    if (this.recipe.value === this.asked) return;
    this.asked = this.recipe.value;
    this.explorer.changePane(this.index, { recipe: this.asked });
  }

  busy() { this.stop(); this.root.setAttribute("aria-busy", "true"); }

  fail(text) {
    this.error.textContent = text;
    if (text) this.root.setAttribute("aria-busy", this.scene ? "true" : "false");
  }

  showMap(map) { this.map = map; if (this.space) this.drawMap(); }

  showPlace(place) { this.place = place; if (this.space) this.drawPlace(); }

  dispose() { this.stop(); this.watch.disconnect(); this.root.remove(); }

  // ------------------------------------------------------------------------------------------------------ what follows

  name(number) { return this.explorer.names[number] ?? `class ${number}`; }

  following() {
    const { chosen } = this.explorer.state;
    if (this.scene.classes.includes(chosen)) return chosen;
    return this.scene.label ?? (this.scene.answer ?? this.scene.center)[0];
  }

  count() {
    const { count } = this.explorer.state;
    const most = this.scene.boxes.length;
    return clamp(count ?? (this.scene.is_policy ? this.scene.stop : most), 1, most);
  }

  room() { return { down: Math.max(this.scene.height - this.scene.crop_size, 0), right: Math.max(this.scene.width - this.scene.crop_size, 0) }; }

  hand() {
    const { down, right } = this.room();
    const { place } = this.explorer.state;
    return place ? { top: clamp(place.top, 0, down), left: clamp(place.left, 0, right) } : { top: Math.round(down / 2), left: Math.round(right / 2) };
  }

  // ----------------------------------------------------------------------------------------------------------- drawing

  draw() {
    if (!this.scene || !this.left.clientWidth) return;
    this.measure();
    this.drawTitle();
    this.drawBoxes();
    this.drawCount();
    this.drawMap();
    this.drawPlace();
  }

  // The room that there is, measured once for all that is drawn in it.
  measure() {
    const { down, right } = this.room();
    const wide = this.left.clientWidth;
    const scale = Math.min(wide / Math.max(right, 1), 220 / Math.max(down, 1));
    const [width, height] = [Math.min(Math.max(right * scale, 12), wide), Math.max(down * scale, 12)];
    this.space = { width, height, photo: this.photo.clientWidth, chart: Math.max(this.right.clientWidth, 240) };
    this.mapBox.style.width = `${width}px`;
    this.mapBox.style.height = `${height}px`;
    this.mapDots.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  drawTitle() {
    const { answer, center, label, recipe, boxes, stop, is_policy: policy, seed } = this.scene;
    const [found, value] = answer ?? center;
    this.title.replaceChildren(this.name(found), " ", mark(found, label) ?? "", ` ${percent(value)}`);
    const count = policy ? `${recipe} stops after ${stop} of ${boxes.length} crops` : `${recipe} averages ${boxes.length} crop${boxes.length > 1 ? "s" : ""}`;
    const truth = label === null ? "" : ` True class: ${this.name(label)}.`;
    const drawn = recipe.includes("RC") ? `, seed ${seed}` : "";
    this.story.replaceChildren(`${count}${drawn}. The center crop alone: ${this.name(center[0])} `, mark(center[0], label) ?? "", ` ${percent(center[1])}.${truth}`);
  }

  drawBoxes() {
    const { boxes, kinds } = this.scene;
    this.boxes.replaceChildren(...boxes.flatMap(([top, left, size, mirrored], number) => {
      const frame = { x: left + 0.5, y: top + 0.5, width: size - 1, height: size - 1 };
      const color = COLORS[kinds[number][0]] ?? "#fff";
      return [make("rect", { class: "halo", ...frame }),
        make("rect", { class: "box", ...frame, stroke: color, "stroke-dasharray": mirrored ? "6 4" : null, "data-crop": number })];
    }));
    this.lightBoxes();
  }

  // The crops that are averaged so far are in sight, the others faint; one that is lit stands out.
  lightBoxes() {
    const shown = this.count();
    this.boxes.querySelectorAll(".box").forEach((box, number) => {
      const lit = this.lit === number;
      const width = lit ? 4.5 : this.scene.kinds[number][0] === "CC" ? 2.6 : 1.6;
      const opacity = lit ? 1 : number >= shown ? 0.12 : this.lit === null ? 0.9 : 0.25;
      for (const [rect, own] of [[box, width], [box.previousSibling, width + 1.6]]) {
        rect.setAttribute("stroke-width", own);
        rect.setAttribute("opacity", opacity);
      }
    });
  }

  drawHand() {
    const { crop_size: size, width } = this.scene;
    const { top, left } = this.hand();
    const [under, over, grip] = this.handle.children;
    const set = (node, values) => { for (const [name, value] of Object.entries(values)) node.setAttribute(name, value); };
    for (const rect of [under, over]) set(rect, { x: left + 0.5, y: top + 0.5, width: size - 1, height: size - 1 });
    this.handle.classList.toggle("rest", !this.explorer.state.place);
    this.ring.setAttribute("transform", `translate(${this.onMap(top, left)})`);
    const radius = (7 * width) / Math.max(this.space.photo, 100);
    set(grip, { cx: left + size / 2, cy: top + size / 2, r: radius, "stroke-width": radius / 4 });
  }

  drawPlace() {
    this.drawHand();
    const { top, left } = this.hand();
    const { place } = this;
    const current = place && place.box[0] === top && place.box[1] === left;
    const near = place && this.explorer.start.fixed;
    this.answer.classList.toggle("waiting", Boolean(this.explorer.state.place) && !current && !near);
    if (!place) { this.answer.textContent = "Drag the box over the photo, or the ring over the map."; return; }
    const [first, value, second, next, third, last] = place.top;
    const others = [[second, next], [third, last]].filter(([number]) => number !== undefined);
    this.answer.replaceChildren(
      `A crop ${place.box[1]} pixels from the left and ${place.box[0]} from the top sees `,
      make("b", {}, this.name(first)), " ", mark(first, this.scene.label) ?? "", ` ${percent(value)}`,
      others.length ? `, then ${others.map(([number, p]) => `${this.name(number)} ${percent(p)}`).join(", ")}.` : ".");
    this.handle.setAttribute("aria-label", `Crop to move: ${this.answer.textContent} Arrow keys move it by one pixel, with Shift by eight.`);
  }

  drawMap() {
    const { width, height, photo } = this.space;
    this.heat.hidden = !this.explorer.state.overlay;
    const chosen = this.following();
    const ready = this.map && this.map.p[chosen];
    const leading = ready ? this.map.first.filter((one) => one === chosen).length / this.map.first.length : 0;
    this.mapState.textContent = !ready ? "\u2026" : this.map.done ? `leads at ${Math.round(100 * leading)} % of the places` : `every ${this.map.step} pixels, refining \u2026`;
    this.mapCanvas.setAttribute("aria-label", ready ? `${this.name(chosen)} leads at ${Math.round(100 * leading)} % of the places` : "being computed");
    if (!ready) for (const canvas of [this.mapCanvas, this.heat]) canvas.width = canvas.height = 0;
    const wanted = ready ? [this.map, chosen, width, height, photo] : [];
    if (ready && !wanted.every((value, number) => value === this.painted[number])) {
      paint(this.mapCanvas, this.map, chosen, width, height);
      this.heatOnPhoto();
    }
    this.painted = wanted;
  }

  // The same map over the photo, where the crops' centers can be.
  heatOnPhoto() {
    const { width, height, crop_size: size } = this.scene;
    const { down, right } = this.room();
    const scale = (this.space.photo / width) * Math.min(window.devicePixelRatio || 1, 2);
    this.heat.width = width * scale;
    this.heat.height = height * scale;
    const context = this.heat.getContext("2d");
    context.globalAlpha = 0.65;
    context.drawImage(this.mapCanvas, (size / 2) * scale, (size / 2) * scale, Math.max(right, 1) * scale, Math.max(down, 1) * scale);
  }

  // Where a crop is on the map, pixels.
  onMap(top, left) {
    const { down, right } = this.room();
    return [(left / Math.max(right, 1)) * this.space.width, (top / Math.max(down, 1)) * this.space.height];
  }

  drawDots() {
    const shown = this.count();
    const dots = this.scene.boxes.map(([top, left, size], number) => {
      if (size !== this.scene.crop_size || number >= shown) return null;
      return dot(this.scene.kinds[number][0], ...this.onMap(top, left), number === this.lit ? 8 : 4.5);
    });
    this.dots.replaceChildren(...dots.filter(Boolean));
  }

  drawCount() {
    const { boxes, stop, levels, level } = this.scene;
    const count = this.count();
    this.slider.value = count;
    this.slider.setAttribute("aria-valuetext", `${count} of ${boxes.length} crops`);
    this.slider.disabled = this.play.disabled = boxes.length < 2;
    this.shown.textContent = `${count} of ${boxes.length}`;
    const lines = LEVELS.filter((one) => levels[one]).map((one) => {
      const [first, value, second, next] = levels[one].first[count - 1];
      const lead = second === undefined ? "" : `${((value - next) / 1000).toFixed(2)} ahead of ${this.name(second)}`;
      return make("tr", {}, make("th", { scope: "row", style: `color: var(--${one})` }, one),
        make("td", {}, mark(first, this.scene.label) ?? "", " ", one === level ? make("b", {}, this.name(first)) : this.name(first)),
        make("td", { class: "number" }, percent(value)), make("td", {}, lead));
    });
    this.table.replaceChildren(make("tbody", {}, lines));
    this.list.querySelectorAll("li").forEach((line, number) => line.classList.toggle("later", number >= count));
    this.drawChart(count, stop);
    this.drawDots();
  }

  drawChart(count, stop) {
    const { levels, boxes } = this.scene;
    const chosen = this.following();
    const place = this.scene.classes.indexOf(chosen);
    const [width, height, low, high] = [this.space.chart, 178, 8, 62];
    const leads = Object.fromEntries(Object.entries(levels).map(([level, { p, first }]) => [level,
      first.map(([best, value, , next], number) => (p[number][place] - (best === chosen ? next ?? 0 : value)) / 1000)]));
    const every = Object.values(leads).flat();
    const [least, most] = [Math.min(-0.1, ...every), Math.max(0.1, ...every)];
    const x = (n) => low + ((n - 1) / Math.max(boxes.length - 1, 1)) * (width - low - high);
    const y = (value) => 34 + ((most - value) / (most - least)) * (height - 56);
    const path = (values, from, to) => values.slice(from, to).map((value, n) => `${n ? "L" : "M"}${x(from + n + 1).toFixed(1)},${y(value).toFixed(1)}`).join("");
    const lines = [];
    const ends = [];
    for (const level of [...LEVELS].reverse().filter((one) => leads[one])) {
      const color = `var(--${level})`;
      lines.push(make("path", { class: level, d: path(leads[level], 0, count), style: `stroke: ${color}` }),
        make("path", { class: `${level} later`, d: path(leads[level], count - 1), style: `stroke: ${color}` }),
        make("circle", { cx: x(count), cy: y(leads[level][count - 1]), r: 4, style: `fill: ${color}` }));
      ends.push({ level, at: y(leads[level].at(-1)) + 4 });
    }
    ends.sort((a, b) => a.at - b.at).forEach((end, n) => { if (n) end.at = Math.max(end.at, ends[n - 1].at + 14); });
    const rule = this.scene.is_policy ? `${this.scene.recipe} stops: ${stop}` : `auto would stop: ${stop}`;
    const right = x(stop) > width / 2;
    const subject = this.name(chosen);
    this.chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.chart.setAttribute("aria-label", `Lead of ${subject} over the best other class as crops are added`);
    this.chart.replaceChildren(
      make("text", { x: 0, y: 12 }, `Lead of ${subject} over the best other class`),
      make("line", { class: "zero", x1: low, x2: width - high, y1: y(0), y2: y(0) }),
      ...(ends.some((end) => Math.abs(end.at - y(0) - 4) < 12) ? [] : [make("text", { x: width - high + 6, y: y(0) + 4 }, "0")]),
      make("text", { x: low, y: height - 6 }, "1"),
      make("text", { x: x(boxes.length), y: height - 6, "text-anchor": "end" }, `${boxes.length} crops`),
      make("line", { class: "stop", x1: x(stop), x2: x(stop), y1: 30, y2: height - 20 }),
      make("text", { x: x(stop) + (right ? -5 : 5), y: 28, "text-anchor": right ? "end" : "start" }, rule),
      make("line", { class: "at", x1: x(count), x2: x(count), y1: 34, y2: height - 20 }),
      ...lines,
      ...ends.map(({ level, at }) => make("text", { class: "name", x: width - high + 6, y: at, style: `fill: var(--${level})` }, level)));
  }

  fillList() {
    const { kinds, top, label } = this.scene;
    this.list.replaceChildren(...kinds.map(([kind, number], place) => {
      const [found, value] = top[place];
      const color = COLORS[kind] ?? "#777";
      const shape = `border-color: ${color}; ${isMirrored(kind) ? "" : `background: ${color};`} ${isRandom(kind) ? "border-radius: 50%;" : ""} ${kind === "CC" ? "transform: rotate(45deg);" : ""}`;
      return make("li", { role: "option", id: `${this.id}-${place}`, "aria-selected": "false",
        onmouseenter: () => this.light(place), onclick: () => { this.light(place, true); this.list.focus({ preventScroll: true }); } },
      make("span", {}, make("span", { class: "swatch", style: shape }), kindName(kind, number)),
      make("span", {}, mark(found, label) ?? ""),
      make("span", { class: "fill" }, make("i", { style: `width: ${value / 10}%` }), make("span", {}, this.name(found))),
      make("span", { class: "number" }, percent(value)));
    }));
    this.describe();
  }

  // ------------------------------------------------------------------------------------------------------------- hands

  light(number, keep = false) {
    if (number === null && this.kept !== undefined) number = this.kept;
    if (keep) this.kept = this.kept === number ? undefined : number;
    if (number !== null && number >= this.scene.boxes.length) number = null;
    if (this.lit === number) return;
    this.lit = number;
    this.list.querySelectorAll("li").forEach((line, place) => {
      line.classList.toggle("lit", place === number);
      line.setAttribute("aria-selected", place === number ? "true" : "false");
    });
    if (number === null) this.list.removeAttribute("aria-activedescendant");
    else this.list.setAttribute("aria-activedescendant", `${this.id}-${number}`);
    this.lightBoxes();
    this.drawDots();
    this.describe();
  }

  // Where a pointer is, in pixels of the photo.
  spot(event) {
    const area = this.drawing.getBoundingClientRect();
    const scale = this.scene.width / area.width;
    return { x: (event.clientX - area.left) * scale, y: (event.clientY - area.top) * scale, scale };
  }

  // The crop whose edge is nearest to a pointer, if one is near.
  nearest(event) {
    const { x, y, scale } = this.spot(event);
    const away = this.scene.boxes.map(([top, left, size]) => {
      const [across, down] = [Math.max(left - x, x - left - size), Math.max(top - y, y - top - size)];
      return Math.max(across, down) > 0 ? Math.hypot(Math.max(across, 0), Math.max(down, 0)) : -Math.max(across, down);
    });
    const best = away.indexOf(Math.min(...away));
    return away[best] < 6 * scale ? best : null;
  }

  pointAt(event) {
    if (!this.scene || event.buttons) return;
    const near = this.nearest(event);
    this.photo.classList.toggle("near", near !== null);
    this.light(near);
  }

  describe() {
    if (this.lit === null || this.lit === undefined) {
      this.three.replaceChildren(make("p", { class: "quiet" }, "Point at a crop, here or in the photo, to see its three most probable classes."));
      return;
    }
    const [kind, number] = this.scene.kinds[this.lit];
    const top = this.scene.top[this.lit];
    const rows = [0, 2, 4].filter((place) => top[place] !== undefined).map((place) => make("p", {}, mark(top[place], this.scene.label) ?? "", ` ${this.name(top[place])} ${percent(top[place + 1])}`));
    this.three.replaceChildren(make("p", {}, make("b", {}, kindName(kind, number))), ...rows);
  }

  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined || !this.scene) return;
    event.preventDefault();
    this.kept = undefined;
    this.light(clamp((this.lit ?? (step > 0 ? -1 : 0)) + step, 0, this.scene.boxes.length - 1));
    const line = this.list.children[this.lit];
    this.list.scrollTop = clamp(this.list.scrollTop, line.offsetTop - this.list.offsetTop + line.offsetHeight - this.list.clientHeight, line.offsetTop - this.list.offsetTop);
  }

  nudge(event) {
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!way || !this.scene) return;
    event.preventDefault();
    const far = event.shiftKey ? 8 : 1;
    const { top, left } = this.hand();
    this.explorer.moveTo(top + way[0] * far, left + way[1] * far);
  }

  onDrag(node, moved) {
    let held = null;
    node.addEventListener("pointerdown", (event) => {
      if (!this.scene || event.button) return;
      const near = node === this.handle ? this.nearest(event) : null;
      if (near !== null) { this.light(near, true); return; }
      held = event.pointerId;
      node.setPointerCapture(held);
      if (node.focus && node === this.handle) node.focus({ preventScroll: true });
      moved(event);
      event.preventDefault();
    });
    node.addEventListener("pointermove", (event) => { if (event.pointerId === held) moved(event); });
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { held = null; });
  }

  toggle() {
    if (!this.scene || this.timer) { this.stop(); return; }
    const most = this.scene.boxes.length;
    let count = this.count() >= most ? 0 : this.count();
    this.play.textContent = "\u23F8";
    this.play.setAttribute("aria-label", "pause");
    const step = () => {
      count += 1;
      this.explorer.setCount(count);
      if (count >= most) this.stop();
    };
    this.timer = setInterval(step, clamp(3000 / most, 60, 320));
    step();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "\u25B6";
    this.play.setAttribute("aria-label", "play the running average");
  }
}

// --------------------------------------------------------------------------------------------------------- the whole

class Explorer {
  constructor(element, source) {
    this.source = source;
    this.start = source.start;
    Object.assign(COLORS, this.start.colors);
    this.names = { ...(this.start.names ?? {}) };
    this.numbers = {};
    this.waiting = {};
    this.items = [];
    this.state = {
      image: this.start.image, seed: this.start.seed, filter: this.start.filter, offset: 0, chosen: null,
      count: null, place: null, overlay: true, panes: [{ network: 0, recipe: this.start.recipe }],
    };
    this.build(element);
    source.listen((answer) => this.hear(answer));
    this.askScene(true);
  }

  build(element) {
    const { start } = this;
    this.filters = Object.fromEntries(start.filters.map((name) => [name,
      make("button", { "aria-pressed": "false", title: FILTER_HELP[name], onclick: () => this.filter(name) }, name)]));
    this.film = make("div", { class: "film", role: "listbox", "aria-label": "images", "aria-orientation": "horizontal", onkeydown: (event) => this.turn(event) });
    this.previous = make("button", { "aria-label": "previous image", onclick: () => this.step(-1) }, "\u2039");
    this.next = make("button", { "aria-label": "next image", onclick: () => this.step(1) }, "\u203A");
    this.surveyed = make("span", { class: "quiet" });
    this.seed = make("span", { class: "quiet" });
    this.again = make("button", { title: "draw other random crops", onclick: () => this.redraw() }, "Another seed");
    this.compare = make("button", { "aria-pressed": "false", title: "two recipes, or two networks, on this image", onclick: () => this.toggleCompare() }, "Side by side");
    this.overlay = make("button", { "aria-pressed": "true", title: "the map on the photo", onclick: () => this.toggleOverlay() }, "Map on photo");
    this.silence = make("div", { class: "error", role: "status" });
    this.still = make("img", { class: "still", alt: start.told });
    this.stripError = make("div", { class: "error", role: "alert" });
    this.said = make("div", { class: "hidden", "aria-live": "polite", role: "status" });
    this.grid = make("div", { class: "panes" });
    this.root = make("div", { class: "mid-explorer", "data-lm-suppress-shortcuts": "true", onkeydown: (event) => this.key(event) },
      make("div", { class: "bar" }, Object.values(this.filters), this.surveyed,
        make("span", { class: "push" }), this.overlay, this.again, this.compare),
      this.silence, this.stripError,
      make("div", { class: "strip" }, this.previous, this.film, this.next),
      this.grid, this.said);
    element.replaceChildren(this.root);
    this.theme();
    this.panes = [new Pane(this, 0)];
    this.grid.append(this.panes[0].root);
    this.panes[0].recipe.value = this.state.panes[0].recipe;
  }

  theme() {
    const own = getComputedStyle(document.body).getPropertyValue("--jp-layout-color1").trim();
    const { body, documentElement: top } = document;
    const told = body.dataset.jpThemeLight ?? (top.dataset.bsTheme && String(top.dataset.bsTheme !== "dark"));
    const around = frame()?.ownerDocument.body.classList;
    const site = around && (around.contains("quarto-dark") || around.contains("quarto-light")) ? around.contains("quarto-dark") : null;
    const dark = site ?? (told ? told === "false" : body.classList.contains("vscode-dark") || top.getAttribute("theme") === "dark"
      || (!own && matchMedia("(prefers-color-scheme: dark)").matches));
    this.root.classList.toggle("dark", dark);
    if (!own) body.style.background = dark ? "#1c1d20" : "#ffffff";
    this.root.classList.toggle("page", !own);
    if (this.themes) return;
    this.themes = new MutationObserver(() => this.theme());
    for (const node of [body, top, frame()?.ownerDocument.body].filter(Boolean)) this.themes.observe(node, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-bs-theme", "class", "theme"] });
    this.preference = matchMedia("(prefers-color-scheme: dark)");
    this.changed = () => this.theme();
    this.preference.addEventListener("change", this.changed);
  }

  // --------------------------------------------------------------------------------------------- questions and answers

  ask(slot, question) {
    this.numbers[slot] = (this.numbers[slot] ?? 0) + 1;
    clearTimeout(this.late);
    if (!this.start.fixed) this.late = setTimeout(() => this.wait(), PATIENCE);
    this.source.ask({ slot, number: this.numbers[slot], ...question });
  }

  askStrip() {
    this.stripDue = false;
    const { filter, offset, seed, panes } = this.state;
    this.ask("strip", { filter, offset, seed, ...panes[0] });
  }

  // The strip is asked for behind the scene, which is what the eye is on.
  askScene(strip = false) {
    const { image, panes, seed } = this.state;
    this.stripDue = strip || this.stripDue;
    for (const pane of this.panes) pane.busy();
    this.waiting.place = false;
    this.numbers.place = (this.numbers.place ?? 0) + 1;
    this.numbers.map = (this.numbers.map ?? 0) + 1;
    this.ask("scene", { image, panes, seed });
  }

  // A kernel that does not even say that it heard the question: say so, with the still picture if there is no other yet.
  wait() {
    this.silence.textContent = "No answer from the kernel yet. It is busy, or not running; if it is not running, run the cell again.";
    if (this.panes[0].scene || !this.start.still) return;
    this.still.src = `data:image/png;base64,${this.start.still}`;
    this.grid.replaceChildren(this.still);
  }

  heard() {
    clearTimeout(this.late);
    this.silence.textContent = "";
    if (this.still.isConnected) this.grid.replaceChildren(...this.panes.map((pane) => pane.root));
  }

  askMap() {
    const { image, panes } = this.state;
    this.ask("map", { image, panes, classes: this.panes.map((pane) => pane.scene?.classes ?? []) });
  }

  // One question at a time: while one is on its way, only the latest place is remembered.
  askPlace() {
    if (this.waiting.place) { this.waiting.again = true; return; }
    const { image, panes, place } = this.state;
    this.waiting = { place: true, again: false, left: panes.length };
    this.ask("place", { image, panes, ...place, classes: this.panes.map((pane) => pane.scene?.classes ?? []) });
  }

  hear(answer) {
    this.heard();
    if (answer.received || answer.number !== this.numbers[answer.slot]) return;
    Object.assign(this.names, answer.names);
    if (answer.slot === "scene" && this.stripDue) this.askStrip();
    const pane = this.panes[answer.pane ?? 0];
    if (answer.slot === "strip") this.showStrip(answer);
    else if (answer.error) this.failed(pane ?? this.panes[0], answer);
    else if (answer.note) { if (!pane.map) pane.mapState.textContent = answer.note; }
    else if (answer.slot === "scene") this.showScene(pane, answer.scene);
    else if (answer.slot === "map") pane.showMap(answer.map);
    else if (answer.slot === "place") this.showPlace(pane, answer.place);
  }

  showScene(pane, scene) {
    pane.show(scene);
    const settings = this.state.panes[pane.index];
    settings.recipe = scene.recipe;
    pane.recipe.value = pane.asked = scene.recipe;
    const [found, value] = scene.answer ?? scene.center;
    const verdict = scene.label === null ? "" : found === scene.label ? ", right" : ", wrong";
    this.said.textContent = `${scene.name}: ${pane.name(found)} ${percent(value)}${verdict}`;
    this.arrived();
  }

  failed(pane, { slot, error }) {
    pane.fail(error);
    this.waiting.place = false;
    if (slot === "scene") this.arrived();
  }

  // When each view has its scene, or has said why not, their maps are asked for.
  arrived() {
    const there = this.panes.filter((pane) => pane.scene?.image === this.state.image);
    if (!there.length || this.panes.some((pane) => !there.includes(pane) && !pane.error.textContent)) return;
    this.askMap();
    if (this.state.place) this.askPlace();
  }

  showPlace(pane, place) {
    pane.showPlace(place);
    this.waiting.left -= 1;
    if (this.waiting.left > 0) return;
    this.waiting.place = false;
    if (this.waiting.again) this.askPlace();
    else this.said.textContent = pane.answer.textContent;
  }

  showStrip({ items, counts, offset, total, error, note }) {
    this.stripError.textContent = error ?? "";
    if (counts) for (const [name, count] of Object.entries(counts)) this.filters[name].textContent = `${name} ${count}`;
    if (note !== undefined) this.surveyed.textContent = note;
    for (const [name, button] of Object.entries(this.filters)) button.setAttribute("aria-pressed", String(name === this.state.filter));
    if (!items) return;
    this.total = total;
    this.state.offset = offset;
    this.items = items;
    this.drawStrip();
    if (this.wanted !== undefined && items.length) { const number = this.wanted < 0 ? items.length - 1 : 0; this.wanted = undefined; this.open(items[number].image, true); }
  }

  drawStrip() {
    const focused = this.film.contains(document.activeElement);
    if (!this.items.length) { this.film.replaceChildren(make("span", { class: "quiet" }, "No images under this filter.")); return; }
    const chosen = this.items.some((item) => item.image === this.state.image);
    const old = new Map([...this.film.querySelectorAll(".thumb")].map((one) => [Number(one.dataset.image), one]));
    const thumbs = this.items.map((item, place) => {
      const here = item.image === this.state.image;
      const moved = item.change === null || item.change === undefined ? "" : ` ${signed(item.change)}`;
      const marks = item.before === undefined ? null : [mark(item.before, item.label) ?? "", item.label === null ? "" : "\u2192", mark(item.after, item.label) ?? ""];
      const known = old.get(item.image);
      const picture = known?.querySelector("img") ?? (item.thumb ? make("img", { src: item.thumb, alt: "", draggable: "false" }) : make("div", { class: "blank" }));
      const words = item.label === null || item.before === undefined ? item.name : `${item.name}, center crop ${item.before === item.label ? "right" : "wrong"}, average ${item.after === item.label ? "right" : "wrong"}`;
      return make("button", { class: "thumb", role: "option", "data-image": item.image, title: item.name, "aria-label": words, "aria-selected": String(here),
        tabindex: here || (!chosen && !place) ? 0 : -1, onclick: () => this.open(item.image) },
      picture, make("span", {}, marks ?? "", moved || "\u00A0"));
    });
    this.film.replaceChildren(...thumbs);
    const here = this.film.querySelector('[aria-selected="true"]');
    if (here) {
      this.film.scrollLeft = clamp(this.film.scrollLeft, here.offsetLeft + here.offsetWidth - this.film.offsetLeft - this.film.clientWidth + 8, here.offsetLeft - this.film.offsetLeft - 8);
      if (focused) here.focus({ preventScroll: true });
    }
    const place = this.items.findIndex((item) => item.image === this.state.image);
    this.previous.disabled = place <= 0 && !this.state.offset;
    this.next.disabled = place === this.items.length - 1 && this.state.offset + this.items.length >= this.total;
  }

  // ------------------------------------------------------------------------------------------------------------- hands

  open(image, focus = false) {
    if (image === this.state.image) return;
    Object.assign(this.state, { image, count: null, chosen: null });
    this.drawStrip();
    if (focus) this.film.querySelector('[aria-selected="true"]')?.focus({ preventScroll: true });
    this.askScene();
  }

  step(way) {
    const place = this.items.findIndex((item) => item.image === this.state.image) + way;
    if (this.items[place]) { this.open(this.items[place].image); return; }
    const offset = way > 0 ? this.state.offset + this.items.length : this.state.offset - this.start.page;
    if (offset < 0 || offset >= this.total) return;
    Object.assign(this.state, { offset: Math.max(0, offset) });
    this.wanted = way;
    this.askStrip();
  }

  turn(event) {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (way) { event.preventDefault(); this.step(way); }
    if (event.key === "Home" && this.items.length) { event.preventDefault(); this.open(this.items[0].image); }
    if (event.key === "End" && this.items.length) { event.preventDefault(); this.open(this.items.at(-1).image); }
  }

  key(event) {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const way = { n: 1, p: -1 }[event.key];
    if (way) { event.preventDefault(); this.step(way); }
  }

  filter(name) {
    Object.assign(this.state, { filter: name, offset: 0 });
    this.wanted = 1;
    this.askStrip();
  }

  choose(chosen) {
    this.state.chosen = chosen;
    for (const pane of this.panes) { if (pane.scene) { pane.chosen.value = pane.following(); pane.draw(); } }
  }

  setCount(count) {
    this.state.count = count;
    for (const pane of this.panes) { if (pane.space) { pane.lightBoxes(); pane.drawCount(); } }
  }

  moveTo(top, left) {
    const { down, right } = this.panes[0].room();
    this.state.place = { top: clamp(top, 0, down), left: clamp(left, 0, right) };
    for (const pane of this.panes) if (pane.space) pane.drawPlace();
    this.askPlace();
  }

  redraw() {
    const { seeds } = this.start;
    this.state.seed = seeds ? (this.state.seed + 1) % seeds : this.state.seed + 1;
    this.askScene(!this.start.fixed);
  }

  changePane(index, change) {
    Object.assign(this.state.panes[index], change);
    this.state.count = null;
    this.askScene(!index);
  }

  toggleOverlay() {
    this.state.overlay = !this.state.overlay;
    this.overlay.setAttribute("aria-pressed", String(this.state.overlay));
    for (const pane of this.panes) if (pane.space) pane.drawMap();
  }

  toggleCompare() {
    const two = this.panes.length < 2;
    if (two) {
      const other = this.start.networks.length > 1 ? { network: 1 } : { recipe: this.start.other ?? "CC" };
      this.state.panes.push({ ...this.state.panes[0], ...other });
      this.panes.push(new Pane(this, 1));
      this.grid.append(this.panes[1].root);
      this.panes[1].recipe.value = this.state.panes[1].recipe;
      this.panes[1].network.value = this.state.panes[1].network;
    } else {
      this.panes.pop().dispose();
      this.state.panes.pop();
    }
    this.compare.setAttribute("aria-pressed", String(two));
    this.grid.classList.toggle("two", two);
    this.askScene();
  }

  dispose() {
    clearTimeout(this.late);
    this.source.stop();
    this.themes.disconnect();
    this.preference.removeEventListener("change", this.changed);
    for (const pane of this.panes) pane.dispose();
  }
}

// The frame that a page stands in, where it may be looked at.
function frame() {
  try { return window.frameElement; } catch { return null; }
}

// Makes the frame as high as what is in it.
export function fitFrame() {
  const around = frame();
  if (!around) return;
  const fit = () => { around.style.height = `${document.getElementById("explorer").offsetHeight + 24}px`; };
  new ResizeObserver(fit).observe(document.getElementById("explorer"));
}

// Shows an explorer in an element; gives what ends it.
export function mount(element, source) {
  const explorer = new Explorer(element, source);
  return () => explorer.dispose();
}

export default { render: ({ model, el }) => mount(el, fromKernel(model)) };

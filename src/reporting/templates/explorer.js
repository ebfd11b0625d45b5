/* The explorer: counts and draws what `src/evaluation/explorer.py` found out of each picture; it measures nothing.

   Counts are of one threshold, class and size; a fate of objects and a kind of detections choose the images. All text
   goes in as text, never as HTML: names of files and classes are data. */
(() => {
"use strict";
const $ = (name) => document.getElementById(`explorer-${name}`);
const data = JSON.parse($("data").textContent);
const fields = $("form").elements;
const names = { image: "Image", picture: "Picture" }; // by the set; also the word of a link's fragment
const explaining = new Set(data.explaining);
const thresholds = [...new Set([...Array(101).keys()].map((i) => i / 100).concat(data.threshold))].sort((a, b) => a - b);
const [fateName, kindName] = [data.fates, data.kinds].map((all) => Object.fromEntries(all.map((one) => [one.key, one.name])));
const state = { number: 1, picked: null }; // the picture's place in its set from 1 on, the item that was clicked
let matching = []; // numbers of the pictures that the choices leave

/* Elements: a tag, what is set on it, what it holds. */
function make(tag, set = {}, ...content) {
  const element = Object.assign(document.createElement(tag), set);
  element.append(...content);
  return element;
}
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const classOf = (item) => data.classes[item.label - 1];

/* What is counted. Scores are float32 where they are measured, so they are compared as such. */
const pictures = () => data.sets[fields.set.value];
const threshold = () => thresholds[fields.score.value];
const isShown = (detection) => Math.fround(detection.score) >= Math.fround(threshold());
const suits = (item) =>
  (!fields.label.value || item.label === Number(fields.label.value)) &&
  (!fields.size.value || item.sizes.includes(fields.size.value));
const isTrue = (object) => !object.crowd && !object.unlabeled;
const objectsOf = (picture) => picture.objects.filter((one) => isTrue(one) && suits(one));
const detectionsOf = (picture) => picture.detections.filter((one) => isShown(one) && suits(one));
const fateOf = (picture, object) =>
  object.taken_by !== null && isShown(picture.detections[object.taken_by]) ? object.taken : object.lost;
function missedOf(picture) { // TIDE's: no shown detection takes it or is mistaken about it
  const shown = picture.detections.filter((one) => isShown(one) && explaining.has(one.kind));
  const explained = new Set(shown.map((one) => picture.objects[one.about]));
  return objectsOf(picture).filter((one) => !explained.has(one));
}

/* A choice is one key, all of them (""), or all but the good one. */
const GOOD = { fate: "found", kind: "correct" };
const chosen = (group, key) =>
  fields[group].value === "" || (fields[group].value === "not" ? key !== GOOD[group] : key === fields[group].value);
const isOwn = () => fields.set.value === "picture"; // nothing is known of those but what was found
const isChosenObject = (picture, one) => !isTrue(one) || (suits(one) && chosen("fate", fateOf(picture, one)));
const isChosenDetection = (one) => suits(one) && (isOwn() || chosen("kind", one.kind));
function matches(picture) {
  const [fate, kind] = isOwn() ? ["", ""] : [fields.fate.value, fields.kind.value];
  const objects = objectsOf(picture).filter((one) => isChosenObject(picture, one));
  const detections = detectionsOf(picture).filter(isChosenDetection);
  if (fate || kind) return (!fate || objects.length > 0) && (!kind || detections.length > 0);
  return !(fields.label.value || fields.size.value) || objects.length + detections.length > 0;
}

/* Buttons of a group: all, all but the good one, and each key, with their counts. */
function makeChips(group, [good, ...others], not) {
  for (const { key, name, meaning } of [{ key: "", name: "all" }, good, { key: "not", name: not }, ...others]) {
    const input = make("input", { type: "radio", name: group, value: key, defaultChecked: key === "" });
    const words = make("span", { textContent: name });
    $(`${group}s`).append(make("label", { className: "chip", title: meaning ?? "" }, input, words, make("b")));
  }
}
function count(group, keys) {
  const counts = { "": keys.length, not: keys.filter((key) => key !== GOOD[group]).length };
  keys.forEach((key) => (counts[key] = (counts[key] ?? 0) + 1));
  for (const chip of $(`${group}s`).querySelectorAll(".chip")) {
    const number = counts[chip.firstChild.value] ?? 0;
    chip.querySelector("b").textContent = number;
    chip.classList.toggle("none", number === 0);
  }
  return counts;
}

/* All that depends on threshold and choices. */
function refilter() {
  const all = pictures(), score = threshold();
  $("threshold").textContent = Number(score.toFixed(2)) === score ? score.toFixed(2) : score;
  fields.score.setAttribute("aria-valuetext", $("threshold").textContent);
  $("choices").hidden = isOwn();
  const fates = count("fate", all.flatMap((one) => objectsOf(one).map((object) => fateOf(one, object))));
  const kinds = count("kind", all.flatMap((one) => detectionsOf(one).map((found) => found.kind)));
  const missed = all.reduce((sum, one) => sum + missedOf(one).length, 0);
  matching = all.map((_, place) => place + 1).filter((number) => matches(all[number - 1]));
  const parts = [`${matching.length} of ${plural(all.length, names[fields.set.value].toLowerCase())}`];
  if (!isOwn()) {
    parts.push(`${fates.found ?? 0} of ${plural(fates[""], "object")} found`);
    parts.push(`${kinds.correct ?? 0} of ${plural(kinds[""], "detection")} right`);
    parts.push(`${plural(missed, "object")} that no detection is about`);
  } else parts.push(plural(kinds[""], "detection"));
  $("counts").textContent = `${parts.join("; ")}.`;
  if (!matching.includes(state.number) && matching.length) state.number = matching[0];
  const listed = matching.includes(state.number) ? matching : [state.number, ...matching];
  $("images").replaceChildren(
    ...listed.filter((number) => all[number - 1]).map((number) => new Option(entry(all[number - 1], number), number)),
  );
  show();
}
function entry(picture, number) {
  const objects = picture.objects.filter(isTrue), found = objects.filter((one) => fateOf(picture, one) === "found");
  return `${number}: ${picture.name}${objects.length ? ` (${found.length} of ${objects.length} found)` : ""}`;
}

/* One picture. */
function show() {
  const picture = pictures()[state.number - 1];
  $("images").value = state.number;
  $("link").href = `#${fields.set.value}-${state.number}`;
  if (!picture) return; // none fits the page
  const inList = document.activeElement?.closest?.(".lists");
  $("says").textContent = says(picture);
  $("objects").replaceChildren(...picture.objects.map((one) => objectButton(picture, one)));
  $("detections").replaceChildren(...picture.detections.filter(isShown).map(detectionButton));
  for (const [list, title] of [["objects", "holds"], ["detections", "finds"]])
    $(list).hidden = $(title).hidden = !$(list).children.length;
  if (inList) $("frame").focus({ preventScroll: true }); // the button that had the focus is gone
  draw();
}
function says(picture) {
  const start = `${names[fields.set.value]} ${state.number}: `;
  const shown = picture.detections.filter(isShown), named = (one) => `${classOf(one).name} ${one.score.toFixed(2)}`;
  if (isOwn()) return `${start}${plural(shown.length, "detection")}.`;
  const objects = picture.objects.filter(isTrue), lost = objects.filter((one) => fateOf(picture, one) !== "found");
  const wrong = shown.filter((one) => one.kind !== "correct" && one.kind !== "ignored");
  const parts = [objects.length ? `${objects.length - lost.length} of ${plural(objects.length, "object")} found` : "no objects"];
  if (lost.length)
    parts.push(`lost: ${lost.map((one) => `${classOf(one).name} (${fateName[fateOf(picture, one)]})`).join(", ")}`);
  parts.push(plural(shown.length, "detection"));
  if (wrong.length) parts.push(`wrong: ${wrong.map((one) => `${named(one)} (${kindName[one.kind]})`).join(", ")}`);
  return `${start}${parts.join("; ")}.`;
}
function button(item, kind, name, word, isWrong, isChosen) {
  const swatch = make("span", { className: `swatch ${kind}` });
  swatch.style.borderColor = classOf(item).color;
  const words = [make("span", { textContent: name }), make("i", { textContent: word, className: isWrong ? "wrong" : "" })];
  const result = make("button", { type: "button", ariaPressed: "false" }, swatch, ...words);
  result.addEventListener("click", () => {
    state.picked = state.picked === item ? null : item;
    for (const one of document.querySelectorAll(".explorer li button")) one.ariaPressed = "false";
    result.ariaPressed = String(state.picked === item);
    draw();
  });
  return make("li", { className: isChosen ? "" : "dim" }, result);
}
function objectButton(picture, one) {
  const fate = isTrue(one) ? fateOf(picture, one) : "";
  const word = one.crowd ? "crowd" : one.unlabeled ? "not annotated" : fate === "found" ? "found" : `lost: ${fateName[fate]}`;
  return button(one, "truth", classOf(one).name, word, isTrue(one) && fate !== "found", isChosenObject(picture, one));
}
function detectionButton(one) {
  const share = one.overlap && one.kind !== "ignored" ? `, IoU ${one.overlap.toFixed(2)}` : "";
  const word = one.kind ? kindName[one.kind] + share : "";
  return button(one, "found", `${classOf(one).name} ${one.score.toFixed(2)}`, word, one.kind !== "correct", isChosenDetection(one));
}

/* The picture with all that lies on it: masks as pixels, boxes as vectors, tags as text. */
function draw() {
  const picture = pictures()[state.number - 1], frame = $("frame"), svg = $("boxes");
  if (!picture) return;
  frame.style.setProperty("--ratio", picture.width / picture.height);
  const image = make("img", { src: picture.picture, alt: `${names[fields.set.value]} ${state.number}, ${picture.name}` });
  image.setAttribute("aria-describedby", "explorer-says");
  svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  svg.replaceChildren();
  const tags = make("div", { ariaHidden: "true" });
  const shown = picture.detections.filter(isShown).reverse(); // the surest on top
  const picked = (one) => state.picked === one;
  const someone = picture.objects.includes(state.picked) || shown.includes(state.picked);
  const isDim = (one, isChosen) => (someone ? !picked(one) : !isChosen);
  if (fields.proposals.checked) for (const box of picture.proposals) svg.append(rectangle(box, "proposal"));
  for (const one of fields.truth.checked ? picture.objects : []) {
    const dim = isDim(one, isChosenObject(picture, one)) ? " dim" : "";
    const kind = one.crowd ? "crowd" : one.unlabeled ? "unlabeled" : "truth";
    svg.append(rectangle(one.box, `halo${dim}`), rectangle(one.box, kind + dim, classOf(one).color));
    const fate = isTrue(one) && fateOf(picture, one);
    if (fate && fate !== "found") tags.append(tag(picture, one, `${classOf(one).name}, lost: ${fateName[fate]}`, `lost${dim}`));
  }
  for (const one of fields.found.checked ? shown : []) {
    const dim = isDim(one, isChosenDetection(one)) ? " dim" : "";
    svg.append(rectangle(one.box, `halo${dim}`), rectangle(one.box, `found${dim}`, classOf(one).color));
    if (one.before && (fields.before.checked || picked(one))) svg.append(rectangle(one.before, `before${dim}`, classOf(one).color));
    tags.append(tag(picture, one, `${classOf(one).name} ${one.score.toFixed(2)}`, `found${dim}`));
  }
  const layers = fields.masks.checked ? [drawMasks(picture, shown)] : [];
  frame.replaceChildren(image, ...layers, svg, tags);
}
function rectangle([x1, y1, x2, y2], kind, stroke = "none") {
  const element = document.createElementNS($("boxes").namespaceURI, "rect");
  const set = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: kind, stroke };
  for (const [name, value] of Object.entries(set)) element.setAttribute(name, value);
  return element;
}
function tag(picture, item, text, kind) { // of a detection above its box, of a lost object below it, where there is room
  const result = make("span", { className: `tag ${kind}`, textContent: text }), [x1, y1, , y2] = item.box;
  const isLost = kind.startsWith("lost"), at = (100 * (isLost ? y2 : y1)) / picture.height;
  result.style.left = `${Math.min((100 * Math.max(x1, 0)) / picture.width, 70)}%`;
  result.style.top = `${at}%`;
  if (isLost ? at > 93 : at > 6) result.style.transform = "translateY(-100%)";
  result.style[isLost ? "borderColor" : "background"] = classOf(item).color;
  if (!isLost) result.style.color = inkOn(rgb(item));
  return result;
}
const rgb = (item) => [1, 3, 5].map((place) => parseInt(classOf(item).color.slice(place, place + 2), 16));
function inkOn(color) { // black or white, whichever WCAG 2 finds clearer on it
  const [red, green, blue] = color.map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

/* COCO's compressed run lengths: five bits a character, from the third run on as differences to the last but one. */
function runs(text) {
  const lengths = [];
  for (let place = 0; place < text.length; ) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
  }
  return lengths;
}
const LARGEST = 1000; // pixels of the masks' longer side: a phone's photo has four times as many
function drawMasks(picture, shown) {
  const step = Math.ceil(Math.max(picture.width, picture.height) / LARGEST);
  const canvas = make("canvas", { width: Math.ceil(picture.width / step), height: Math.ceil(picture.height / step) });
  canvas.ariaHidden = "true";
  const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
  const paint = (one, color, alpha) => one.mask && paintMask(picture, one.mask, step, pixels, color, alpha);
  if (fields.truth.checked) for (const one of picture.objects) paint(one, [255, 255, 255], 0);
  if (fields.found.checked)
    for (const one of shown) paint(one, rgb(one), state.picked === one ? 150 : isChosenDetection(one) ? 100 : 25);
  context.putImageData(pixels, 0, 0);
  return canvas;
}
function paintMask(picture, text, step, pixels, color, alpha) {
  const { width, height } = picture, inside = new Uint8Array(width * height); // column by column
  let end = 0, first = inside.length;
  runs(text).forEach((length, place) => {
    if (place % 2) (inside.fill(1, end, end + length), (first = Math.min(first, end)));
    end += length;
  });
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[x * height + y];
  for (let x = Math.floor(first / height / step) * step; x < width; x += step)
    for (let y = 0; y < height; y += step) {
      if (!at(x, y)) continue;
      const isEdge = !(at(x - step, y) && at(x + step, y) && at(x, y - step) && at(x, y + step));
      if (alpha || isEdge)
        pixels.data.set([...color, isEdge ? 230 : alpha], 4 * ((y / step) * pixels.width + x / step));
    }
}

/* From image to image. */
function go(number) {
  state.number = number;
  state.picked = null;
  show();
  history.replaceState(null, "", $("link").href);
}
function move(by) {
  if (matching.length) go(matching[(matching.indexOf(state.number) + by + matching.length) % matching.length]);
}
function followLink() {
  const [, set, number] = /^#(image|picture)-(\d+)$/.exec(location.hash) ?? [];
  if (!set || !data.sets[set][number - 1]) return;
  if (set !== fields.set.value || !matching.includes(Number(number))) $("form").reset();
  fields.set.value = set;
  state.number = Number(number);
  state.picked = null;
  refilter();
  $("counts").scrollIntoView({ behavior: "instant" });
}
function onKey(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], focus = document.activeElement;
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (focus.matches("input, select, textarea") || !(focus === document.body || focus.closest("#explorer"))) return;
  const { top, bottom } = $("frame").getBoundingClientRect();
  if (bottom < 0 || top > innerHeight) return;
  event.preventDefault();
  move(by);
}

makeChips("fate", data.fates, "lost");
makeChips("kind", data.kinds, "not right");
data.classes.forEach((one, place) => fields.label.append(new Option(one.name, place + 1)));
fields.score.max = thresholds.length - 1;
fields.score.defaultValue = thresholds.indexOf(data.threshold);
$("sets").hidden = !data.sets.picture.length;
$("form").addEventListener("input", (event) => {
  if (event.target === $("images")) return go(Number(event.target.value));
  if (event.target === fields.set) state.number = 1;
  return event.target.type === "checkbox" ? draw() : refilter();
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("previous").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));
$("reset").addEventListener("click", () => ($("form").reset(), refilter()));
document.addEventListener("keydown", onKey);
addEventListener("hashchange", followLink);
$("app").hidden = false;
refilter();
followLink();
})();

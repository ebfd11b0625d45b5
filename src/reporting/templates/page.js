// What the page can do beyond being read: mark where the reader is, open what a link leads to, enlarge figures, copy
// tables. Everything is there to read without it; it depends on nothing, and nothing leaves the page.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // The contents: open beside the page where there is room, folded above it where there is not.
  function contents(nav) {
    const fold = nav.querySelector("details");
    const beside = matchMedia("(min-width: 75rem)");
    const set = () => { fold.open = beside.matches; };
    set();
    beside.addEventListener("change", set);
    nav.addEventListener("click", (event) => {
      if (event.target.closest("a") && !beside.matches) fold.open = false;
    });
    const links = new Map(all("a", nav).map((link) => [document.getElementById(link.hash.slice(1)), link]));
    const here = nav.querySelector(".here");
    const titles = [...links.keys()].filter(Boolean);
    let current = null;
    const mark = () => {
      const line = innerHeight / 3;
      const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
      const passed = titles.filter((title) => title.getBoundingClientRect().top <= line);
      const next = links.get(atEnd ? titles.at(-1) : passed.at(-1));
      if (next === current) return;
      current?.removeAttribute("aria-current");
      next?.setAttribute("aria-current", "location");
      here.textContent = next ? [...next.childNodes].map((part) => part.textContent).join(" ") : "";
      if (next && beside.matches) keepInView(nav, next);
      current = next;
    };
    let waiting = false;
    const soon = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    };
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
    mark();
  }

  function keepInView(box, item) {
    const [outer, inner] = [box.getBoundingClientRect(), item.getBoundingClientRect()];
    if (inner.top < outer.top || inner.bottom > outer.bottom) {
      box.scrollTop += inner.top - outer.top - outer.height / 2;
    }
  }

  // A link into a folded part opens it. Browsers that do so by themselves find it open.
  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    const fold = target?.closest("details");
    if (!fold || fold.open) return;
    fold.open = true;
    target.scrollIntoView();
  }

  // What does not scroll is no stop of the Tab key.
  function stopWhereNeeded(boxes) {
    const set = () => boxes.forEach((box) => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });
    set();
    addEventListener("resize", set);
  }

  // A table is one stop of the Tab key; arrows go from number to number.
  function roam(table) {
    const links = all("a.from", table);
    links.slice(1).forEach((link) => { link.tabIndex = -1; });
    table.addEventListener("keydown", (event) => {
      const at = links.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (at < 0 || !step) return;
      event.preventDefault();
      const next = links[Math.min(Math.max(at + step, 0), links.length - 1)];
      links[at].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  function csvOf(table) {
    // Thin spaces and minus signs are for eyes; a text with commas, quotes or line breaks stands in quotes (RFC 4180).
    const cell = (text) => {
      const plain = text.trim().replaceAll("\u202f", "").replaceAll("\u2212", "-");
      return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
    };
    return [...table.rows].map((row) => [...row.cells].map((one) => cell(one.textContent)).join(",")).join("\r\n");
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no such interface, or not allowed, as in some browsers for a file
      const area = element("textarea", { value: text, readOnly: true });
      area.style.position = "fixed";
      document.body.append(area);
      const before = document.activeElement;
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      before?.focus();
      if (!done) throw new Error("the browser refused");
    }
  }

  function copyButton(box) {
    const caption = box.querySelector(".caption").textContent;
    const button = element("button", { type: "button", className: "tool", textContent: "Copy as csv" });
    button.setAttribute("aria-label", `Copy as csv: ${caption}`);
    const said = element("span", { className: "said" });
    said.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      said.textContent = await copy(csvOf(box.querySelector("table"))).then(() => "copied", () => "not copied");
      setTimeout(() => { said.textContent = ""; }, 4000);
    });
    box.append(element("p", { className: "tools" }, button, said));
  }

  // A figure as large as the window has room for, and at least as large as it was drawn.
  function enlarger(figures) {
    if (!figures.length || !window.HTMLDialogElement) return;
    const picture = element("img", { alt: "" });
    const words = element("p", {});
    const close = element("button", { type: "button", className: "tool", textContent: "Close" });
    const dialog = element("dialog", { className: "large" }, element("div", { className: "bar" }, words, close),
      element("div", { className: "room", tabIndex: 0 }, picture));
    document.body.append(dialog);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    for (const figure of figures) {
      const image = figure.querySelector("img");
      const caption = figure.querySelector("figcaption").textContent;
      const button = element("button", { type: "button", className: "tool", textContent: "Enlarge" });
      button.setAttribute("aria-label", `Enlarge: ${caption}`);
      const open = () => {
        button.focus({ preventScroll: true }); // where the focus returns to
        Object.assign(picture, { src: image.src, alt: image.alt });
        picture.style.cssText = figure.style.cssText;
        words.textContent = caption;
        dialog.setAttribute("aria-label", caption);
        dialog.showModal();
      };
      button.addEventListener("click", open);
      image.addEventListener("click", open);
      image.classList.add("opens");
      figure.append(element("p", { className: "tools" }, button));
    }
  }

  all("nav").forEach(contents);
  all("main .table").forEach(copyButton);
  all("main table").forEach(roam);
  enlarger(all("main figure"));
  stopWhereNeeded(all("main .scroll"));
  addEventListener("hashchange", openTarget);
  openTarget();
  const folded = () => all("main details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = folded().filter((fold) => !fold.classList.contains("listing"));
    opened.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((fold) => { fold.open = false; }));
})();

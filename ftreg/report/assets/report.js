// The example browser: filters an index, reads the texts of what is shown, and puts nothing else
// into the page. Texts reach it as text only, never as markup.
"use strict";
(() => {
  const PAGE = 20;            // examples on a page
  const CUT = 3000;           // characters of a text that are shown at first
  const LONG = 1000;          // characters that may need scrolling, so that the keyboard has to reach them
  const WORDS = 4000;         // words of a text, after what both share, that are compared one by one
  const EDITS = 1500;         // differences beyond which two texts are simply different

  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const index = read("index");
  const both = index.baseline !== null;
  const chunks = new Map();

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value !== null) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function example(position) {
    const number = Math.floor(position / index.chunk);
    if (!chunks.has(number)) chunks.set(number, read(`chunk-${number}`));
    const { texts, examples } = chunks.get(number);
    const found = examples[position % index.chunk];
    const text = (at) => (at === undefined || at === null ? null : texts[at]);
    const side = (name) => found[name] && {
      output: text(found[name].output), cut: found[name].cut, findings: found[name].findings };
    return { input: text(found.input), context: text(found.context),
      chat: (found.chat || []).map((turn) => ({ role: turn.role, text: text(turn.text) })),
      references: (found.references || []).map(text),
      candidate: side("candidate"), baseline: side("baseline") };
  }

  // --- numbers -----------------------------------------------------------------------------------

  const points = (value) => (value === null ? "–" : (100 * value).toFixed(1));
  function signed(value) {
    const text = (100 * Math.abs(value)).toFixed(1);
    return text === "0.0" ? text : (value < 0 ? "−" : "+") + text;
  }
  function delta(scorer, position) {
    if (!both) return null;
    const before = index.baseline[scorer][position], after = index.candidate[scorer][position];
    return before === null || after === null ? null : after - before;
  }
  const SAME = 1e-9;
  const tone = (value) => (value < -SAME ? "worse" : value > SAME ? "better" : "");

  // --- texts -------------------------------------------------------------------------------------

  // Control characters but tab and newline, marks that turn a text around, halves of characters.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

  function plain(target, text) {
    let last = 0;
    for (const found of text.matchAll(UNSEEN)) {
      const code = "U+" + found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
      target.append(text.slice(last, found.index),
        make("span", { class: "control", title: "a character that cannot be seen" }, code));
      last = found.index + found[0].length;
    }
    target.append(text.slice(last));
  }

  // marks: {start, end, tag, class, number}, in order and apart from each other.
  function block(text, marks, code) {
    const element = make("div", { class: code ? "text code" : "text", dir: "auto", tabindex: text.length > LONG ? "0" : null });
    if (text === "") {
      element.classList.add("empty");
      element.append("(nothing)");
      return [element];
    }
    const fill = (end) => {
      element.replaceChildren();
      let last = 0;
      for (const mark of marks) {
        if (mark.start >= end) break;
        plain(element, text.slice(last, mark.start));
        const inside = make(mark.tag, { class: mark.class || null });
        plain(inside, text.slice(mark.start, Math.min(mark.end, end)));
        if (mark.number) inside.append(make("sup", {}, String(mark.number)));
        element.append(inside);
        last = Math.min(mark.end, end);
      }
      plain(element, text.slice(last, end));
    };
    if (text.length <= CUT * 1.2) {
      fill(text.length);
      return [element];
    }
    fill(CUT);
    element.append("…");
    const more = make("button", { type: "button", class: "more", onclick: () => {
      fill(text.length);
      more.remove();
      element.focus();
    } }, `Show all ${text.length.toLocaleString("en")} characters`);
    return [element, more];
  }

  // --- differences of words ----------------------------------------------------------------------

  const TOKEN = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{N}\p{M}_]+|./gsu;

  function tokens(text) {
    return Array.from(text.matchAll(TOKEN), (found) => ({ text: found[0], start: found.index }));
  }

  // Which tokens of each side the other does not have (Myers 1986, greedy); null beyond EDITS.
  function edits(a, b) {
    const most = Math.min(a.length + b.length, EDITS), size = most + 1;
    let front = new Int32Array(2 * size + 1);
    const trace = [];
    for (let d = 0; d <= most; d++) {
      trace.push(front.slice(size - d - 1, size + d + 2));
      for (let k = -d; k <= d; k += 2) {
        const down = k === -d || (k !== d && front[size + k - 1] < front[size + k + 1]);
        let x = down ? front[size + k + 1] : front[size + k - 1] + 1;
        while (x < a.length && x - k < b.length && a[x].text === b[x - k].text) x++;
        front[size + k] = x;
        if (x >= a.length && x - k >= b.length) return walk(trace, a.length, b.length);
      }
    }
    return null;
  }

  function walk(trace, x, y) {
    const gone = new Set(), come = new Set();
    for (let d = trace.length - 1; d > 0; d--) {
      const front = trace[d], at = (k) => front[k + d + 1], k = x - y;
      const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
      const before = down ? k + 1 : k - 1;
      x = at(before);
      y = x - before;
      if (down) come.add(y); else gone.add(x);
    }
    return [gone, come];
  }

  function differences(before, after) {
    const a = tokens(before), b = tokens(after);
    let head = 0, tail = 0;
    while (head < a.length && head < b.length && a[head].text === b[head].text) head++;
    while (tail < a.length - head && tail < b.length - head
      && a[a.length - 1 - tail].text === b[b.length - 1 - tail].text) tail++;
    const left = a.slice(head, a.length - tail), right = b.slice(head, b.length - tail);
    const found = left.length <= WORDS && right.length <= WORDS ? edits(left, right) : null;
    const ranges = (list, chosen, tag) => {
      const marks = [];
      // The space between two words that differ belongs to the difference.
      const differs = (at) => !chosen || chosen.has(at)
        || (/^\s/.test(list[at].text) && chosen.has(at - 1) && chosen.has(at + 1));
      list.forEach((token, at) => {
        if (!differs(at)) return;
        const last = marks[marks.length - 1], end = token.start + token.text.length;
        if (last && last.end === token.start) last.end = end;
        else marks.push({ start: token.start, end, tag });
      });
      return marks;
    };
    return [ranges(left, found && found[0], "del"), ranges(right, found && found[1], "ins")];
  }

  // --- evidence ----------------------------------------------------------------------------------

  // Scorers fold white space before they cut a text, so it is folded here to find a piece again.
  function folded(text) {
    const places = [];
    let out = "", gap = true;
    for (let i = 0; i < text.length; i++) {
      if (/\s/.test(text[i])) {
        if (!gap) { out += " "; places.push(i); }
        gap = true;
      } else { out += text[i]; places.push(i); gap = false; }
    }
    return { out, places };
  }

  function found(text, pieces) {
    if (text === null || !pieces.length) return [];
    const { out, places } = folded(text);
    const marks = [];
    let from = 0;
    for (const piece of pieces) {
      const wanted = folded(piece.text).out.trim();
      if (!wanted) continue;
      let at = out.indexOf(wanted, from);
      if (at < 0) at = out.indexOf(wanted);
      if (at < 0) continue;
      const mark = { start: places[at], end: places[at + wanted.length - 1] + 1, tag: "mark",
        class: piece.class, number: piece.number };
      if (marks.some((other) => other.start < mark.end && mark.start < other.end)) continue;
      marks.push(mark);
      from = at + wanted.length;
    }
    return marks.sort((one, other) => one.start - other.start);
  }

  const level = (support) => (support === null ? "e2" : "e" + Math.min(3, Math.floor(4 * support)));

  // Where a scorer's points and the passages that speak for them stand.
  function pieces(finding) {
    const sets = { output: [], asked: [] };
    ((finding && finding.evidence) || []).forEach((item, at) => {
      if (!item.kind) return;
      const number = at + 1;
      const own = item.kind === "key_point" ? "asked" : "output";
      sets[own].push({ text: item.point, class: level(item.support), number });
      if (item.best !== null) {
        sets[own === "output" ? "asked" : "output"].push({ text: item.best, class: "e4", number });
      }
    });
    return sets;
  }

  function evidenceList(finding) {
    const list = make("ol", { class: "evidence" });
    for (const item of finding.evidence) {
      const line = make("li", {});
      if (item.kind) {
        const point = make("bdi", {});
        plain(point, item.point);
        line.append(make("span", { class: "support " + level(item.support) },
          item.support === null ? "no support" : points(item.support)), " ", point);
        if (item.best !== null) {
          const best = make("bdi", {});
          plain(best, item.best);
          line.append(make("br", {}), make("small", {}, "nearest: ", best));
        }
        if (item.checks.length) {
          line.append(make("br", {}), make("small", { class: "worse" },
            "fails the check of " + item.checks.join(", ")));
        }
      }
      if (item.more) {
        const more = make("bdi", {});
        plain(more, Object.entries(item.more).map(([key, value]) => key + ": "
          + (typeof value === "string" ? value : JSON.stringify(value))).join("; "));
        line.append(item.kind ? make("br", {}) : "", make("small", {}, more));
      }
      list.append(line);
    }
    return list;
  }

  // --- one example -------------------------------------------------------------------------------

  function detail(position, view) {
    const it = example(position);
    const box = make("div", { class: "detail" });
    const chosen = view === "differences" ? null : view;
    const seen = (side) => pieces(chosen && it[side] && it[side].findings[chosen]);
    const marks = seen("candidate");
    const tags = index.of[position].map((at) => index.cohorts[at]).join(", ");
    const tagLine = make("p", { class: "tags" });
    plain(tagLine, tags);
    if (tags) box.append(tagLine);

    const sides = both ? ["baseline", "candidate"] : ["candidate"];
    const outputs = sides.map((side) => it[side] && it[side].output);
    const compared = sides.length === 2 && outputs[0] !== null && outputs[1] !== null;
    const changed = compared && !chosen ? differences(outputs[0], outputs[1]) : null;

    const asked = make("div", { class: "texts" });
    const add = (place, title, texts, marked, options = {}) => {
      const part = make("div", {}, make("h3", { class: options.side || null }, ...title));
      for (const text of texts) part.append(...block(text, marked(text), options.code));
      place.append(part);
    };
    if (it.chat.length) {
      const part = make("div", { class: "chat" }, make("h3", {}, "Chat"));
      for (const turn of it.chat) {
        part.append(make("div", { class: `turn ${turn.role}` }, make("h4", {}, turn.role),
          ...block(turn.text, found(turn.text, marks.asked))));
      }
      asked.append(part);
    } else if (it.input !== null) {
      add(asked, ["Input"], [it.input], (text) => found(text, marks.asked), { code: index.code });
    }
    if (it.context !== null) add(asked, ["Context"], [it.context], (text) => found(text, marks.asked));
    if (it.references.length) {
      add(asked, [it.references.length > 1 ? `References, ${it.references.length} accepted` : "Reference"],
        it.references, (text) => found(text, marks.asked));
    }
    box.append(asked);

    const written = make("div", { class: "texts" });
    sides.forEach((side, at) => {
      const label = make("bdi", {});
      plain(label, index.labels[side]);
      const title = [side === "candidate" ? "Candidate: " : "Baseline: ", label];
      if (it[side] && it[side].cut) title.push(" (cut off at the longest length)");
      if (outputs[at] === null) {
        written.append(make("div", {}, make("h3", { class: side }, ...title),
          make("p", { class: "text empty" }, "(the output is not at hand)")));
        return;
      }
      add(written, title, [outputs[at]],
        (text) => (changed ? changed[at] : found(text, seen(side).output)), { side });
    });
    box.append(written);
    if (compared && outputs[0] === outputs[1]) box.append(make("p", { class: "tags" }, "The two outputs are the same."));

    box.append(scoreTable(it, position, sides, view, compared));
    if (chosen) {
      for (const side of sides) {
        const finding = it[side] && it[side].findings[chosen];
        if (!finding) continue;
        box.append(make("h3", { class: side },
          `Evidence: ${titleOf(chosen)}, ${side}`));
        if (finding.reason) {
          const reason = make("p", { class: "tags" });
          plain(reason, finding.reason);
          box.append(reason);
        }
        if (finding.evidence.length) box.append(evidenceList(finding));
      }
    }
    return box;
  }

  const titleOf = (name) => index.scorers.find((scorer) => scorer.name === name).title;

  function scoreTable(it, position, sides, view, compared) {
    const heading = (text, number) => make("th", { scope: "col", class: number ? "number" : null }, text);
    const head = make("tr", {}, heading("Scorer"), ...sides.map((side) => heading(side === "candidate" ? "Candidate" : "Baseline", true)));
    if (both) head.append(heading("Delta", true));
    head.append(heading("Shown above"));
    const body = make("tbody", {});
    if (compared) {
      body.append(make("tr", {}, make("th", { scope: "row" }, "Differences of words"),
        ...sides.map(() => make("td", {})), make("td", {}), make("td", {}, toggle("differences", view, position, "differences of words"))));
    }
    index.scorers.forEach((scorer, at) => {
      const title = make("bdi", {});
      plain(title, scorer.title);
      const line = make("tr", {}, make("th", { scope: "row" }, title));
      for (const side of sides) {
        const value = index[side][at][position];
        const cell = make("td", { class: "number" }, points(value));
        const finding = it[side] && it[side].findings[scorer.name];
        if (value === null && finding && finding.reason) {
          const reason = make("small", {});
          plain(reason, finding.reason);
          cell.append(reason);
        }
        line.append(cell);
      }
      if (both) {
        const change = delta(at, position);
        line.append(make("td", { class: "number " + tone(change) }, change === null ? "–" : signed(change)));
      }
      const any = sides.some((side) => it[side] && it[side].findings[scorer.name]);
      line.append(make("td", {}, any ? toggle(scorer.name, view, position, `evidence of ${scorer.title}`) : ""));
      body.append(line);
    });
    return make("div", { class: "wide" }, make("table", {},
      make("caption", { class: "unseen" }, "Scores of this example, in points"), make("thead", {}, head), body));
  }

  function toggle(name, view, position, what) {
    return make("button", { type: "button", "aria-pressed": String(view === name), "data-view": name,
      "aria-label": `Show ${what} in the texts`, onclick: () => show(position, name) },
      name === "differences" ? "differences" : "evidence");
  }

  function show(position, view) {
    const place = document.getElementById(`example-${position}`);
    place.replaceChildren(detail(position, view));
    for (const button of place.querySelectorAll("[data-view]")) {
      if (button.dataset.view === view) button.focus();
    }
  }

  // --- the list ----------------------------------------------------------------------------------

  const state = { scorer: "", cohort: "", change: "", critical: false, text: "", only: -1, order: both ? "worst" : "lowest", page: 0 };
  let shown = [];

  function matches(position, wanted, cohort) {
    if (state.critical && !index.critical[position]) return false;
    if (cohort >= 0 && !index.of[position].includes(cohort)) return false;
    if (state.change) {
      const scorers = chosenScorers();
      const change = scorers.map((scorer) => delta(scorer, position));
      if (state.change === "regressed" && !change.some((value) => value !== null && value < -SAME)) return false;
      if (state.change === "improved" && !change.some((value) => value !== null && value > SAME)) return false;
      if (state.change === "same" && !change.every((value) => value !== null && Math.abs(value) <= SAME)) return false;
      if (state.change === "missing" && !scorers.some((scorer) => index.candidate[scorer][position] === null
        || (both && index.baseline[scorer][position] === null))) return false;
    }
    return !wanted || mentions(position, wanted);
  }

  function mentions(position, wanted) {
    if (index.ids[position].toLowerCase().includes(wanted)) return true;
    const it = example(position);
    return [it.input, ...it.chat.map((turn) => turn.text), it.context, ...it.references, it.candidate && it.candidate.output,
      it.baseline && it.baseline.output].some((text) => text && text.toLowerCase().includes(wanted));
  }

  function chosenScorers() {
    const at = index.scorers.findIndex((scorer) => scorer.name === state.scorer);
    return at >= 0 ? [at] : index.scorers.map((_, number) => number);
  }

  const ORDERS = {
    worst: (position, scorers) => lowest(scorers.map((scorer) => delta(scorer, position))),
    best: (position, scorers) => lowest(scorers.map((scorer) => { const value = delta(scorer, position); return value === null ? null : -value; })),
    lowest: (position, scorers) => lowest(scorers.map((scorer) => index.candidate[scorer][position])),
    highest: (position, scorers) => lowest(scorers.map((scorer) => { const value = index.candidate[scorer][position]; return value === null ? null : -value; })),
    given: () => 0,
  };
  const lowest = (values) => values.reduce((least, value) => (value !== null && value < least ? value : least), Infinity);

  function change(key, value) {
    state[key] = value;
    state.only = -1;
    choose();
  }

  function choose() {
    const wanted = state.text.trim().toLowerCase();
    const cohort = state.cohort ? index.cohorts.indexOf(state.cohort) : -1;
    const scorers = chosenScorers();
    const keys = index.ids.map((_, position) => ORDERS[state.order](position, scorers));
    shown = [...index.ids.keys()].filter((position) => (state.only < 0 ? matches(position, wanted, cohort) : position === state.only))
      .sort((one, other) => keys[one] - keys[other] || one - other);
    state.page = 0;
    draw();
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    const first = state.page * PAGE, page = shown.slice(first, first + PAGE);
    count.textContent = shown.length === index.ids.length
      ? `${shown.length.toLocaleString("en")} examples`
      : `${shown.length.toLocaleString("en")} of ${index.ids.length.toLocaleString("en")} examples`;
    where.textContent = `Page ${(state.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    previous.disabled = state.page === 0;
    next.disabled = state.page >= pages - 1;
    list.replaceChildren(...page.map(item));
  }

  function item(position) {
    const id = make("bdi"), asked = make("bdi", { class: "asked" });
    plain(id, index.ids[position]);
    plain(asked, index.asked[position]);
    const name = make("span", { class: "name" }, id, index.asked[position] ? asked : null);
    const numbers = make("span", { class: "deltas" });
    for (const scorer of chosenScorers()) {
      const change = delta(scorer, position), score = index.candidate[scorer][position];
      numbers.append(make("span", {}, index.scorers[scorer].title + " ",
        both ? make("b", { class: change === null ? null : tone(change) }, change === null ? "–" : signed(change))
          : make("b", {}, points(score))));
    }
    const place = make("div", { id: `example-${position}`, hidden: true });
    const button = make("button", { type: "button", class: "row", "aria-expanded": "false",
      "aria-controls": `example-${position}`, onclick: () => open(position, button, place) },
      name, index.critical[position] ? make("span", { class: "tag" }, "critical") : null, numbers);
    return make("li", {}, button, place);
  }

  function open(position, button, place) {
    const opening = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opening));
    place.hidden = !opening;
    place.replaceChildren();
    if (opening) {
      const it = example(position);
      const compared = it.baseline && it.baseline.output !== null && it.candidate.output !== null;
      place.append(detail(position, compared ? "differences" : state.scorer || "differences"));
    }
  }

  function turn(step) {
    state.page += step;
    draw();
    list.firstElementChild.firstElementChild.focus();
  }

  // --- the controls ------------------------------------------------------------------------------

  function select(label, key, options) {
    const element = make("select", { id: `by-${key}`, onchange: () => change(key, element.value) });
    for (const [value, text, group] of options) {
      const option = make("option", { value });
      option.textContent = text;
      if (!group) { element.append(option); continue; }
      let inside = [...element.children].find((child) => child.label === group);
      if (!inside) { inside = make("optgroup", { label: group }); element.append(inside); }
      inside.append(option);
    }
    element.value = state[key];
    return make("label", {}, label, element);
  }

  const changes = [["", "any"], ["regressed", "regressed"], ["improved", "improved"], ["same", "unchanged"], ["missing", "score missing"]];
  const orders = [["worst", "largest drop first"], ["best", "largest gain first"], ["lowest", "lowest score first"], ["highest", "highest score first"], ["given", "order of the dataset"]];
  const search = make("input", { type: "search", id: "by-text", placeholder: "in ids, inputs and outputs", autocomplete: "off", spellcheck: "false" });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change("text", search.value), 200);
  });
  const critical = make("input", { type: "checkbox", id: "by-critical", onchange: () => change("critical", critical.checked) });
  const count = make("p", { role: "status", "aria-live": "polite", id: "count" });
  const where = make("span", {});
  const previous = make("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const next = make("button", { type: "button", onclick: () => turn(1) }, "Next");
  const list = make("ol", { class: "list", "aria-label": "Examples" });
  const filters = make("form", { class: "filters", role: "search", "aria-label": "Filter the examples", onsubmit: (event) => event.preventDefault() },
    select("Scorer", "scorer", [["", "all scorers"], ...index.scorers.map(({ name, title }) => [name, title])]),
    select("Cohort", "cohort", [["", "all examples"], ...index.cohorts.map((name) => [name, name, name.slice(0, name.indexOf("="))])]),
    select("Change", "change", both ? changes : [changes[0], changes[4]]),
    select("Order", "order", both ? orders : orders.slice(2)),
    make("label", { class: "search" }, "Search", search),
    index.critical.includes(true) ? make("label", { class: "check" }, critical, "critical only") : null);
  const browser = document.getElementById("browser");
  browser.append(filters, make("div", { class: "bar-line" }, count,
    make("div", { class: "pager" }, previous, where, next)), list);
  browser.hidden = false;

  // A cell of the heat map, and a critical example of the verdict, lead to their examples.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-scorer]");
    if (!link) return;
    const { scorer, cohort, example: position } = link.dataset;
    Object.assign(state, { scorer, cohort: index.cohorts[cohort] || "", change: "", critical: false,
      text: position ? index.ids[position] : "", only: position ? Number(position) : -1 });
    for (const key of ["scorer", "cohort", "change"]) document.getElementById(`by-${key}`).value = state[key];
    search.value = state.text;
    critical.checked = false;
    choose();
    if (state.only >= 0) list.querySelector("button").click();
    document.getElementById("examples").focus({ preventScroll: true });
  });
  for (const command of navigator.clipboard ? document.querySelectorAll("#why pre") : []) {
    const copy = make("button", { type: "button", onclick: async () => {
      await navigator.clipboard.writeText(command.textContent);
      copy.textContent = "Copied";
    } }, "Copy");
    command.after(copy);
  }
  addEventListener("beforeprint", () => {
    for (const closed of document.querySelectorAll("details:not([open])")) closed.open = true;
  });

  choose();
})();

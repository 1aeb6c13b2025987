
"use strict";
// Draws outputs and neurons by condition from the data of the page. Text from a file only ever becomes a text node.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);

  function create(parent, name, attributes = {}, text = null) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    parent.append(element);
    return element;
  }

  const show = (value) => (value === null ? "–" : value.toFixed(2).replace("-", "−"));

  // Round numbers at a distance of 1, 2 or 5 times a power of ten, about `count` of them.
  function findTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const steps = [10, 5, 2, 1, 0.5, 0.2].map((k) => k * power);
    const countOf = (step) => Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1;
    const step = steps.find((s) => (s <= 2 * rough && countOf(s) >= 2)) ?? steps[steps.length - 1];
    const first = Math.ceil(low / step - 1e-9);
    const ticks = Array.from({ length: countOf(step) }, (_, k) => (first + k) * step);
    return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function findRange(lists) {
    let low = Infinity;
    let high = -Infinity;
    for (const list of lists) {
      for (const value of list) {
        if (value === null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (!(low <= high)) return [0, 1];
    const margin = 0.05 * (high - low) || 0.5;
    return [low - margin, high + margin];
  }

  // An empty drawing with axes; returns it and how numbers become pixels.
  function createAxes(parent, { width, height, xRange, yRange, title, label, xTicks = true }) {
    const svg = create(parent, "svg", {
      viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label,
    });
    const yMarks = findTicks(...yRange, height > 200 ? 5 : 3);
    const names = yMarks.ticks.map((tick) => tick.toFixed(yMarks.digits).replace("-", "−"));
    const left = 10 + 6.5 * Math.max(...names.map((name) => name.length), 1);
    const [top, right, bottom] = [title ? 20 : 8, 6, 22];
    const x = (value) => left + ((value - xRange[0]) / (xRange[1] - xRange[0])) * (width - left - right);
    const y = (value) => height - bottom - ((value - yRange[0]) / (yRange[1] - yRange[0])) * (height - top - bottom);
    create(svg, "path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` });
    yMarks.ticks.forEach((tick, i) => {
      create(svg, "path", { class: "axis", d: `M${left - 3} ${y(tick)}h3` });
      create(svg, "text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, names[i]);
    });
    if (xTicks) {
      const marks = findTicks(...xRange, width > 300 ? 7 : 3);
      for (const tick of marks.ticks) {
        create(svg, "path", { class: "axis", d: `M${x(tick)} ${height - bottom}v3` });
        create(svg, "text", { x: x(tick), y: height - bottom + 15, "text-anchor": "middle" },
          tick.toFixed(marks.digits).replace("-", "−"));
      }
    }
    if (title) create(svg, "text", { class: "title", x: left, y: 12 }, title);
    return { svg, x, y, top, bottom: height - bottom };
  }

  // A line through what is known, interrupted where nothing is.
  function trace(times, values, x, y) {
    let path = "";
    let pen = "M";
    values.forEach((value, i) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${x(times[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    return path;
  }

  function traceBand(values, errors, x, y) {
    const known = values.map((v, i) => i).filter((i) => values[i] !== null && errors[i] !== null);
    if (known.length < 2) return "";
    const point = (i, sign) => `${x(data.time[i]).toFixed(1)} ${y(values[i] + sign * errors[i]).toFixed(1)}`;
    const upper = known.map((i) => point(i, 1));
    const lower = known.map((i) => point(i, -1)).reverse();
    return `M${upper.concat(lower).join("L")}Z`;
  }

  function drawPanel(parent, channel, condition, yRange, large) {
    const width = Math.max(120, parent.clientWidth > 0 && large ? Math.min(parent.clientWidth, 640) : panelWidth(parent));
    const label = `${channel.name}, condition ${data.conditions[condition]}: recorded and network`;
    const axes = createAxes(parent, {
      width, height: large ? 0.55 * width : 0.72 * width, yRange, label,
      xRange: [data.time[0], data.time[data.time.length - 1]], title: data.conditions[condition],
    });
    const { svg, x, y } = axes;
    if (data.time[0] < 0 && data.time[data.time.length - 1] > 0) {
      create(svg, "path", { class: "event", d: `M${x(0)} ${axes.top}V${axes.bottom}` });
    }
    const recorded = channel.recorded[condition];
    create(svg, "path", { class: "band", d: traceBand(recorded, channel.error[condition], x, y) });
    create(svg, "path", { class: "recorded", d: trace(data.time, recorded, x, y) });
    create(svg, "path", { class: "network", d: trace(data.time, channel.network[condition], x, y) });
  }

  function drawTrial(parent, channel, trial) {
    const width = panelWidth(parent);
    const { svg, x, y, top, bottom } = createAxes(parent, {
      width, height: 0.72 * width, yRange: findRange([...channel.recorded.filter(Boolean), channel.network[trial], channel.blind[trial]]),
      xRange: [data.time[0], data.time[data.time.length - 1]], title: `${channel.name} [${channel.unit}]`,
      label: `${channel.name}, trial ${data.trials[trial].name}: recorded, and network with and without neurons`,
    });
    if (data.time[0] < 0 && data.time[data.time.length - 1] > 0) {
      create(svg, "path", { class: "event", d: `M${x(0)} ${top}V${bottom}` });
    }
    for (const name of ["recorded", "blind", "network"]) {
      create(svg, "path", { class: name, d: trace(data.time, channel[name][trial], x, y) });
    }
  }

  function startTrials(root) {
    const select = root.querySelector("select.trial");
    select.append(...data.trials.map((trial, i) => new Option(trial.name, i)));

    function draw() {
      const chosen = Number(select.value);
      const trial = data.trials[chosen];
      root.querySelector(".caption").textContent = `Trial ${trial.name} · skill of the outputs ${show(trial.network)}, ` +
        `without neurons ${show(trial.blind)} · ${data.timeLabel}`;
      for (const panels of root.querySelectorAll(".panels")) {
        panels.replaceChildren();
        for (const channel of data[panels.dataset.kind]) {
          if (channel.recorded[chosen]) drawTrial(panels, channel, chosen);
        }
      }
    }

    function step(by) {
      select.value = (Number(select.value) + by + data.trials.length) % data.trials.length;
      draw();
    }

    select.addEventListener("change", draw);
    root.querySelector(".previous").addEventListener("click", () => step(-1));
    root.querySelector(".next").addEventListener("click", () => step(1));
    return { draw, select };
  }

  // What the grid of the style sheet gives each panel [pixels].
  function panelWidth(parent) {
    const columns = getComputedStyle(parent).gridTemplateColumns.split(" ");
    return parseFloat(columns[0]) || 200;
  }

  function startBrowser(root) {
    const kind = root.dataset.kind;
    const channels = data[kind];
    const [select, conditions] = ["channel", "condition"].map((name) => root.querySelector(`select.${name}`));
    const [caption, panels] = ["caption", "panels"].map((name) => root.querySelector(`.${name}`));
    const groups = [...new Set(channels.map((channel) => channel.group))];
    const order = [];
    for (const group of groups) {
      const parent = group === "" ? select : select.appendChild(document.createElement("optgroup"));
      if (group !== "") parent.label = group;
      channels.forEach((channel, i) => {
        if (channel.group !== group) return;
        parent.append(new Option(`${channel.name} · R² ${show(channel.r2)}`, i));
        order.push(i);
      });
    }
    conditions.append(new Option("all", -1), ...data.conditions.map((name, i) => new Option(name, i)));

    function draw() {
      const channel = channels[Number(select.value)];
      const chosen = Number(conditions.value);
      const kinds = channel.group === "" ? "" : ` (${channel.group})`;
      caption.textContent = `${channel.name}${kinds} [${channel.unit}] · R² ${show(channel.r2)}, ` +
        `known average ${show(channel.knownAverage)} · ${data.timeLabel}`;
      const yRange = findRange([...channel.recorded, ...channel.network]);
      panels.replaceChildren();
      panels.classList.toggle("one", chosen >= 0);
      const rows = chosen >= 0 ? [chosen] : data.conditions.map((_, i) => i);
      for (const row of rows) drawPanel(panels, channel, row, yRange, chosen >= 0);
    }

    function choose(index) {
      select.value = index;
      select.dispatchEvent(new Event("change"));
    }

    function step(by) {
      const at = order.indexOf(Number(select.value));
      choose(order[(at + by + order.length) % order.length]);
    }

    select.addEventListener("change", draw);
    conditions.addEventListener("change", draw);
    root.querySelector(".previous").addEventListener("click", () => step(-1));
    root.querySelector(".next").addEventListener("click", () => step(1));
    select.value = findFirst(channels, kind);
    return { draw, choose, select };
  }

  // Outputs: the best. Neurons: the median of those not sampled, which is what the verdict tells of.
  function findFirst(channels, kind) {
    let known = channels.map((_, i) => i).filter((i) => channels[i].r2 !== null);
    if (kind === "rates" && known.some((i) => channels[i].group === "not sampled")) {
      known = known.filter((i) => channels[i].group === "not sampled");
    }
    known.sort((i, j) => channels[j].r2 - channels[i].r2);
    return known[kind === "rates" ? Math.floor(known.length / 2) : 0] ?? 0;
  }

  function drawOverview(root, browser) {
    const known = data.rates.map((_, i) => i).filter((i) => data.rates[i].r2 !== null);
    known.sort((i, j) => data.rates[j].r2 - data.rates[i].r2);
    const values = known.map((i) => data.rates[i].r2);
    const low = Math.max(Math.min(0, ...values), -1); // what is worse is drawn at the edge
    root.replaceChildren();
    const width = Math.max(240, root.clientWidth);
    const { svg, x, y, bottom } = createAxes(root, {
      width, height: 170, xRange: [-1, Math.max(known.length, 1)], yRange: [low - 0.05, 1.05], xTicks: false,
      label: "R² of every neuron, the best first", title: "R²",
    });
    create(svg, "text", { x: width - 6, y: bottom + 15, "text-anchor": "end" }, "neurons, the best first");
    known.forEach((i, rank) => {
      const neuron = data.rates[i];
      const circle = create(svg, "circle", {
        cx: x(rank), cy: y(Math.max(neuron.r2, low)), r: 4,
        class: (neuron.group === "sampled" ? "sampled" : "unsampled") + (i === Number(browser.select.value) ? " chosen" : ""),
      });
      create(circle, "title", {}, `${neuron.name}, ${neuron.group}: R² ${show(neuron.r2)}`);
      circle.addEventListener("click", () => browser.choose(i));
    });
  }

  function start() {
    const browsers = new Map();
    for (const root of document.querySelectorAll(".browser[data-kind]")) browsers.set(root.dataset.kind, startBrowser(root));
    for (const root of document.querySelectorAll(".trials")) browsers.set("trials", startTrials(root));
    const overview = document.querySelector(".overview");
    const neurons = browsers.get("rates");
    const mark = () => { if (overview && neurons) drawOverview(overview, neurons); };
    if (neurons) neurons.select.addEventListener("change", mark);
    const drawAll = () => { for (const browser of browsers.values()) browser.draw(); mark(); };
    let width = 0;
    new ResizeObserver(() => {
      if (document.body.clientWidth === width) return;
      width = document.body.clientWidth;
      requestAnimationFrame(drawAll);
    }).observe(document.body);
    drawAll();
  }

  // A printed page shows everything.
  const closed = [];
  addEventListener("beforeprint", () => {
    for (const element of document.querySelectorAll("details:not([open])")) {
      closed.push(element);
      element.open = true;
    }
  });
  addEventListener("afterprint", () => { for (const element of closed.splice(0)) element.open = false; });

  if (data.time) start();
})();

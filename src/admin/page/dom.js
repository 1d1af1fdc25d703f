// What every part of the page needs of the document: making elements, changing only what differs, and lists whose rows stay
// themselves. Everything that comes from the gate passes through `text` or an attribute's value and is never markup.

/** An element with properties, attributes and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) attribute(element, name, value);
  element.append(...children.filter((child) => child != null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) attribute(element, name, value);
  element.append(...children);
  return element;
}

/** Sets an attribute if it differs; `null` and `false` take it away. */
export function attribute(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else {
    const wanted = value === true ? "" : String(value);
    if (element.getAttribute(name) !== wanted) element.setAttribute(name, wanted);
  }
}

/** Sets the text if it differs, so that a selection or a reader is not disturbed. */
export function text(element, value) {
  const wanted = String(value ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function shown(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

export const byId = (id) => document.getElementById(id);

const canHover = matchMedia("(hover: hover)");

/** Whether somebody points at it or walks through it by keyboard, so that nothing in it may move. */
export function isHeld(element) {
  return (canHover.matches && element.matches(":hover")) || element.querySelector(":focus-visible") !== null;
}

/**
 * Rows by key. Rows that stay are changed in place; while somebody points at the list, none moves, goes or comes, and those that ended are
 * marked. `create(item)` returns `{ element, update(item), isBusy? }`.
 */
export class Rows {
  #parent;
  #create;
  #known = new Map();

  constructor(parent, create) {
    this.#parent = parent;
    this.#create = create;
  }

  /** Shows the items, each under its key; true if it was held still. */
  show(items, keyOf, isStill = false) {
    const wanted = new Map(items.map((item) => [keyOf(item), item]));
    if (isStill) {
      for (const [key, row] of this.#known) this.#refresh(row, wanted.get(key));
      return [...wanted.keys()].some((key) => !this.#known.has(key)) || wanted.size !== this.#known.size;
    }
    for (const [key, row] of this.#known) {
      if (wanted.has(key) || row.isBusy?.()) continue;
      row.element.remove();
      this.#known.delete(key);
    }
    for (const [key, row] of this.#known) if (!wanted.has(key)) this.#refresh(row, undefined);
    const focused = document.activeElement;
    let place = this.#parent.firstElementChild;
    for (const [key, item] of wanted) {
      let row = this.#known.get(key);
      if (!row) this.#known.set(key, (row = this.#create(item)));
      this.#refresh(row, item);
      // Rows that linger although their item ended stay where they are.
      while (place && place !== row.element && this.#lingers(place, wanted)) place = place.nextElementSibling;
      if (place === row.element) place = place.nextElementSibling;
      else this.#parent.insertBefore(row.element, place);
    }
    // Moving an element takes the focus from it.
    if (focused?.isConnected && focused !== document.activeElement && this.#parent.contains(focused)) focused.focus({ preventScroll: true });
    return false;
  }

  #lingers(element, wanted) {
    for (const [key, row] of this.#known) if (row.element === element) return !wanted.has(key);
    return false;
  }

  #refresh(row, item) {
    row.element.toggleAttribute("data-gone", item === undefined);
    if (item !== undefined) row.update(item);
  }
}

/** A list of names and values: `[["in flight", "12", tone?], …]`; the places stay as long as the names do. */
export function pairs(list, entries) {
  const names = entries.map(([name]) => name).join("\n");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...entries.map(([name]) => make("div", {}, make("dt", {}, name), make("dd"))));
  }
  entries.forEach(([, value, tone, title], index) => {
    const place = list.children[index].lastElementChild;
    if (value instanceof Node) {
      if (place.firstChild !== value) place.replaceChildren(value);
    } else text(place, value);
    attribute(place, "data-tone", tone);
    attribute(place, "title", title);
  });
}

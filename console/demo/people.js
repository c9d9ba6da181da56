// Who is here, in a list: the visitor first, then by name.

import {isolated, make, setText} from "./log.js"
import {hueOf, initialsOf, isBlank} from "./names.js"

export function showPeople(list, ownName) {
  const sorted = [...list].sort((a, b) => (b.name === ownName) - (a.name === ownName) || a.name.localeCompare(b.name))
  setText(document.getElementById("people-count"), String(list.length))
  const people = document.getElementById("people")
  people.replaceChildren(...sorted.map(({name, count, nodes}) => {
    const item = make("li")
    item.append(avatar(name), isolated(named(name)))
    if (name === ownName) item.append(make("span", "tag", "you"))
    for (const node of nodes) item.append(make("span", "tag", node))
    if (count > 1) {
      const times = make("span", "tag", `×${count}`)
      times.title = `${count} connections`
      item.append(times)
    }
    return item
  }))
  if (list.length === 0) people.append(make("li", "none", "Nobody that this page can see."))
}

export function named(name) {
  return isBlank(name) ? "somebody without a name" : name
}

/** A mark that stands for a name. */
export function avatar(name) {
  const mark = make("span", "avatar", initialsOf(name))
  mark.style.setProperty("--hue", hueOf(name))
  mark.setAttribute("aria-hidden", "true")
  return mark
}

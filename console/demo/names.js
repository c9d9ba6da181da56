// The visitor's name: remembered in this browser, and something friendlier than a number until one is chosen.

const KEY = "fanfare:name"
const COLOURS = ["Amber", "Azure", "Copper", "Coral", "Crimson", "Golden", "Indigo", "Ivory", "Jade", "Scarlet", "Silver", "Violet"]
const INSTRUMENTS = ["Bassoon", "Bugle", "Cello", "Clarinet", "Cornet", "Flute", "Horn", "Oboe", "Piccolo", "Trombone", "Trumpet", "Viola"]

export function firstName() {
  return remembered() || `${pick(COLOURS)} ${pick(INSTRUMENTS)}`
}

export function rememberName(name) {
  try {
    localStorage.setItem(KEY, name)
  } catch {
    // Storage can be switched off; the name then lasts as long as the page.
  }
}

/** A hue for the name's avatar, the same for everybody who sees it. */
export function hueOf(name) {
  let hash = 7
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 360
  return hash
}

/** One or two letters that stand for the name. */
export function initialsOf(name) {
  const words = name.trim().split(/\s+/).filter(Boolean)
  return words.slice(0, 2).map(word => [...word][0].toUpperCase()).join("") || "?"
}

function remembered() {
  try {
    return localStorage.getItem(KEY)
  } catch {
    return null
  }
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)]
}
